"""How a service waits out an outage: again and again, with jitter and a cap, one line at each edge."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from runtime.errors import Unavailable
from runtime.services import heed, pause

FIRST_S = 0.2
CAP_S = 5.0
STEADY_S = 5.0
"""Work that went well for so long (seconds) before it was interrupted had recovered meanwhile."""

log = structlog.get_logger()


async def until_done(name: str, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> bool:
    """Call `work` until it ends well or stop is asked; tell whether it ended well.

    `Unavailable` calls it again after a random part of a wait that doubles from `FIRST_S` to
    `CAP_S` seconds; any other error leaves.
    """
    loop, wait, failures = asyncio.get_running_loop(), FIRST_S, 0
    while not (failures and stop.is_set()):
        why, spent_s = None, 0.0
        began = loop.time()
        try:
            await work()
        except* Unavailable as lost:
            why, spent_s = lost.exceptions[0], _spent_s(lost)
        heed()
        if why is None:
            if failures:
                log.info("service_recovered", service=name, failures=failures)
            return True
        if loop.time() - began - spent_s > STEADY_S:
            wait, failures = FIRST_S, 0
        failures += 1
        if failures == 1:
            log.warning("service_interrupted", service=name, why=str(why))
        await pause(stop, random.uniform(wait / 2, wait))  # noqa: S311 - jitter is no secret
        wait = min(wait * 2, CAP_S)
    return False


async def until_stopped(
    name: str, work: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event
) -> None:
    """Call `work` again and again until stop is asked; it is waited for like `until_done` does."""
    while not stop.is_set():
        await until_done(name, lambda: work(stop), stop)


def _spent_s(lost: ExceptionGroup[Unavailable]) -> float:
    """Tell for how long of it what failed was already waited for."""
    return max(_spent_s(one) if isinstance(one, ExceptionGroup) else one.spent_s for one in lost.exceptions)
