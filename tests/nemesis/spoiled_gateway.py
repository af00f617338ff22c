"""`python -m tests.nemesis.spoiled_gateway FAULT`: a gateway in which one step goes wrong after a while.

It is the product's own gateway with that step replaced; it writes STRUCK and the moment to stderr first.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from commands import dispatcher
from commands.dispatcher import Dispatcher
from commands.reaper import Reaper
from gateway import __main__ as gateway
from gateway import lane
from gateway.drops import Drops
from gateway.ingest import Ingest
from gateway.session import Session
from runtime import logs
from storage import dedicated
from telemetry import upkeep
from telemetry.partitions import Days
from telemetry.upkeep import Upkeep

STRUCK = "STRUCK"
FOR_EVER_S = 3_600.0


class Spoiled(RuntimeError):
    """What nobody expects."""


class Fault(NamedTuple):
    """A step that goes wrong at its so-many-th time, and how."""

    owner: Any
    step: str
    harm: Callable[[], None]
    at: int = 1


def fail() -> None:
    """Raise what no code of ours catches."""
    raise Spoiled


def block() -> None:
    """Keep the event loop, while other threads go on."""
    time.sleep(FOR_EVER_S)


def hog() -> None:
    """Keep the interpreter: a regular expression that never ends gives no other thread its turn."""
    re.match(r"(a+)+$", "a" * 60 + "b")


FAULTS: Mapping[str, Fault] = {
    "judging a batch fails": Fault(lane, "judge", fail, at=3),
    "taking a delivery fails": Fault(Ingest, "take", fail, at=3),
    "acknowledging fails": Fault(Session, "acknowledge", fail, at=3),
    "hearing of drops fails": Fault(Drops, "hear", fail),
    "dispatching fails": Fault(Dispatcher, "_claim", fail, at=2),
    "listening for commands fails": Fault(dispatcher, "wake", fail),
    "the reaper fails": Fault(Reaper, "step", fail, at=2),
    "making days fails": Fault(Days, "ensure", fail),
    "upkeep fails": Fault(Upkeep, "_roll_all_up", fail),
    "watching the lock fails": Fault(dedicated, "watch", fail),
    "the event loop is blocked": Fault(lane, "judge", block, at=3),
    "the interpreter is blocked": Fault(lane, "judge", hog, at=3),
}


def spoil(fault: Fault) -> None:
    """Put the harm in front of the step."""
    step, calls = getattr(fault.owner, fault.step), 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == fault.at:
            print(STRUCK, time.time(), file=sys.stderr, flush=True)  # noqa: T201 - whoever tries us reads it
        if calls >= fault.at:
            fault.harm()

    def spoiled(*args: Any, **named: Any) -> Any:
        count()
        return step(*args, **named)

    async def spoiled_too(*args: Any, **named: Any) -> Any:
        count()
        return await step(*args, **named)

    setattr(fault.owner, fault.step, spoiled_too if inspect.iscoroutinefunction(step) else spoiled)


def main(name: str) -> None:
    """Serve every partition until it goes wrong."""
    upkeep.EVERY_S = 1.0
    spoil(FAULTS[name])
    logs.configure("gateway")
    asyncio.run(gateway.serve("gateway-0-99", range(100)))


if __name__ == "__main__":
    main(*sys.argv[1:])
