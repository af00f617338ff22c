"""The broker's password file follows the registry: a notice, a moment to gather others, one reload."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from runtime.errors import HeliographError, Unavailable

GATHER_S = 0.5
EVERY_S = 3.0
"""A reload makes the broker pause; enrolments of so many seconds share one."""

POLL_S = 0.2
AGAIN_S = 1.0
CHANNEL = "unit_login"


class NobodyFollows(Unavailable):
    """The broker's logins are no longer kept up to date."""


class Follower(threading.Thread):
    """Calls `refresh` at once and after every notice; begins anew after a lost connection or a failure."""

    def __init__(self, url: str, refresh: Callable[[], None], say: Callable[[str], None]) -> None:
        super().__init__(name="logins", daemon=True)
        self.refreshed = threading.Event()
        self._url = url
        self._refresh = refresh
        self._say = say
        self._stop_asked = threading.Event()

    def heed(self) -> None:
        """Raise `NobodyFollows` when the thread has failed."""
        if not self.is_alive():
            raise NobodyFollows("The thread that follows the registry has ended.")

    def end(self) -> None:
        """Stop following."""
        self._stop_asked.set()
        self.join()

    def run(self) -> None:
        """Follow until asked to stop; a trouble is told once, not with every attempt."""
        failing = False
        while not self._stop_asked.is_set():
            try:
                for _ in self._refreshes():
                    failing = False
                    self.refreshed.set()
            except (psycopg.Error, HeliographError) as error:
                if not failing:
                    self._say(f"the broker's logins are not up to date, trying again: {error}")
                failing = True
                self._stop_asked.wait(AGAIN_S)

    def _refreshes(self) -> Iterator[None]:
        """Listen first, then refresh: a notice between the two is not missed."""
        stop = self._stop_asked
        with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as conn:
            conn.execute(f"LISTEN {CHANNEL}")
            while not stop.is_set():
                began = time.monotonic()
                self._refresh()
                yield
                while not (stop.is_set() or any(conn.notifies(timeout=POLL_S, stop_after=1))):
                    pass
                stop.wait(max(GATHER_S, began + EVERY_S - time.monotonic()))
                for _ in conn.notifies(timeout=0):
                    pass  # the refresh to come answers them all


@contextmanager
def follow(url: str, refresh: Callable[[], None], say: Callable[[str], None]) -> Iterator[Follower]:
    """Follow the registry until the block ends."""
    follower = Follower(url, refresh, say)
    follower.start()
    try:
        yield follower
    finally:
        follower.end()
