"""How services wait: until something happens, and never beyond their own cancellation."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from runtime.retry import until_stopped
from runtime.services import NotStopped, pause, run


async def test_a_pause_ends_with_its_time_or_with_the_event() -> None:
    event = asyncio.Event()
    assert not await pause(event, 0.01)

    event.set()

    assert await pause(event, 60)


async def test_a_stop_that_outlasts_its_grace_is_told_in_a_sentence() -> None:
    async def deaf(_stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    with pytest.raises(NotStopped, match=r"0\.1 s"):
        await run({"deaf": deaf}, grace=0.1)


async def test_a_cancellation_that_comes_together_with_the_event_is_not_swallowed() -> None:
    """R9: a dispatcher that was woken while another service failed went on for ever without it."""
    event = asyncio.Event()
    waiting = asyncio.create_task(pause(event, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    event.set()
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def swallow(event: asyncio.Event) -> None:
    """Do what libraries do on Python 3.11: take a cancellation for an answer."""
    try:
        await event.wait()
    except asyncio.CancelledError:
        return


async def test_a_cancellation_that_was_swallowed_on_the_way_counts_at_the_next_pause() -> None:
    async def work() -> None:
        await swallow(asyncio.Event())
        await pause(asyncio.Event(), 60)

    await ends_when_cancelled(asyncio.create_task(work()))


async def test_work_that_swallowed_its_cancellation_is_not_begun_anew() -> None:
    await ends_when_cancelled(asyncio.create_task(until_stopped("work", swallow, asyncio.Event())))


async def ends_when_cancelled(task: asyncio.Task[None]) -> None:
    """Cancel it once, when it waits."""
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
