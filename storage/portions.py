"""How much one transaction takes on: what it finishes in good time, however slow the database is.

Where a fixed number does not fit into the deadline, it would be tried again and again, and nothing done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storage.errors import DatabaseUnavailable

SHORT_S = 2.0
"""What lasts longer (seconds) was too much: others soon give up waiting for its locks."""


@dataclass(slots=True)
class Portion:
    """What one transaction may take on at most, and how many it took, once that is known."""

    most: int
    number: int | None = None


class Portions:
    """Portions that shrink by half where one is cut off or lasts too long, and grow again where none is."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._next = most

    @contextmanager
    def next(self) -> Iterator[Portion]:
        """Give the next portion; the block is what takes it on."""
        portion, began = Portion(self._next), time.monotonic()
        try:
            yield portion
        except DatabaseUnavailable:
            self._shrink(portion)
            raise
        full = (
            portion.number is None or portion.number >= portion.most
        )  # less does not tell whether more fits
        if time.monotonic() - began > SHORT_S:
            self._shrink(portion)
        elif full:
            self._next = min(self._next + self._next // 2 + 1, self._most)

    def _shrink(self, portion: Portion) -> None:
        self._next = max(1, min(portion.most, portion.number or portion.most) // 2)
