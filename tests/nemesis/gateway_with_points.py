"""`python -m tests.nemesis.gateway_with_points POINT BATCHES`: a gateway that kills itself at a named point.

It is the product's own gateway with one step replaced; it dies at that point of its so-many-th batch.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from gateway import __main__ as gateway
from gateway import lane, verdicts
from gateway.session import Session
from runtime import logs


class Point(StrEnum):
    """Where a gateway dies."""

    MID_BATCH = "mid-batch"
    """In the transaction: telemetry has written its part, commands have not."""

    BEFORE_COMMIT = "before-commit"
    """In the transaction, when everything is written."""

    BEFORE_ACK = "before-ack"
    """Between the commit and the first acknowledgement."""

    MID_ACK = "mid-ack"
    """When the first half of a batch is acknowledged."""


class Fuse:
    """Counts batches down to the last."""

    def __init__(self, batches: int) -> None:
        self._left = batches

    def burn(self) -> bool:
        """Count one; true for the last."""
        self._left -= 1
        return self._left == 0


def die() -> None:
    """End as if somebody else had killed us."""
    os.kill(os.getpid(), signal.SIGKILL)


def mid_batch(fuse: Fuse) -> None:
    """Die where commands are told."""
    observe = vars(verdicts)["observe"]

    async def dying(*args: Any, **named: Any) -> Any:
        if fuse.burn():
            die()
        return await observe(*args, **named)

    vars(verdicts)["observe"] = dying


def before_commit(fuse: Fuse) -> None:
    """Die when a batch is judged."""
    judge = vars(lane)["judge"]

    async def dying(*args: Any, **named: Any) -> Any:
        outcome = await judge(*args, **named)
        if fuse.burn():
            die()
        return outcome

    vars(lane)["judge"] = dying


def before_ack(fuse: Fuse) -> None:
    """Die where a batch would be acknowledged."""
    acknowledge = Session.acknowledge

    def dying(self: Session, packet_ids: Iterable[int]) -> None:
        if fuse.burn():
            die()
        acknowledge(self, packet_ids)

    Session.acknowledge = dying  # type: ignore[method-assign]  # that is the experiment


def mid_ack(fuse: Fuse) -> None:
    """Die when half of a batch is acknowledged."""
    acknowledge = Session.acknowledge

    def dying(self: Session, packet_ids: Iterable[int]) -> None:
        everything = list(packet_ids)
        if fuse.burn():
            acknowledge(self, everything[: len(everything) // 2])
            die()
        acknowledge(self, everything)

    Session.acknowledge = dying  # type: ignore[method-assign]  # that is the experiment


LAY = {
    Point.MID_BATCH: mid_batch,
    Point.BEFORE_COMMIT: before_commit,
    Point.BEFORE_ACK: before_ack,
    Point.MID_ACK: mid_ack,
}


def main(point: str, batches: str) -> None:
    """Serve every partition until that point."""
    LAY[Point(point)](Fuse(int(batches)))
    logs.configure("gateway")
    asyncio.run(gateway.serve("gateway-0-99", range(100)))


if __name__ == "__main__":
    main(*sys.argv[1:])
