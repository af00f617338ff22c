"""What a plan would do: its units are found and judged bit by bit, and summed up; nothing is ordered.

Each bit is a transaction of its own, so that a million units hold no lock for long and nothing
waits for a slow upload. A dry run that breaks off leaves a plan that can only expire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from commands import plans, selection
from commands.plans import Draft
from commands.policy import Wish
from commands.selection import Exclusion, Facts, Listed, Source
from registry.audit import Deed
from registry.permissions import listed
from runtime.errors import Invalid
from runtime.settings import Plans
from storage.arrays import int4s, texts, timestamps
from storage.pool import Pool
from storage.sql import Connection, execute, load, tuples, value

CONTACT_AGES = {
    "within_hour": timedelta(hours=1),
    "within_day": timedelta(days=1),
    "within_week": timedelta(days=7),
    "within_month": timedelta(days=30),
}

SQL = load(__file__)


class PlanTooLarge(Invalid):
    """A plan has a bounded number of lines."""


@dataclass
class Summary:
    """What a dry run has counted so far; all but the exclusions of the units that it found fit."""

    excluded: Counter[str] = field(default_factory=Counter)
    by_entity: Counter[int] = field(default_factory=Counter)
    by_enable_status: Counter[str] = field(default_factory=Counter)
    by_contact: Counter[str] = field(default_factory=Counter)
    listed: int = 0
    included: int = 0

    def count(self, verdict: Exclusion | None, unit: Facts | None, now: datetime) -> None:
        """Count a line."""
        self.listed += 1
        if verdict is not None or unit is None:
            self.excluded[str(verdict)] += 1
            return
        self.included += 1
        self.by_entity[unit.entity_id] += 1
        self.by_enable_status[unit.enable_status] += 1
        self.by_contact[contact_age(unit.contact_at, now)] += 1

    def told(self, fleet: int) -> dict[str, Any]:
        """Give it as the plan keeps it; `fleet` are the units in scope that are not terminated."""
        return {
            "listed": self.listed,
            "included": self.included,
            "excluded": dict(self.excluded),
            "by_entity": [
                {"entity_id": key, "units": units} for key, units in sorted(self.by_entity.items())
            ],
            "by_enable_status": dict(self.by_enable_status),
            "by_contact": {age: self.by_contact[age] for age in (*CONTACT_AGES, "longer_ago", "never")},
            "fleet": fleet,
        }


async def perform(
    pool: Pool, draft: Draft, source: Source, deed: Deed, settings: Plans
) -> tuple[UUID, dict[str, Any]]:
    """Find and judge the units of a plan; give its id and its summary, with which `plans.ready` ends this."""
    async with pool.transaction() as conn:
        plan_id = await plans.begin(conn, draft, source.told, deed, settings)
    summary = Summary()
    while await _take(pool, plan_id, draft, source, summary):
        if summary.listed > settings.plan_units_max:
            raise PlanTooLarge(
                f"A plan has at most {settings.plan_units_max} units.", limit=settings.plan_units_max
            )
    async with pool.transaction() as conn:
        return plan_id, summary.told(await value(conn, SQL.fleet, scope=listed(draft.scope)))


async def _take(pool: Pool, plan_id: UUID, draft: Draft, source: Source, summary: Summary) -> bool:
    """Find and judge the next units; tell whether there may be more."""
    async with pool.transaction() as conn:
        await selection.one_by_one(conn)
        lines = await source.take(conn, draft.scope)
        if lines is None:
            return False
        ids = [line.unit_id for line in lines if line.unit_id is not None]
        known = await selection.facts(conn, ids, draft.scope)
        taken = {
            unit_id for (unit_id,) in await tuples(conn, SQL.taken, plan_id=plan_id, unit_ids=int4s(ids))
        }
        now = await value(conn, SQL.now)
        verdicts = [_judge(draft.wish, line, known, taken) for line in lines]
        for line, verdict in zip(lines, verdicts, strict=True):
            summary.count(verdict, known.get(line.unit_id or 0), now)
        await _write(conn, plan_id, lines, verdicts, known)
    return True


def _judge(wish: Wish, line: Listed, known: dict[int, Facts], taken: set[int]) -> Exclusion | None:
    if line.unit_id is None:
        return line.flaw
    if line.unit_id in taken:
        return Exclusion.TWICE
    taken.add(line.unit_id)
    unit = known.get(line.unit_id)
    return Exclusion.UNKNOWN if unit is None else selection.judge(wish, unit)


async def _write(
    conn: Connection,
    plan_id: UUID,
    lines: Sequence[Listed],
    verdicts: Sequence[Exclusion | None],
    known: Mapping[int, Facts],
) -> None:
    units = [known.get(line.unit_id or 0) for line in lines]
    await execute(
        conn,
        SQL.add,
        plan_id=plan_id,
        places=int4s([line.place for line in lines]),
        givens=texts([line.given for line in lines]),
        unit_ids=int4s([line.unit_id for line in lines]),
        exclusions=texts(list(verdicts)),
        holdings=timestamps([unit and unit.held_since for unit in units]),
    )


def contact_age(contact_at: datetime | None, now: datetime) -> str:
    """Name how long ago a contact was."""
    if contact_at is None:
        return "never"
    age = now - contact_at
    return next((name for name, limit in CONTACT_AGES.items() if age <= limit), "longer_ago")
