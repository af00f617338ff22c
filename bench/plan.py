"""Group `plan`: how long it takes until a plan of many commands is accepted.

That is its dry run and, once it is executed, the orders that a gateway makes of it; what it takes
to deliver them is group `command`'s.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from uuid import UUID

import psycopg

from bench.figures import Figure
from bench.ingest import Tell
from bench.register import register
from bench.stack import DidNotHappen, Stack, serve
from commands import dry_run, plans, selection
from commands.plans import Draft, State
from commands.selection import Filter, Matching
from commands.waves import RATE_MAX_PER_S, Terms
from deploy.local.postgres import Role
from protocol.messages import Mode
from registry.audit import Deed
from registry.permissions import shell
from runtime import clock
from runtime.settings import Plans
from storage.pool import Pool, open_pool

UNITS = 100_000
LIMIT_S = 180.0
POLL_S = 0.05
SETTINGS = Plans()

REPORTED = """
INSERT INTO unit_status (unit_id, life, boot, seq, reported_at, at, mode, epoch, contact_at)
SELECT id, 1, 1, 1, now(), now(), 'o', 0, now() - interval '1 h' FROM unit
"""
ENDED = "UPDATE command SET state = 'cancelled', finished_at = now() WHERE finished_at IS NULL"
SETTLE = (
    "VACUUM (ANALYZE) command",
    "VACUUM (ANALYZE) unit_intent",
    "VACUUM (ANALYZE) unit_status",
    "CHECKPOINT",
)
ORDERED = "SELECT count(*), count(DISTINCT unit_id) FROM command WHERE plan_id = %s"

WORKLOAD = (
    f"dry run of a filter and orders of {UNITS:,} enables to units that are away, one gateway, "
    "no other load; fsync on, synchronous_commit on"
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A plan that was accepted: seconds, of these its dry run, and for how many units once and once more."""

    seconds: float
    dry_run_s: float
    units: int
    twice: int


async def measure(runs: int, tell: Tell) -> list[Figure]:
    """Have the same fleet enabled, so many times over."""
    tell("plan: servers and units")
    async with serve("heliograph_bench_plan") as stack, open_pool(stack.settings) as pool:
        await register(stack, UNITS)
        await _run(stack, REPORTED)
        found = []
        async with stack.gateway():
            for place in range(1, runs + 1):
                tell(f"plan: round {place} of {runs}")
                await _run(stack, ENDED, *SETTLE)
                found.append(await _accept(stack, pool))
    return [
        _figure("bulk_accept_s", [one.seconds for one in found], found, 20),
        _figure("bulk_dry_run_s", [one.dry_run_s for one in found], found, None),
    ]


async def _accept(stack: Stack, pool: Pool) -> Accepted:
    """Make a plan of all units, execute it, and wait until each has its command."""
    deed = Deed(by=shell(), now=clock.now(), reason="to be measured")
    wish, terms = selection.wish_of(Mode.ENABLED), Terms(rate_per_s=RATE_MAX_PER_S)
    began = time.monotonic()
    plan_id, summary = await dry_run.perform(
        pool, Draft(wish=wish, terms=terms, scope=None), Matching(Filter()), deed, SETTINGS
    )
    async with pool.transaction() as conn:
        await plans.ready(conn, plan_id, summary, deed, SETTINGS)
    drafted = time.monotonic()
    async with pool.transaction() as conn:
        await plans.execute_plan(conn, plan_id, deed, SETTINGS)
    await _ordered(pool, plan_id)
    ended = time.monotonic()
    async with await psycopg.AsyncConnection.connect(stack.database.url(Role.SUPERUSER)) as conn:
        number, units = await (await conn.execute(ORDERED, [plan_id])).fetchone() or (0, 0)
    return Accepted(ended - began, drafted - began, units, number - units)


async def _ordered(pool: Pool, plan_id: UUID) -> None:
    """Wait until every unit of a plan had its turn."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        async with pool.transaction() as conn:
            plan = await plans.by_id(conn, plan_id, None)
        if plan.state is State.ORDERED:
            return
        await asyncio.sleep(POLL_S)
    raise DidNotHappen("A plan was not ordered in time.", seconds=LIMIT_S)


async def _run(stack: Stack, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        stack.database.url(Role.SUPERUSER), autocommit=True
    ) as conn:
        for statement in statements:
            await conn.execute(statement.encode())


def _figure(key: str, seconds: list[float], found: list[Accepted], goal: float | None) -> Figure:
    return Figure(
        key=f"command.{key}",
        unit="s",
        runs=tuple(seconds),
        workload=WORKLOAD,
        n=UNITS * len(found),
        lost=sum(UNITS - one.units for one in found),
        duplicates=sum(one.twice for one in found),
        goal=goal,
    )
