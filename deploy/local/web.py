"""Asking the HTTP servers of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 300  # noqa: PLR2004 - HTTP's own border

    def json(self) -> Any:
        """Read the body as JSON."""
        return json.loads(self.body)


def ask(
    port: int, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: object = None
) -> Answer | None:
    """Ask a server on 127.0.0.1; None when it does not answer."""
    content = None if body is None else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if content else {}
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body=content, headers={**kind, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
