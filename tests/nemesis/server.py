"""A PostgreSQL of our own that comes to harm, and is started again on its port with its data."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its author ships no types

from deploy.local import postgres
from deploy.local.account import Account
from deploy.local.folder import Folder
from deploy.local.postgres import Role


class Server:
    """One server through all its starts; made by `serve`."""

    def __init__(self, folder: Folder, account: Account, programs: Path | None) -> None:
        self._folder = folder
        self._account = account
        self._programs = programs
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._server = self._running.enter_context(
            postgres.serve(self._folder, self._account, self._programs)
        )

    def stop(self) -> None:
        """Stop it as an operator does."""
        self._running.close()

    def kill(self, *, alone: bool = False) -> None:
        """Kill all its processes; or the postmaster `alone`, and the others see that and leave."""
        others = [] if alone else self._frozen()
        self._server.child.tell(signal.SIGKILL)
        _tell(others, signal.SIGKILL)
        self._running.close()

    def freeze(self) -> None:
        """Stop all its processes as they are; the kernel still takes what is sent to them."""
        self._frozen()

    def thaw(self) -> None:
        """Let them go on."""
        _tell(self._children(), signal.SIGCONT)
        self._server.child.tell(signal.SIGCONT)

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._server.child.ended is not None

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self._folder.path / "postgres" / "data"

    def url(self, role: Role = Role.APP) -> str:
        """Say where a role connects; the same after every start."""
        return self._server.url(role)

    def _frozen(self) -> list[int]:
        """Stop the postmaster first: then nobody is born while the others are counted and stopped."""
        self._server.child.tell(signal.SIGSTOP)
        others = self._children()
        _tell(others, signal.SIGSTOP)
        return others

    def _children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self._server.pid).children(recursive=True)]


@contextmanager
def serve(folder: Folder, account: Account, programs: Path | None) -> Iterator[Server]:
    """Run one until the block ends, in whatever state it is by then."""
    server = Server(folder, account, programs)
    try:
        yield server
    finally:
        if not server.ended:
            server.thaw()
        server.stop()


def _tell(pids: list[int], what: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)
