"""What trying a promise found: one row of bench/faults.json and of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from runtime.errors import Unavailable

Tell = Callable[[str], None]
"""Takes a line that says what is going on."""


class Size(StrEnum):
    """How long a promise is tried: within `make test`, or until the figure is worth printing."""

    SHORT = "short"
    FULL = "full"


class CannotTry(Unavailable):
    """This machine lacks what a promise needs to be tried; told as a row that was not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One promise, tried; `n` messages or calls in `seconds`.

    `lost` was acknowledged and is not there, `doubled` is there more than once, a violation is
    anything else that the promise excludes, told in `broken`. `figures` are measured and judged
    by nobody: seconds to recover, megabytes.
    """

    promise: str
    what: str
    seed: int
    n: int
    seconds: float
    lost: int
    doubled: int
    violations: int
    kills: int = 0
    kills_that_hit: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    broken: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.doubled or self.violations)


Promise = Callable[[int, Size, Tell], Row]
"""Tries one promise with a seed."""
