"""What the launcher tells the person before it, and the one word it takes from him: stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from deploy.local.processes import until


class Stopped(Exception):
    """Somebody asked for the end."""


class Progress:
    """Speaks on the console; a signal never interrupts a step, it ends the waiting between them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._stop = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether somebody asked for the end."""
        return self._stop.is_set()

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as the word stop, from here to the end of the block."""

        def ask(_signum: int, _frame: FrameType | None) -> None:
            self._stop.set()

        before = {signum: signal.signal(signum, ask) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def say(self, line: str) -> None:
        """Say one thing as it is, however wide the terminal."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Do one step, and tell when it is done; `Stopped` when nobody wants it any more."""
        self.heed()
        began = time.monotonic()
        with self.console.status(title):
            yield
        self.heed()
        self.say(f"  ✓ {title} ({time.monotonic() - began:.1f} s)")

    def heed(self) -> None:
        """Raise `Stopped` if the end was asked for."""
        if self.stopped:
            raise Stopped

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition; false when it did not come true in time, `Stopped` when asked to stop."""
        met = until(lambda: self.stopped or condition(), seconds)
        self.heed()
        return met

    def pause(self, seconds: float) -> bool:
        """Wait so long, or until the end is asked for; true when it was."""
        return self._stop.wait(seconds)
