"""How much of a plan may be ordered now: rate, waves, the gate between them, and when to give up.

Pure: what stands in the database comes in, a decision goes out. A plan that enables has one wave,
no gate and nothing to give up for; `Terms` refuses anything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

from commands.policy import WishMakesNoSense

WHOLE_PCT = 100.0
RATE_MAX_PER_S = 100_000.0
RATE_MIN_PER_S = 1 / 3_600
"""One command an hour."""

RATE_KEPT_PER_S = 1 / 86_400
"""One command a day: plans of older releases may be so slow. Slower, and the next turn is past all dates."""

WAVES_MAX = 20
BURST_S = 1.0
"""A plan that could not go on for a while makes up for so many seconds of its rate, and no more."""


class Hold(StrEnum):
    """What a running plan waits for."""

    RATE = "rate"
    GATE = "gate"
    """Too few of the waves so far are confirmed."""

    DAILY_CAP = "daily_cap"
    """So many units were told to switch off within a day that no further may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a plan goes on: shares in percent; the waves are shares of the whole that add up, the last is 100.

    `gate_pct` of what was ordered must be confirmed before the next wave. Once `abort_sample` commands
    have ended and more than `abort_pct` of them were refused or expired, the plan is given up; so it is
    when all that was ordered has ended and the gate is still shut.
    """

    rate_per_s: float = 10_000.0
    waves_pct: tuple[float, ...] = (WHOLE_PCT,)
    gate_pct: float = 0.0
    abort_pct: float = WHOLE_PCT
    abort_sample: int = 1

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        self._require_rate(RATE_KEPT_PER_S)
        steps = (0.0, *self.waves_pct)
        rising = all(before < after for before, after in pairwise(steps))
        if not rising or steps[-1] != WHOLE_PCT or len(self.waves_pct) > WAVES_MAX:
            raise WishMakesNoSense(
                f"waves_pct are at most {WAVES_MAX} rising shares in percent; the last is 100.",
                field="waves_pct",
            )
        for field in ("gate_pct", "abort_pct"):
            if not 0 <= getattr(self, field) <= WHOLE_PCT:
                raise WishMakesNoSense(f"{field} is from 0 to 100 percent.", field=field)
        if self.abort_sample < 1:
            raise WishMakesNoSense("abort_sample is 1 or more.", field="abort_sample")

    def require_brisk(self) -> None:
        """Raise `WishMakesNoSense` where this is too slow for a new plan."""
        self._require_rate(RATE_MIN_PER_S)

    def changed(self, **given: Any) -> Terms:
        """Give the same terms but for what is given."""
        return replace(self, **given)

    def require_unheld(self) -> None:
        """Raise `WishMakesNoSense` unless nothing but a person can stop this plan."""
        for field, free in (("waves_pct", (WHOLE_PCT,)), ("gate_pct", 0.0), ("abort_pct", WHOLE_PCT)):
            if getattr(self, field) != free:
                raise WishMakesNoSense(
                    f"{field} goes with offline_disabled only: nothing holds an enable back.", field=field
                )

    def _require_rate(self, least: float) -> None:
        if not least <= self.rate_per_s <= RATE_MAX_PER_S:
            raise WishMakesNoSense(
                f"rate_per_s is from 1/3600 (one command an hour) to {RATE_MAX_PER_S:g} commands per second.",
                field="rate_per_s",
            )


FREE = Terms()
"""How a plan that enables goes on unless it is given a rate."""

CAREFUL = Terms(
    rate_per_s=50.0, waves_pct=(1.0, 10.0, WHOLE_PCT), gate_pct=90.0, abort_pct=10.0, abort_sample=20
)
"""How a plan that disables goes on unless other terms are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a plan is.

    `included` units are to have a turn, `dropped` of them proved unfit when it came, `ordered` have
    a command; of these `confirmed`, `failed` (refused or expired) and `withdrawn` (superseded or
    cancelled by people) have ended.
    """

    included: int
    ordered: int = 0
    dropped: int = 0
    confirmed: int = 0
    failed: int = 0
    withdrawn: int = 0

    @property
    def waiting(self) -> int:
        """Units whose turn has not come."""
        return self.included - self.ordered - self.dropped


@dataclass(frozen=True, slots=True)
class Go:
    """Order so many."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Order none now."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class Abort:
    """Order none any more: too many failed, by the term that says so."""

    failed: int
    ended: int
    term: str = "abort_pct"


@dataclass(frozen=True, slots=True)
class Done:
    """Every unit has had its turn."""


Step = Go | Wait | Abort | Done


def step(terms: Terms, progress: Progress, *, by_rate: int, by_cap: int) -> Step:
    """Decide what comes next; `by_rate` and `by_cap` are how many rate and daily cap still admit.

    A wave that has ended and did not open its gate has failed, however few its commands were: else late
    evidence would let the plan go on when nobody expects it any more.
    """
    if progress.waiting <= 0:
        return Done()
    ended = progress.confirmed + progress.failed
    if ended >= terms.abort_sample and progress.failed * WHOLE_PCT > terms.abort_pct * ended:
        return Abort(progress.failed, ended)
    start, end = wave(terms, progress)
    if progress.ordered == start > 0 and not passes(terms, progress):
        over = ended + progress.withdrawn >= progress.ordered
        return Abort(progress.failed, ended, "gate_pct") if over else Wait(Hold.GATE)
    if by_cap <= 0:
        return Wait(Hold.DAILY_CAP)
    if by_rate <= 0:
        return Wait(Hold.RATE)
    return Go(min(progress.waiting, end - progress.ordered, by_cap, by_rate))


def wave(terms: Terms, progress: Progress) -> tuple[int, int]:
    """Give how many are ordered before the present wave, and after it.

    Who is dropped does not count: the first wave has its whole number of commands before the second goes.
    """
    ends = [math.ceil(progress.included * share / WHOLE_PCT) for share in terms.waves_pct]
    end = next((end for end in ends if progress.ordered < end), progress.included)
    return max((earlier for earlier in (0, *ends) if earlier < end), default=0), end


def passes(terms: Terms, progress: Progress) -> bool:
    """Whether enough is confirmed of what was ordered; what people took back themselves says nothing."""
    judged = progress.ordered - progress.withdrawn
    return progress.confirmed * WHOLE_PCT >= terms.gate_pct * judged


def allowance(rate_per_s: float, metered_at: datetime, now: datetime) -> int:
    """Give how many the rate admits now; it is used up until `metered_at`."""
    idle_s = (now - _from(rate_per_s, metered_at, now)).total_seconds()
    return math.floor(rate_per_s * idle_s + 1e-3)  # a whole one is not to fail for a microsecond


def metered(rate_per_s: float, metered_at: datetime, now: datetime, number: int) -> datetime:
    """Give until when the rate is used up after so many more."""
    return _from(rate_per_s, metered_at, now) + timedelta(seconds=number / rate_per_s)


def _from(rate_per_s: float, metered_at: datetime, now: datetime) -> datetime:
    """Give from when on the rate counts: long idleness is forgotten, but for the time of one command."""
    return max(metered_at, now - timedelta(seconds=max(BURST_S, 1 / rate_per_s)))
