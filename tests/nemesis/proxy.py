"""A TCP proxy between two processes of ours that cuts, delays, freezes and refuses.

It runs in a thread with an event loop of its own; its words may be called from anywhere.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress

CHUNK = 65_536


class Proxy:
    """Listens on a port of 127.0.0.1 and passes on to another; made by `between`."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.accepted = 0
        """Connections that were passed on so far."""
        self._target_port = target_port
        self._delay_s = 0.0
        self._refusing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._flowing = asyncio.Event()
        self._ends: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def cut(self) -> None:
        """End every connection at once; new ones are let in."""
        self._do(self._abort())

    def refuse(self) -> None:
        """Let nobody in until `heal`: the port is closed, what is connected is cut."""
        self._do(self._close())

    def freeze(self) -> None:
        """Pass nothing on until `heal`; connections stay, and new ones are accepted and left waiting."""
        self._do(self._hold())

    def delay(self, seconds: float) -> None:
        """Hold back every piece that passes, in both directions, for so long; 0 is none."""
        self._delay_s = seconds

    def heal(self) -> None:
        """Pass everything on again, at once and without delay."""
        self._delay_s = 0.0
        self._do(self._listen())

    # -- inside, on the loop

    def start(self) -> None:
        """Begin to listen; for `between`."""
        self._thread.start()
        self.heal()

    def stop(self) -> None:
        """Cut everything and end the thread; for `between`."""
        self.refuse()
        self._do(self._give_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _hold(self) -> None:
        self._flowing.clear()

    async def _listen(self) -> None:
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._abort()

    async def _give_up(self) -> None:
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _abort(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # asyncio runs each connection in a task
        self._passing.add(task)
        self._ends.add(writer)
        try:
            await self._flowing.wait()
            there, beyond = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._ends.add(beyond)
            self.accepted += 1
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, beyond))
                    group.create_task(self._pump(there, writer))
            finally:
                beyond.transport.abort()
                self._ends.discard(beyond)
        except (OSError, asyncio.CancelledError):
            pass  # the other side is away, or we are to end: this side learns it by the end of its connection
        finally:
            writer.transport.abort()
            self._ends.discard(writer)
            self._passing.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def between(target_port: int) -> Iterator[Proxy]:
    """Run a proxy in front of a port until the block ends."""
    proxy = Proxy(target_port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
