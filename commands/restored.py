"""After a database was restored: nothing that it remembers of yesterday switches anybody off by itself.

An offline-disable under way in a backup may have been taken back since, by a person or by an enable
that is gone with what came after the backup. So all of them are taken back, and told, to be ordered
again by somebody who knows. Who is off stays off, and every enable goes on; but a unit that is to be
off and reports that it is on is not switched off again without a person's word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from commands import docket, ledger, plans
from commands.docket import Command
from commands.states import State
from registry.audit import Deed
from registry.permissions import Level
from storage.arrays import int4s
from storage.errors import DeadlinePassed
from storage.pool import Pool
from storage.portions import Portions
from storage.sql import Connection, execute, load, tuples

BATCH = 500
"""Units in one transaction at most."""

SQL = load(__file__)


@dataclass(frozen=True, slots=True)
class TakenBack:
    """One step, committed: plans, commands by their units' serial numbers, how many wishes are doubted."""

    plans: Sequence[UUID] = ()
    commands: Sequence[tuple[str, Command]] = ()
    doubted: int = 0


async def take_back(pool: Pool, deed: Deed) -> AsyncIterator[TakenBack]:
    """Cancel every plan that may still switch off and every offline-disable under way, and doubt the rest.

    Takes every right, and a reason. Safe to repeat: what was cancelled is not found again.
    """
    deed.by.require(Level.SYSTEM)
    deed.require_reason()
    async with pool.transaction() as conn:
        found = [plan_id for (plan_id,) in await tuples(conn, SQL.plans)]
        for plan_id in found:
            await plans.cancel(conn, plan_id, deed)
    yield TakenBack(plans=found)
    after, portions = 0, Portions(BATCH)
    while True:
        try:
            with portions.next() as portion:
                async with pool.transaction() as conn:
                    unit_ids = [
                        unit_id
                        for (unit_id,) in await tuples(conn, SQL.units, after=after, limit=portion.most)
                    ]
                    portion.number = len(unit_ids)
                    step = await _of_units(conn, unit_ids, deed)
        except DeadlinePassed:
            if portion.most == 1:
                raise
            continue  # with fewer units
        if not unit_ids:
            return
        yield step
        after = unit_ids[-1]


async def _of_units(conn: Connection, unit_ids: Sequence[int], deed: Deed) -> TakenBack:
    """Cancel and doubt what is wanted of some units; intents are locked first, in the order of everybody."""
    units = int4s(unit_ids)
    await execute(conn, SQL.lock_intents, unit_ids=units)
    book = await docket.lock(conn, SQL.lock, actor=deed.by.email, unit_ids=units)
    found = book.all()
    why = {"reason": deed.reason, "restored": True}
    cancelled = [book.move(command, State.CANCELLED, "cancelled", evidence=why) for command in found]
    await book.write(conn)
    for before, after in zip(found, cancelled, strict=True):
        await ledger.write_down(conn, deed, "cancel_command", before, after)
    doubted = await execute(conn, SQL.doubt, unit_ids=units)
    serials = dict(await tuples(conn, SQL.serials, unit_ids=units))
    return TakenBack(commands=[(serials[command.unit_id], command) for command in found], doubted=doubted)
