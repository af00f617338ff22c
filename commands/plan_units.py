"""What became of each line of a plan: left out and why, or ordered and how that command stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from psycopg.rows import DictRow

from commands import states
from commands.selection import Exclusion
from protocol.identity import Imei, SerialNumber
from registry.permissions import Scope, listed
from storage.pool import Pool
from storage.sql import Connection, load, rows

BATCH = 2_000

SQL = load(__file__)


class Outcome(StrEnum):
    """What became of a line."""

    WAITING = "waiting"
    EXCLUDED = "excluded"
    ORDERED = "ordered"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanUnit:
    """One line of a plan; `row` is its place in the list. The names are those of a unit in scope."""

    row: int
    given: str | None
    imei: Imei | None
    serial_number: SerialNumber | None
    outcome: Outcome
    exclusion: Exclusion | None
    decided_at: datetime | None
    command_id: UUID | None
    command_state: states.State | None
    refusal: str | None
    finished_at: datetime | None

    @classmethod
    def from_row(cls, found: DictRow) -> PlanUnit:
        """Build from a row of `plan_unit` with its unit and its command."""
        kinds = {
            "imei": Imei,
            "serial_number": SerialNumber,
            "outcome": Outcome,
            "exclusion": Exclusion,
            "command_state": states.State,
        }
        typed = {name: kind(found[name]) for name, kind in kinds.items() if found[name] is not None}
        return cls(**found | typed)


async def page(
    conn: Connection,
    plan_id: UUID,
    *,
    scope: Scope,
    limit: int,
    after: int = 0,
    outcome: Outcome | None = None,
) -> list[PlanUnit]:
    """List lines of a plan from the one behind `after` on."""
    return await rows(
        conn,
        PlanUnit.from_row,
        SQL.page,
        plan_id=plan_id,
        scope=listed(scope),
        after=after,
        limit=limit,
        outcome=outcome and str(outcome),
    )


async def onwards(pool: Pool, plan_id: UUID, *, scope: Scope) -> AsyncIterator[list[PlanUnit]]:
    """Give all lines of a plan in batches, each a transaction of its own."""
    after = 0
    while True:
        async with pool.transaction() as conn:
            batch = await page(conn, plan_id, scope=scope, limit=BATCH, after=after)
        if batch:
            yield batch
        if len(batch) < BATCH:
            return
        after = batch[-1].row
