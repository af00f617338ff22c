"""A table that is sent to us: kept outside memory while it comes, and read line by line."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from io import TextIOWrapper
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any

from fastapi import Depends, Request

IN_MEMORY = 2**20
"""Bytes of a table that are kept in memory; what is larger lies in a nameless file."""

IN_THE_DOCUMENT: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}
}
"""What a route of the OpenAPI document says of such a body."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A table that has come whole."""

    lines: Iterable[str]
    """What is not UTF-8 comes as U+FFFD: it spoils its own line."""

    digest: bytes
    """SHA-256 of its bytes."""


async def received(request: Request) -> AsyncIterator[Upload]:
    """Take the body in."""
    digest = hashlib.sha256()
    with SpooledTemporaryFile(max_size=IN_MEMORY) as kept:
        async for part in request.stream():
            digest.update(part)
            kept.write(part)
        kept.seek(0)
        text = TextIOWrapper(kept, encoding="utf-8", errors="replace")
        yield Upload(text, digest.digest())


Uploaded = Annotated[Upload, Depends(received)]
