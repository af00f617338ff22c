"""A fleet for plans: many enrolled units that report, and what makes and carries out a plan of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from commands import dry_run, plan_units, plans, selection
from commands.executor import Executor
from commands.plan_units import PlanUnit
from commands.plans import Draft, Plan
from commands.selection import Filter, Listing, Matching, Source
from commands.waves import Terms
from protocol.messages import Mode
from registry import enrolment, entities, units
from registry.audit import Deed
from registry.permissions import Caller, Level, Scope
from registry.units import Unit
from runtime.settings import Commands, Database, Plans
from storage.pool import Pool, open_pool
from tests.builders import a_deed, a_newcomer, an_imei, keys

ENABLE = selection.wish_of(Mode.ENABLED)
DISABLE = selection.wish_of(Mode.OFFLINE_DISABLED)
ALL = Filter()
IDLE_STEPS = 3
"""So many steps in which nothing becomes of a plan: it waits, though other plans may go on."""

STATUS = """
INSERT INTO unit_status (unit_id, life, boot, seq, reported_at, at, mode, epoch, contact_at)
SELECT id, 1, 1, 1, now(), now(), %s, 0, now() FROM unit
"""
SETTINGS = Plans(plan_second_person_above=1_000_000, plan_disables_per_day=1_000_000)


def somebody(name: str = "ada", level: Level = Level.SYSTEM, scope: Scope = None) -> Deed:
    """Give a deed of somebody with these rights."""
    by = Caller(account_id=None, email=f"{name}@example.com", level=level, scope=scope, origin="test")
    return a_deed(by=by, reason="not paid")


@dataclass
class PlanFleet:
    """Units with the serial numbers from HB000001-G on, of the entities 2 and 3 in turn."""

    pool: Pool
    settings: Plans

    async def draft(
        self,
        wish: Any = DISABLE,
        terms: Terms | None = None,
        *,
        source: Source | None = None,
        deed: Deed | None = None,
        undo_of: UUID | None = None,
    ) -> Plan:
        """Make a plan and perform its dry run."""
        deed = deed or somebody()
        draft = Draft(wish=wish, terms=terms or Terms(), scope=deed.by.scope, undo_of=undo_of)
        plan_id, summary = await dry_run.perform(
            self.pool, draft, source or Matching(ALL), deed, self.settings
        )
        async with self.pool.transaction() as conn:
            return await plans.ready(conn, plan_id, summary, deed, self.settings)

    async def listing(self, lines: Iterable[str], wish: Any = DISABLE, **more: Any) -> Plan:
        """Make a plan of the lines of a list."""
        return await self.draft(wish, source=Listing(lines, "digest"), **more)

    async def execute(self, plan: Plan, deed: Deed | None = None) -> Plan:
        """Let a plan go."""
        async with self.pool.transaction() as conn:
            return await plans.execute_plan(conn, plan.id, deed or somebody(), self.settings)

    async def act(self, act: Any, plan: Plan, deed: Deed | None = None) -> Plan:
        """Approve, pause, resume or cancel a plan."""
        async with self.pool.transaction() as conn:
            done: Plan = await act(conn, plan.id, deed or somebody())
        return done

    def executor(self, settings: Plans | None = None) -> Executor:
        """Give one that carries plans out."""
        return Executor(self.pool, Commands(), settings or self.settings)

    async def carry_out(self, plan: Plan, *, settings: Plans | None = None) -> Plan:
        """Take steps, each as if all the time had passed that the rate asks for, until nothing goes on."""
        executor, idle = self.executor(settings), 0
        before = await self.plan(plan)
        while idle < IDLE_STEPS:
            await self.passes_time()
            await executor.step()
            now = await self.plan(plan)
            same = (now.state, now.ordered, now.dropped) == (before.state, before.ordered, before.dropped)
            idle, before = idle + 1 if same else 0, now
        return before

    async def passes_time(self) -> None:
        """Let every running plan be due, with its rate unused."""
        await self.sql(
            "UPDATE command_plan SET next_at = now() - interval '1 s', metered_at = now() - interval '1 h'"
        )

    async def unit(self, number: int) -> Unit:
        """Give a unit by its running number."""
        async with self.pool.transaction() as conn:
            unit = await units.by_imei(conn, an_imei(number))
        assert unit is not None
        return unit

    async def plan(self, plan: Plan) -> Plan:
        """Give a plan as it now stands."""
        async with self.pool.transaction() as conn:
            return await plans.by_id(conn, plan.id, None)

    async def lines(self, plan: Plan, scope: Scope = None) -> list[PlanUnit]:
        """Give what became of each line of a plan."""
        return [line async for batch in plan_units.onwards(self.pool, plan.id, scope=scope) for line in batch]

    async def ends(self, plan: Plan, state: str, number: int = 1_000_000) -> None:
        """Let so many open commands of a plan come to an end."""
        await self.sql(
            "UPDATE command SET state = %s, finished_at = now(), attempt = 1, attempted_at = now(),"
            " refusal = CASE WHEN %s = 'refused' THEN 'hardware' END WHERE id IN"
            " (SELECT id FROM command WHERE plan_id = %s AND finished_at IS NULL ORDER BY id LIMIT %s)",
            *(state, state, plan.id, number),
        )
        if state == "confirmed":
            await self.sql(
                'UPDATE unit_status s SET epoch = c.epoch, mode = left(c.mode, 1)::"char" FROM command c'
                " WHERE c.unit_id = s.unit_id AND c.plan_id = %s AND c.state = 'confirmed'",
                plan.id,
            )
            await self.sql(
                "UPDATE unit_intent i SET proven = c.epoch, floor = c.epoch FROM command c"
                " WHERE c.unit_id = i.unit_id AND c.plan_id = %s AND c.state = 'confirmed'",
                plan.id,
            )

    async def value(self, statement: str, *values: object) -> Any:
        """Ask what no room tells."""
        async with self.pool.transaction() as conn:
            cursor = await conn.execute(statement.encode(), values)
            found = await cursor.fetchone()
            return None if found is None else next(iter(found.values()))

    async def sql(self, statement: str, *values: object) -> None:
        """Do what no room does."""
        async with self.pool.transaction() as conn:
            await conn.execute(statement.encode(), values)


@asynccontextmanager
async def plan_fleet(database: Database, units: int, mode: str = "e") -> AsyncIterator[PlanFleet]:
    """Open a backend with so many units that report a mode."""
    async with open_pool(database) as pool:
        fleet = PlanFleet(pool, SETTINGS)
        async with pool.transaction() as conn:
            for name in ("Own", "Foreign"):
                await entities.add(conn, name, a_deed())
            newcomers = [a_newcomer(number, entity_id=2 + (number - 1) % 2) for number in range(1, units + 1)]
            await enrolment.enrol_all(conn, newcomers, keys(), a_deed())
        await fleet.sql(STATUS, mode)
        yield fleet
