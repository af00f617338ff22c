"""When a gateway is ended because nothing moves, and when it is left alone (R9)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import Any

import pytest

from gateway import watchdog
from gateway.watchdog import HUNG, Pulse, Watchdog

LIMIT_S = 120
"""Far less than these programs would last; the exit code tells who ended them, on a busy machine too."""

HANGS = """
import asyncio, time
from types import SimpleNamespace
from gateway.watchdog import Watchdog
from runtime.services import run

async def blocks(stop):
    await asyncio.sleep(0.1)
    time.sleep(600)

asyncio.run(run({
    "watchdog": Watchdog(SimpleNamespace(queued=0, stalled_s=0.0), 2.0).serve, "handler": blocks,
}, grace=1))
"""

HOGS = """
import asyncio, re
from types import SimpleNamespace
from gateway import watchdog
from runtime.services import run

watchdog.TICK_S = 0.2

async def hogs(stop):
    await asyncio.sleep({after_s})
    re.match("(a+)+$", "a" * 60 + "b")

asyncio.run(run({
    "watchdog": watchdog.Watchdog(SimpleNamespace(queued=0, stalled_s=0.0), 2.0).serve, "handler": hogs,
}, grace=1))
"""

BUSY = """
import asyncio, time
from types import SimpleNamespace
from gateway.watchdog import Watchdog

async def main():
    stop = asyncio.Event()
    watching = asyncio.create_task(Watchdog(SimpleNamespace(queued=0, stalled_s=0.0), 2.0).serve(stop))
    until = time.process_time() + 2.5
    while time.process_time() < until:
        turn = time.process_time() + 0.005
        while time.process_time() < turn:
            pass
        await asyncio.sleep(0)
    stop.set()
    await watching

asyncio.run(main())
"""

WILL_NOT_END = """
import asyncio
from types import SimpleNamespace
from gateway import watchdog
from runtime.services import run

watchdog.TICK_S = 0.1

async def clings(stop):
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

asyncio.run(run({
    "watchdog": watchdog.Watchdog(SimpleNamespace(queued=1, stalled_s=61.0), 600.0).serve, "ingest": clings,
}, grace=1))
"""


STALLS = """
import asyncio
from types import SimpleNamespace
from gateway import watchdog
from runtime.services import run

async def waits(stop):
    await stop.wait()

asyncio.run(run({
    "watchdog": watchdog.Watchdog(SimpleNamespace(queued=1, stalled_s=61.0), 600.0).serve, "ingest": waits,
}, grace=1))
"""


class Work:
    """Stands in for the ingest."""

    queued = 0
    stalled_s = 0.0


def test_a_loop_that_comes_round_is_left_alone() -> None:
    pulse = Pulse(3)

    assert not any(pulse.stopped(beats) for beats in (0, 0, 1, 1, 1, 2, 2, 3))


def test_a_loop_that_hangs_is_told_after_the_limit_and_not_before() -> None:
    pulse = Pulse(3)

    assert [pulse.stopped(7) for _ in range(5)] == [False, False, False, True, True]


def test_time_that_passed_while_the_process_was_stopped_is_one_tick() -> None:
    """A paused process is woken in a thread of the watchdog as in the loop: neither ticked meanwhile."""
    pulse = Pulse(2)

    assert [pulse.stopped(beats) for beats in (4, 4, 5, 5, 6)] == [False, False, False, False, False]


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a gateway's services, cut down to what matters, in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def test_a_process_whose_loop_hangs_ends_and_says_where() -> None:
    done = run(HANGS)

    assert done.returncode == HUNG
    assert "event_loop_hangs" in done.stdout + done.stderr
    assert "in blocks" in done.stderr


def test_a_process_that_is_busy_and_lets_others_have_their_turn_is_left_alone() -> None:
    """With a short limit too: the watchdog's thread winds its timer up once a second only."""
    done = run(BUSY)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("after_s", ["0", "0.5"])
def test_a_process_whose_interpreter_is_kept_by_one_call_ends_and_says_where(after_s: str) -> None:
    """No thread of Python's gets its turn then, not even one that watches; before its first tick neither."""
    done = run(HOGS.replace("{after_s}", after_s))

    assert done.returncode == -signal.SIGPROF
    assert "in hogs" in done.stderr


def test_a_stalled_process_that_does_not_end_by_itself_is_ended() -> None:
    done = run(WILL_NOT_END)

    assert done.returncode == HUNG
    assert "stalled_and_did_not_end" in done.stdout + done.stderr


def test_held_messages_that_nobody_works_on_end_the_gateway() -> None:
    """In a process of its own: the watchdog sees to it that this one ends, whatever becomes of the error."""
    done = run(STALLS)

    assert done.returncode == 1
    assert "Stalled" in done.stderr


async def test_an_idle_gateway_is_left_alone_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BEAT_S", 0.01)
    work: Any = Work()
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, stop.set)

    await Watchdog(work, 600).serve(stop)
