"""How services wait: until something happens, and never beyond their own cancellation."""

from __future__ import annotations

import asyncio

import pytest

from runtime.services import pause


async def test_a_pause_ends_with_its_time_or_with_the_event() -> None:
    event = asyncio.Event()
    assert not await pause(event, 0.01)

    event.set()

    assert await pause(event, 60)


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
