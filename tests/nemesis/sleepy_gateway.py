"""`python -m tests.nemesis.sleepy_gateway NAME POINT…`: a gateway that stops itself (SIGSTOP) while it sends.

It is the product's own gateway of all partitions; the so-many-th time that it comes to a point of the
list it stops there, and goes on with the next when somebody lets it go on (SIGCONT).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from enum import StrEnum

from commands.dispatcher import Claim, Dispatcher
from gateway import __main__ as gateway
from gateway.session import PUBLISH, Session
from runtime import logs


class Point(StrEnum):
    """Where a gateway falls asleep."""

    CLAIMED = "claimed"
    """A batch is its own, and nothing of it is published."""

    LOOKED = "looked"
    """It has looked at the clock and is about to write one command to the broker."""


class Sleep:
    """What is still to be slept, in order."""

    def __init__(self, points: list[Point]) -> None:
        self._points = points

    def come_to(self, point: Point) -> None:
        """Stop here if it is the turn of this point."""
        if self._points[:1] == [point]:
            del self._points[0]
            os.kill(os.getpid(), signal.SIGSTOP)


def lay(sleep: Sleep) -> None:
    """Put the points into the way of a command."""
    claim, ask = Dispatcher._claim, Session._ask  # noqa: SLF001 - that is the experiment

    async def claiming(self: Dispatcher) -> Claim:
        claimed = await claim(self)
        if claimed.sendings:
            sleep.come_to(Point.CLAIMED)
        return claimed

    async def looked(self: Session, packet_id: int, packet: bytes) -> list[int]:
        if packet[0] >> 4 == PUBLISH:
            sleep.come_to(Point.LOOKED)
        return await ask(self, packet_id, packet)

    Dispatcher._claim = claiming  # type: ignore[method-assign]  # noqa: SLF001
    Session._ask = looked  # type: ignore[method-assign]  # noqa: SLF001


def main(name: str, *points: str) -> None:
    """Serve every partition, asleep in between."""
    lay(Sleep([Point(point) for point in points]))
    logs.configure("gateway")
    asyncio.run(gateway.serve(name, range(100)))


if __name__ == "__main__":
    main(*sys.argv[1:])
