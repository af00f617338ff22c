"""How a process lives and ends: one task group of named eternal services, a stop with grace."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

import structlog

from runtime.errors import HeliographError

Service = Callable[[asyncio.Event], Awaitable[None]]
"""Serves until the event is set, then returns."""

log = structlog.get_logger()


class NotStopped(HeliographError):
    """What was asked to stop did not in time."""


class EndedEarly(HeliographError):
    """A service returned although nobody had asked it to stop."""


async def run(services: Mapping[str, Service], *, grace: float) -> None:
    """Serve until SIGTERM or SIGINT; then allow `grace` seconds, then cancel what is left.

    A service that fails or returns early brings the others down: the error leaves in an
    ExceptionGroup, the process ends non-zero and its supervisor starts it again. Raises `NotStopped`
    when a stop outlasts the grace period.
    """
    try:
        await _until_stopped(services, grace)
    except TimeoutError:
        raise NotStopped(f"It did not stop within {grace:g} s; what was under way is cut off.") from None


async def _until_stopped(services: Mapping[str, Service], grace: float) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    async with asyncio.timeout(None) as deadline:

        def ask(signum: signal.Signals) -> None:
            if not stop.is_set():  # a second signal prolongs nothing
                log.info("stop_requested", signal=signum.name, grace_s=grace)
                deadline.reschedule(loop.time() + grace)
            stop.set()

        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, ask, signum)
        try:
            await together(services, stop)
        finally:
            for signum in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(signum)


async def together(services: Mapping[str, Service], stop: asyncio.Event) -> None:
    """Serve until `stop` is set by somebody else, in a process whose signals are not ours."""
    async with asyncio.TaskGroup() as group:
        for name, serve in services.items():
            group.create_task(_forever(name, serve, stop), name=name)


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until the event is set; true when it was."""
    heed()
    try:
        async with asyncio.timeout(seconds):  # not wait_for, see `heed`
            await stop.wait()
    except TimeoutError:
        return False
    return True


def heed() -> None:
    """End this task if it was cancelled and something on its way swallowed that.

    Before Python 3.12 `asyncio.wait_for` does so when what it waits for comes together with the
    cancellation, and libraries call it. Whoever was to end with a failing service went on without it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _forever(name: str, serve: Service, stop: asyncio.Event) -> None:
    await serve(stop)
    if not stop.is_set():
        raise EndedEarly(f"The service {name} ended although it was not asked to.", service=name)
