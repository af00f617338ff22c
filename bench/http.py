"""POST over connections that stay open: as little work as can be, for it is done beside what is measured.

A client of the shelf looks through all its connections for each request; at a hundred requests per
second that was more work than the server's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bench.stack import DidNotHappen

MOST = 64
"""Requests under way at most; further ones wait for their turn, which counts as part of their time."""

IDLE_S = 2.0
"""A connection is used again within so many seconds; the server hangs up after 5."""


class Answer(NamedTuple):
    """What the server said."""

    status: int
    body: Any


class Client:
    """Some connections to one server; made by `connect`."""

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        place = urlsplit(address)
        self._host, self._port = place.hostname or "", place.port or 0
        fixed = {"Host": place.netloc, "Content-Type": "application/json", **headers}
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._turns = asyncio.Semaphore(MOST)

    async def post(self, path: str, body: object, headers: Mapping[str, str]) -> Answer:
        """Post JSON and read the answer."""
        said = json.dumps(body)
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"POST {path} HTTP/1.1\r\n{self._fixed}{own}Content-Length: {len(said)}\r\n\r\n{said}"
        async with self._turns:
            reader, writer = await self._connection()
            writer.write(request.encode())
            answer = await _read(reader)
            self._idle.append((time.monotonic(), reader, writer))
        return answer

    def close(self) -> None:
        """Hang up."""
        for _, _, writer in self._idle:
            writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Give the connection that was used last, unless the server may be about to give it up."""
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < IDLE_S and not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" not in fields:
        raise DidNotHappen("The server does not tell how long its answer is.", said=first)
    body = await reader.readexactly(int(fields["content-length"]))
    return Answer(int(first.split()[1]), json.loads(body))


@asynccontextmanager
async def connect(address: str, token: str) -> AsyncIterator[Client]:
    """Talk to the API at an address until the block ends."""
    client = Client(address, {"Authorization": f"Bearer {token}"})
    try:
        yield client
    finally:
        client.close()
