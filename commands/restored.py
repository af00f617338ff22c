"""After a database was restored: nothing that it remembers of yesterday switches anybody off by itself.

An offline-disable under way in a backup may have been taken back since, by a person or by an enable
that is gone with what came after the backup. So all of them are taken back, and told, to be ordered
again by somebody who knows. What is confirmed, and every enable, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from commands import docket, plans
from commands.docket import Command
from commands.states import State
from registry import audit
from registry.audit import Deed
from registry.permissions import Level
from storage.arrays import int4s
from storage.pool import Pool
from storage.sql import execute, load, tuples

BATCH = 500
"""Units in one transaction."""

SQL = load(__file__)


@dataclass(slots=True)
class TakenBack:
    """What was taken back: plans, and commands by the serial numbers of their units."""

    plans: list[UUID] = field(default_factory=list)
    commands: list[tuple[str, Command]] = field(default_factory=list)


async def take_back(pool: Pool, deed: Deed, told: Callable[[TakenBack], None]) -> TakenBack:
    """Cancel every plan that may still switch off and every offline-disable under way; tell after each step.

    Takes every right, and a reason. Safe to repeat: what was cancelled is not found again.
    """
    deed.by.require(Level.SYSTEM)
    deed.require_reason()
    done = TakenBack()
    async with pool.transaction() as conn:
        done.plans = [plan_id for (plan_id,) in await tuples(conn, SQL.plans)]
        for plan_id in done.plans:
            await plans.cancel(conn, plan_id, deed)
    told(done)
    while batch := await _commands(pool, deed):
        done.commands += batch
        told(done)
    return done


async def _commands(pool: Pool, deed: Deed) -> list[tuple[str, Command]]:
    """Cancel those of the next units; their intents first, in the order of everybody."""
    async with pool.transaction() as conn:
        unit_ids = int4s(unit_id for (unit_id,) in await tuples(conn, SQL.units, limit=BATCH))
        await execute(conn, SQL.lock_intents, unit_ids=unit_ids)
        book = await docket.lock(conn, SQL.lock, actor=deed.by.email, unit_ids=unit_ids)
        found = book.all()
        for command in found:
            book.move(
                command, State.CANCELLED, "cancelled", evidence={"reason": deed.reason, "restored": True}
            )
        await book.write(conn)
        for command in found:
            before, after = {"state": command.state}, {"state": State.CANCELLED, "epoch": command.epoch}
            await audit.write(conn, deed, "cancel_command", "command", command.id, before=before, after=after)
        serials = dict(await tuples(conn, SQL.serials, unit_ids=unit_ids))
    return [(serials[command.unit_id], command) for command in found]
