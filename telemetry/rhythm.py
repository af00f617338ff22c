"""How often a unit makes contact: learnt from when its heartbeats arrived, and when it should come next.

What arrived together is one contact, however much of it: a backlog, a drained queue and a report
after a command do not make a unit look busy. How long the silence has lasted already counts: of
the gaps between its contacts only longer ones can be the present one. So a unit that sleeps at
night is awaited in the morning, and of one that is silent for longer than hardly ever nothing is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from registry.units import Unit
from storage.sql import Connection, load, rows
from telemetry.heartbeats import OLDEST_S
from telemetry.presence import LONGEST_S, SILENT_INTERVALS

DAYS = 7
"""Days that are looked at; with the days for which a heartbeat may be late, no chunk is compressed yet."""

ROWS_MAX = 2_000
"""Heartbeats that are looked at, the newest."""

GAPS_MIN = 5
"""With fewer gaps nothing is learnt."""

LONGER_MIN = 3
"""With fewer gaps that are longer than the present silence nothing is told of its end."""

ONE_CONTACT = 10
"""Arrivals nearer to each other than this part of a long gap are one contact."""

FEW, HALF, MOST = 0.1, 0.5, 0.9
"""Shares of gaps: one in ten is shorter, half, nine in ten."""

SQL = load(__file__)


class Basis(StrEnum):
    """Where a rhythm is taken from."""

    HEARTBEATS = "heartbeats"
    PLANNED = "planned"
    """The unit's own word, `next_s` of its newest report."""

    EXPECTED = "expected"
    """What was said of it, or of its product type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """When a unit should come next: one in ten times before `earliest`, nine in ten before `latest`."""

    earliest: datetime
    likely: datetime
    latest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """Gaps between a unit's contacts, shortest first, at least one."""

    basis: Basis
    gaps: Sequence[timedelta]

    @property
    def usual(self) -> timedelta:
        """Give the gap that half of them do not exceed."""
        return _share(self.gaps, HALF)

    @property
    def long(self) -> timedelta:
        """Give the gap that nine in ten do not exceed."""
        return _share(self.gaps, MOST)

    def awaited(self, last_at: datetime, now: datetime) -> Awaited | None:
        """Tell when the contact after that at `last_at` should be; None when it is silent for too long."""
        longer = [gap for gap in self.gaps if last_at + gap > now]
        if len(longer) < min(LONGER_MIN, (len(self.gaps) + 1) // 2):
            return None
        return Awaited(
            earliest=last_at + _share(longer, FEW),
            likely=last_at + _share(longer, HALF),
            latest=last_at + _share(longer, MOST),
        )


async def of_unit(conn: Connection, unit: Unit, *, next_s: int | None, now: datetime) -> Rhythm:
    """Learn a unit's rhythm from its last days; without enough of them take its own word, or the expected."""
    arrivals = await rows(
        conn,
        lambda row: row["received_at"],
        SQL.arrivals,
        unit_id=unit.id,
        since=now - timedelta(days=DAYS),
        oldest_s=OLDEST_S,
        limit=ROWS_MAX,
    )
    gaps = gaps_between(arrivals)
    if len(gaps) >= GAPS_MIN:
        return Rhythm(basis=Basis.HEARTBEATS, gaps=gaps)
    # As presence has it: no planned contact, or one at once, is no plan; one contact lost is bad luck.
    basis = Basis.PLANNED if next_s else Basis.EXPECTED
    interval = timedelta(seconds=min(next_s or unit.expected_interval_s, LONGEST_S))
    return Rhythm(basis=basis, gaps=(interval, SILENT_INTERVALS * interval))


def gaps_between(arrivals: Sequence[datetime]) -> list[timedelta]:
    """Give the gaps between contacts, shortest first; `arrivals` in the order of time."""
    gaps = sorted(after - before for before, after in pairwise(arrivals))
    if not gaps:
        return []
    shortest = _share(gaps, MOST) / ONE_CONTACT
    return [gap for gap in gaps if gap >= shortest]


def _share(gaps: Sequence[timedelta], share: float) -> timedelta:
    """Give the gap that a share of them does not exceed."""
    return gaps[math.ceil(share * len(gaps)) - 1]
