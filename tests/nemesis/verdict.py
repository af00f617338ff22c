"""The verdict by set arithmetic: what must be there against what is there; and the row that tells it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.acceptance.stack import Key
from tests.nemesis.ground import Ground
from tests.nemesis.load import Load
from tests.nemesis.rows import Row
from tests.nemesis.watching import drained


@dataclass(slots=True)
class Trial:
    """A promise while it is tried: what was counted on the way."""

    promise: str
    what: str
    seed: int
    kills: int = 0
    hits: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    dice: random.Random = field(init=False)
    began: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # noqa: S311 - seeded, not secret

    def demand(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - the condition itself
        """Note a violation unless the condition holds."""
        if not holds:
            self.broken.append(otherwise)

    def worst(self, figure: str, value: float) -> None:
        """Keep the largest value of a figure."""
        self.figures[figure] = max(value, self.figures.get(figure, value))

    def row(self, *, n: int, lost: int = 0, doubled: int = 0) -> Row:
        """Give what was found."""
        return Row(
            promise=self.promise,
            what=self.what,
            seed=self.seed,
            n=n,
            seconds=time.monotonic() - self.began,
            lost=lost,
            doubled=doubled,
            violations=len(self.broken),
            kills=self.kills,
            kills_that_hit=self.hits,
            figures={name: round(value, 2) for name, value in self.figures.items()},
            broken=tuple(self.broken),
        )

    def of_loads(self, ground: Ground, *loads: Load) -> Row:
        """Wait until a gateway has brought everything home, and compare it with what was said."""
        self.demand(drained(ground.stack), "the gateway still holds messages long after the last one")
        stored = ground.stack.stored()
        acknowledged = [key for load in loads for key in load.acked]
        strangers = invented([key for load in loads for key in load.sent], stored)
        self.demand(not strangers, f"{strangers} heartbeats are stored that were never sent")
        return self.row(n=len(acknowledged), lost=missing(acknowledged, stored), doubled=twice(stored))


def missing(acknowledged: Iterable[Key], stored: Iterable[Key]) -> int:
    """How many heartbeats were acknowledged and are not there."""
    return len(set(acknowledged) - set(stored))


def invented(sent: Iterable[Key], stored: Iterable[Key]) -> int:
    """How many are there and were never sent."""
    return len(set(stored) - set(sent))


def twice(stored: Iterable[Key]) -> int:
    """How many rows are more than the one that each heartbeat may have."""
    return sum(number - 1 for number in Counter(stored).values())
