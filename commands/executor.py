"""Carries plans out, step by step; any number of executors may run, in any process.

A step is one transaction that holds its plan: it orders what rate, waves, gate and daily cap admit
now, writes down what became of each unit, and tells when the next is due. So two executors never
order the same unit for the same plan, and one that dies in a step has not taken it. A plan whose step
fails stops itself alone: neither other plans nor the gateway, which takes in heartbeats beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter

from commands import bulk, plans, reconcile, selection, waves
from commands.bulk import Mandate
from commands.plans import Plan, State
from commands.selection import Exclusion
from commands.states import State as Command
from commands.waves import Abort, Done, Go, Hold, Progress, Wait
from registry import wording
from registry.audit import Deed
from registry.permissions import Caller, Level
from runtime.errors import Unavailable
from runtime.retry import until_stopped
from runtime.services import pause
from runtime.settings import Commands, Plans
from storage.arrays import int4s, texts, uuids
from storage.errors import NotMigrated
from storage.pool import Pool
from storage.portions import Portion, Portions
from storage.sql import Connection, execute, load, row, tuples, value

BATCH = 1_000
"""Commands ordered in one transaction at most: the units' contacts wait for it."""

POLL_S = 0.5
REST_S = 2.0
"""A plan that waits for its units is looked at again so much later at least."""

REST_FACTOR = 20
"""And as much later as the look took, so many times: counting what a large plan has come to is not free."""

PUT_OFF_S = 60.0
"""A plan that enables and whose step failed is tried again so much later."""

TURN_S = 5.0
"""One whose step the database did not finish, so much later: others have their turn meanwhile."""

BY = Caller(account_id=None, email=reconcile.BY, level=Level.SYSTEM, scope=None, origin="gateway")
"""Who pauses a plan whose step failed, as the audit tells it."""

ORDERS = Counter("heliograph_plan_orders_total", "commands that plans have ordered", ["mode"])
ABORTS = Counter("heliograph_plan_aborts_total", "plans that were given up because too many commands failed")

SQL = load(__file__)
log = structlog.get_logger()


class Executor:
    """One that carries plans out."""

    def __init__(self, pool: Pool, commands: Commands, settings: Plans) -> None:
        self._pool = pool
        self._commands = commands
        self._settings = settings
        self._portions = Portions(BATCH)

    async def serve(self, stop: asyncio.Event) -> None:
        """Carry out until stopped."""
        await until_stopped("plans", self._work, stop)

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if not await self.step():
                await pause(stop, POLL_S)

    async def step(self) -> bool:
        """Take the next step of a plan that is due, those that enable first; tell whether there was one."""
        plan: Plan | None = None
        try:
            with self._portions.next() as portion:
                portion.number = 0  # until something is ordered: a look does not tell whether more fits
                async with self._pool.transaction() as conn:
                    plan = await row(conn, Plan.from_row, SQL.claim)
                    if plan is None:
                        return False
                    moved = await self._advance(conn, plan, portion)
                    await plans.write(conn, moved)
        except NotMigrated:
            raise
        except Unavailable:
            if plan is not None:
                await self._put_off(plan.id, TURN_S)
            raise
        except Exception as error:
            if plan is None:
                raise
            log.exception("plan_failed", plan=str(plan.id))
            await self._set_aside(plan, error)
            return True
        _tell(plan, moved)
        return True

    async def _set_aside(self, plan: Plan, error: Exception) -> None:
        """Pause a plan whose step failed, until a person resumes it; one that enables is only put off."""
        if not plan.wish.disables:
            await self._put_off(plan.id, PUT_OFF_S)
            return
        async with self._pool.transaction() as conn:
            held = await plans.lock(conn, plan.id, None)
            if held.state is State.RUNNING:  # else somebody was faster
                await plans.pause(conn, plan.id, Deed(by=BY, now=held.read_at, reason=_reason(error)))

    async def _put_off(self, plan_id: UUID, seconds: float) -> None:
        """Have a plan wait before its next step, unless somebody stopped it meanwhile."""
        async with self._pool.transaction() as conn:
            plan = await plans.lock(conn, plan_id, None)
            if plan.state is State.RUNNING:
                await plans.write(conn, replace(plan, next_at=plan.read_at + timedelta(seconds=seconds)))

    async def _advance(self, conn: Connection, plan: Plan, portion: Portion) -> Plan:
        """Do what may be done now, and give the plan as it then stands."""
        began, now, rate = time.monotonic(), plan.read_at, plan.terms.rate_per_s
        step = waves.step(
            plan.terms,
            await _progress(conn, plan),
            by_rate=min(waves.allowance(rate, plan.metered_at, now), portion.most),
            by_cap=await self._left_today(conn, plan),
        )
        match step:
            case Go(number):
                return await self._order(conn, plan, number, portion)
            case Wait(Hold.RATE):
                return replace(plan, waits_for=Hold.RATE, next_at=_next_turn(plan))
            case Wait(hold):
                rest_s = max(REST_S, REST_FACTOR * (time.monotonic() - began))
                return replace(plan, waits_for=hold, next_at=now + timedelta(seconds=rest_s))
            case Abort(failed, ended, term):
                because = {"failed": failed, "ended": ended, term: getattr(plan.terms, term)}
                return _end(plan, State.ABORTED, aborted_because=because)
            case Done():
                return _end(plan, State.ORDERED)

    async def _left_today(self, conn: Connection, plan: Plan) -> int:
        """Give how many more may be told to switch off now; plans that disable ask one after the other."""
        if not plan.wish.disables:
            return BATCH
        cap = self._settings.plan_disables_per_day
        await execute(conn, SQL.lock_cap)
        return cap - int(await value(conn, SQL.disabled_today, cap=cap))

    async def _order(self, conn: Connection, plan: Plan, number: int, portion: Portion) -> Plan:
        """Order of the next units what is still fit for each."""
        turn = await _turn(conn, plan, number, portion.most)
        portion.number = len(turn)
        mandate = Mandate(
            plan_id=plan.id,
            since=plan.authored_at,
            by=plan.executed_by or plan.authored_by,
            reason=plan.reason,
            scope=plan.scope,
        )
        unit_ids = [unit_id for _, unit_id in turn]
        verdicts = await bulk.order_all(conn, unit_ids, plan.wish, mandate, self._commands)
        await _settle(conn, plan, turn, verdicts)
        ordered = sum(isinstance(verdict, UUID) for verdict in verdicts.values())
        moved = replace(
            plan,
            ordered=plan.ordered + ordered,
            dropped=plan.dropped + len(turn) - ordered,
            place=turn[-1][0],
            waits_for=None,
            metered_at=waves.metered(plan.terms.rate_per_s, plan.metered_at, plan.read_at, ordered),
        )
        return replace(moved, next_at=_next_turn(moved))


