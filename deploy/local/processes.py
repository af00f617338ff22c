"""Processes by pid and start time: a pid alone may be somebody else's by now."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its author ships no types
from pydantic import PositiveInt

from deploy.local.account import Account
from runtime.errors import Unavailable

SAME_START_S = 1.0
"""The clock by which a start is told may be set while the process runs; so much counts as equal."""

POLL_S = 0.02

Step = tuple[signal.Signals, float]
POLITELY: tuple[Step, ...] = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 10.0))
"""What to send, and how many seconds to wait before the next."""


class DoesNotEnd(Unavailable):
    """A process does not end, not even when killed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of this machine, now and never again."""

    pid: PositiveInt
    started: float

    @property
    def alive(self) -> bool:
        """Whether it still runs; one that ended and was not fetched by its parent does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= SAME_START_S
            return same and process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
        except psutil.NoSuchProcess:
            return False


def identity(pid: int) -> Identity | None:
    """Tell which process has this pid now."""
    try:
        return Identity(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def ourselves() -> Identity:
    """Tell which process this one is."""
    return Identity(os.getpid(), psutil.Process().create_time())


def command_line(pid: int) -> list[str]:
    """Give the words a process was started with; none when it is gone."""
    try:
        words: list[str] = psutil.Process(pid).cmdline()
    except psutil.Error:
        return []
    return words


def started_with(words: Sequence[str]) -> list[Identity]:
    """Find the processes that were started with these words behind their program's name."""
    return [
        found
        for pid in psutil.pids()
        if command_line(pid)[1:] == [*words] and (found := identity(pid)) is not None
    ]


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    stdin: str | None = None,
    folder: Path | None = None,
    account: Account | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, out of the terminal's reach, and give what it said."""
    return subprocess.run(
        argv,
        env=env,
        cwd=folder,
        input=stdin,
        check=False,
        capture_output=True,
        text=True,
        start_new_session=True,
        **(account.dropping if account else {}),
    )


class Child:
    """A process of ours in a session of its own, so that the terminal's Ctrl-C is ours to pass on."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
        account: Account | None = None,
    ) -> None:
        dropping = account.dropping if account else {}
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                argv,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
                **dropping,
            )
        log.chmod(0o600)
        self.log = log
        # Nobody has fetched the child yet, so its pid is still its own, even if it ended already.
        self.identity = Identity(self._popen.pid, psutil.Process(self._popen.pid).create_time())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def ended(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._popen.poll()

    def tell(self, what: signal.Signals) -> None:
        """Send a signal; one that has ended is left alone."""
        self._popen.send_signal(what)

    def end(self, steps: Sequence[Step] = POLITELY) -> int:
        """End it and give its exit code."""
        end(self.identity, steps)
        return self._popen.wait()

    def last_words(self, lines: int = 5) -> str:
        """Give the end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def end(who: Identity, steps: Sequence[Step] = POLITELY) -> None:
    """End a process, ours or a left-over, more firmly with every step; raises `DoesNotEnd`."""
    for what, seconds in steps:
        if not who.alive:
            return
        with suppress(ProcessLookupError):
            os.kill(who.pid, what)
        if until(lambda: not who.alive, seconds):
            return
    raise DoesNotEnd(f"Process {who.pid} does not end.", pid=who.pid)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; false when it did not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
