"""What was measured: a figure with its runs, its goal and its losses; never a rate alone."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

MICROSECONDS = "µs/heartbeat"
FROM_ABOVE = frozenset({"s", "ms", "bytes", "MB", MICROSECONDS})
"""Units of which less is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One key of the results; `value` is the median of its runs.

    `goal` is what we want, `floor` what must hold now; both from below, but from above where less is better.
    `n` messages over all runs, of which `lost` never arrived and `duplicates` were stored once more.
    """

    key: str
    unit: str
    runs: tuple[float, ...]
    workload: str
    n: int
    lost: int
    duplicates: int = 0
    goal: float | None = None
    floor: float | None = None

    @property
    def value(self) -> float:
        """The median."""
        return median(self.runs)

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return self._reaches(self.goal)

    @property
    def acceptable(self) -> bool:
        """Whether the floor holds, nothing was lost and nothing stored twice."""
        return self._reaches(self.floor) is not False and self.lost == 0 and self.duplicates == 0

    def _reaches(self, mark: float | None) -> bool | None:
        if mark is None:
            return None
        return self.value <= mark if self.unit in FROM_ABOVE else self.value >= mark
