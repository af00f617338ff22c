"""What a unit's clock is worth, judged by a report that came straight from the unit.

The judgement is shown to people. Neither order nor presence ever uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from telemetry.heartbeats import NEWEST_S, OLDEST_S

GOOD_S = 120
"""A clock that differs by no more (seconds) is good: a slow radio and whole seconds explain as much."""


class ClockState(StrEnum):
    """What is thought of a unit's clock."""

    UNKNOWN = "unknown"
    """It told no time, or what it told had waited on the way."""

    GOOD = "good"
    SKEWED = "skewed"

    ABSURD = "absurd"
    """So far off that its times place nothing in charts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What is thought of a unit's clock; `skew_s` in seconds, positive when it is ahead."""

    state: ClockState
    skew_s: int | None


UNKNOWN = Clock(state=ClockState.UNKNOWN, skew_s=None)


def judge(unit_ts: int | None, received_at: datetime | None, *, live: bool | None) -> Clock:
    """Judge a clock by one report; what waited in a queue tells nothing of it."""
    if unit_ts is None or received_at is None or not live:
        return UNKNOWN
    skew_s = unit_ts - round(received_at.timestamp())
    if not -OLDEST_S <= skew_s <= NEWEST_S:
        return Clock(state=ClockState.ABSURD, skew_s=None)
    return Clock(state=ClockState.GOOD if abs(skew_s) <= GOOD_S else ClockState.SKEWED, skew_s=skew_s)
