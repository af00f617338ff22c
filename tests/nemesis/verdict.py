"""The verdict by set arithmetic: what must be there against what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.acceptance.stack import Key


def missing(acknowledged: Iterable[Key], stored: Iterable[Key]) -> int:
    """How many heartbeats were acknowledged and are not there."""
    return len(set(acknowledged) - set(stored))


def invented(sent: Iterable[Key], stored: Iterable[Key]) -> int:
    """How many are there and were never sent."""
    return len(set(stored) - set(sent))


def twice(stored: Iterable[Key]) -> int:
    """How many rows are more than the one that each heartbeat may have."""
    return sum(number - 1 for number in Counter(stored).values())