async def _progress(conn: Connection, plan: Plan) -> Progress:
    """Tell how far a plan is; how its commands end matters only where that can stop it."""
    came = await plans.tally(conn, plan.id) if plan.wish.disables else {}
    return Progress(
        included=plan.included,
        ordered=plan.ordered,
        dropped=plan.dropped,
        confirmed=came.get(Command.CONFIRMED, 0),
        failed=sum(came.get(state, 0) for state in (Command.REFUSED, Command.EXPIRED)),
        withdrawn=sum(came.get(state, 0) for state in (Command.SUPERSEDED, Command.CANCELLED)),
    )


async def _turn(conn: Connection, plan: Plan, number: int, most: int) -> list[tuple[int, int]]:
    """Give place and unit of the lines whose turn is next, so many that may come to an order, `most` in all.

    Lines that were left out at the dry run and are likely to be again come on top: a low rate is one of
    orders, and a step for every unit that is on would keep the others waiting.
    """
    spoken_for = plan.spoken_for
    found = await tuples(
        conn,
        SQL.turn,
        plan_id=plan.id,
        after=plan.place,
        limit=most if spoken_for else number,
        spoken_for=texts(sorted(spoken_for)),
    )
    idle = await _idle(conn, plan, [unit_id for _, unit_id, left_out in found if left_out])
    orders = accumulate(unit_id not in idle for _, unit_id, _ in found)
    return [
        (place, unit_id)
        for (place, unit_id, _), so_far in zip(found, orders, strict=True)
        if so_far <= number
    ]


async def _idle(conn: Connection, plan: Plan, unit_ids: Sequence[int]) -> set[int]:
    """Give those of some units to which nothing is to be told, as far as can be seen without their locks."""
    if not unit_ids:
        return set()
    await selection.one_by_one(conn)
    known = await selection.facts(conn, unit_ids, plan.scope)
    return {unit_id for unit_id, unit in known.items() if selection.judge(plan.wish, unit)}


async def _settle(
    conn: Connection, plan: Plan, turn: Sequence[tuple[int, int]], verdicts: Mapping[int, UUID | Exclusion]
) -> None:
    """Write down what became of units whose turn it was."""
    came = [(place, verdicts[unit_id]) for place, unit_id in turn]
    await execute(
        conn,
        SQL.settle,
        plan_id=plan.id,
        places=int4s([place for place, _ in came]),
        command_ids=uuids([verdict if isinstance(verdict, UUID) else None for _, verdict in came]),
        exclusions=texts([verdict if isinstance(verdict, Exclusion) else None for _, verdict in came]),
    )


def _next_turn(plan: Plan) -> datetime:
    """Give when the rate next admits a batch worth a transaction, or one command where it is that low."""
    rate = plan.terms.rate_per_s
    return plan.metered_at + timedelta(seconds=max(1 / rate, min(BATCH / rate, POLL_S)))


def _reason(error: Exception) -> str:
    """Name an error, as a reason that the audit takes."""
    told = "".join(char if char.isprintable() else " " for char in f"{type(error).__name__}: {error}")
    return wording.reason(f"Its step failed: {told}"[: wording.REASON_LIMIT])


def _tell(before: Plan, after: Plan) -> None:
    """Tell of a step that is committed."""
    ORDERS.labels(str(after.wish.mode)).inc(after.ordered - before.ordered)
    if after.state is State.ABORTED:
        ABORTS.inc()
        log.warning("plan_aborted", plan=str(after.id), because=after.aborted_because)
    elif after.state is State.ORDERED:
        log.info("plan_ordered", plan=str(after.id), ordered=after.ordered, dropped=after.dropped)


def _end(plan: Plan, state: State, **changes: Any) -> Plan:
    return replace(plan, state=state, finished_at=plan.read_at, waits_for=None, **changes)
