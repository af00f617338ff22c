"""Plans: one wish for many units, from its dry run to its last order; who may do what with one, and when.

A plan says what it means before it does anything; executing quotes that. A plan that disables
needs more than one that enables, and only people stop one that enables.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from commands import policy
from commands.ledger import SecondPersonNeeded
from commands.policy import Wish
from commands.selection import Exclusion, wish_of
from commands.waves import RATE_KEPT_PER_S, Hold, Terms
from protocol.messages import Mode
from registry import audit
from registry.audit import Deed
from registry.permissions import Level, Scope, ScopeTooNarrow, listed, unlisted
from runtime.errors import Conflict, NotFound
from runtime.settings import Plans
from storage.sql import Connection, execute, load, row, rows

SQL = load(__file__)


class State(StrEnum):
    """Where a plan is."""

    SELECTING = "selecting"
    """Its units are being found and judged."""

    READY = "ready"
    """It says what it would do, and waits to be executed."""

    AWAITING_APPROVAL = "awaiting_approval"
    """Executed, and a second person must agree first."""

    RUNNING = "running"
    PAUSED = "paused"
    ORDERED = "ordered"
    """Every unit has had its turn; its commands go on by themselves."""

    ABORTED = "aborted"
    """Too many commands failed; nothing more is ordered."""

    CANCELLED = "cancelled"
    """A person ended it; what was ordered stays."""

    EXPIRED = "expired"
    """It was not executed, or not approved, in time."""


MOVES: dict[State, frozenset[State]] = {
    State.SELECTING: frozenset({State.READY, State.CANCELLED, State.EXPIRED}),
    State.READY: frozenset({State.AWAITING_APPROVAL, State.RUNNING, State.CANCELLED, State.EXPIRED}),
    State.AWAITING_APPROVAL: frozenset({State.RUNNING, State.CANCELLED, State.EXPIRED}),
    State.RUNNING: frozenset({State.PAUSED, State.ORDERED, State.ABORTED, State.CANCELLED}),
    State.PAUSED: frozenset({State.RUNNING, State.CANCELLED}),
    State.ORDERED: frozenset(),
    State.ABORTED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}

FINAL = frozenset({State.ORDERED, State.ABORTED, State.CANCELLED})

ALREADY = frozenset({Exclusion.ALREADY_SO, Exclusion.ALREADY_PENDING})
"""A unit that is left out for this needs nothing now; a plan that enables speaks for it all the same."""


class PlanNotFound(NotFound):
    """There is no such plan."""


class PlanElsewhere(Conflict):
    """The plan's state does not allow this."""


class PlanExpired(Conflict):
    """The plan was not executed, or not approved, in time; make a new one."""


class PlanEmpty(Conflict):
    """No unit of this plan is fit to be told so."""


class PlanGoesOn(Conflict):
    """A plan that may still order something cannot be undone."""


class NothingToUndo(Conflict):
    """Only a plan that disables, and has ordered something, can be undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A plan to be: what is wanted, how it goes on, whom it may reach, and which plan it undoes."""

    wish: Wish
    terms: Terms
    scope: Scope
    undo_of: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One plan as its row tells it, read at `read_at` by the database's clock.

    `scope` are the entities among which its units were looked for. `summary` is what its dry run
    found, None while that goes on; the execution of a plan that enables adds to its `included`. Up to
    `place` every line has had its turn; the rate is used up until
    `metered_at`; the next step is at `next_at`.
    """

    id: UUID
    state: State
    wish: Wish
    scope: Scope
    selection: dict[str, Any]
    undo_of: UUID | None
    reason: str
    authored_by: str
    authored_at: datetime
    expires_at: datetime
    terms: Terms
    summary: dict[str, Any] | None
    included: int
    ordered: int
    dropped: int
    executed_by: str | None
    executed_at: datetime | None
    approved_by: str | None
    approved_at: datetime | None
    finished_at: datetime | None
    waits_for: Hold | None
    aborted_because: dict[str, Any] | None
    place: int
    metered_at: datetime
    next_at: datetime
    read_at: datetime

    @classmethod
    def from_row(cls, found: DictRow) -> Plan:
        """Build from a row of `command_plan`; what was not executed in time is expired.

        Rates had no lower bound once: what is slower than one command a day goes as fast as that.
        """
        waits_for = found["waits_for"]
        made = {
            "state": State(found["state"]),
            "wish": wish_of(Mode(found["mode"]), found["after_s"]),
            "scope": unlisted(found["scope"]),
            "terms": Terms(
                rate_per_s=max(found["rate_per_s"], RATE_KEPT_PER_S),
                waves_pct=tuple(found["waves_pct"]),
                gate_pct=found["gate_pct"],
                abort_pct=found["abort_pct"],
                abort_sample=found["abort_sample"],
            ),
            "waits_for": None if waits_for is None else Hold(waits_for),
        }
        plan = cls(**{name: found[name] for name in cls.__slots__ if name not in made} | made)
        late = State.EXPIRED in MOVES[plan.state] and plan.expires_at <= plan.read_at
        return replace(plan, state=State.EXPIRED) if late else plan

    @property
    def already_on(self) -> int:
        """How many units a plan that enables left out at its dry run because nothing was to be told them."""
        left_out = (self.summary or {}).get("excluded", {})
        return 0 if self.wish.disables else sum(left_out.get(one, 0) for one in ALREADY)

    @property
    def spoken_for(self) -> frozenset[Exclusion]:
        """Why lines were left out at the dry run whose turn comes all the same, once it is executed.

        None of a plan that was executed by a release which did not count them.
        """
        counted = self.summary is not None and self.included > self.summary["included"]
        return ALREADY if counted else frozenset()

    def require(self, *states: State) -> None:
        """Raise `PlanExpired` or `PlanElsewhere` unless the plan is in one of these states."""
        if self.state in states:
            return
        if self.state is State.EXPIRED:
            raise PlanExpired("This plan has expired; make a new one.", expires_at=self.expires_at)
        raise PlanElsewhere(
            f"This plan is {self.state}; this needs one that is {' or '.join(states)}.",
            state=str(self.state),
            needed=[str(one) for one in states],
        )


async def begin(conn: Connection, draft: Draft, told: dict[str, Any], deed: Deed, settings: Plans) -> UUID:
    """Make a plan whose units are about to be found; needs the level that its wish needs, and a reason.

    Raises `ScopeTooNarrow` for a plan that reaches no entity.
    """
    deed.by.require(policy.needed_level(draft.wish))
    if draft.scope is not None and not draft.scope:
        raise ScopeTooNarrow("Your scope holds no entity.", needed=None, have=[])
    deed.require_reason()
    draft.terms.require_brisk()
    if not draft.wish.disables:
        draft.terms.require_unheld()
    plan_id = uuid7()
    await execute(
        conn,
        SQL.begin,
        id=plan_id,
        mode=str(draft.wish.mode),
        after_s=draft.wish.after_s,
        scope=listed(draft.scope),
        selection=Jsonb(told),
        undo_of=draft.undo_of,
        reason=deed.reason,
        by=deed.by.email,
        life_s=settings.plan_life_s,
        rate_per_s=draft.terms.rate_per_s,
        waves_pct=list(draft.terms.waves_pct),
        gate_pct=draft.terms.gate_pct,
        abort_pct=draft.terms.abort_pct,
        abort_sample=draft.terms.abort_sample,
    )
    return plan_id


async def ready(
    conn: Connection, plan_id: UUID, summary: dict[str, Any], deed: Deed, settings: Plans
) -> Plan:
    """Let a plan say what its dry run has found; from now on it may be executed, for a while."""
    plan = await lock(conn, plan_id, deed.by.scope)
    plan.require(State.SELECTING)
    return await _move(
        conn,
        plan,
        State.READY,
        deed,
        "draft_plan",
        summary=summary,
        included=summary["included"],
        expires_at=plan.read_at + timedelta(seconds=settings.plan_life_s),
    )


async def execute_plan(conn: Connection, plan_id: UUID, deed: Deed, settings: Plans) -> Plan:
    """Let a plan go, or first wait for a second person when it switches off more than the setting admits.

    One that enables includes from now on whoever was on at its dry run: they may have been told to switch
    off since, and are judged anew when their turn comes.
    """
    plan = await lock(conn, plan_id, deed.by.scope)
    deed.by.require(policy.needed_level(plan.wish))
    plan.require(State.READY)
    included = plan.included + plan.already_on
    if included == 0:
        raise PlanEmpty("No unit of this plan is fit to be told so.", summary=plan.summary)
    done = {"executed_by": deed.by.email, "executed_at": plan.read_at}
    if plan.wish.disables and plan.included > settings.plan_second_person_above:
        until = plan.read_at + timedelta(seconds=settings.plan_approval_life_s)
        return await _move(
            conn, plan, State.AWAITING_APPROVAL, deed, "execute_plan", expires_at=until, **done
        )
    return await _run(conn, plan, deed, "execute_plan", included=included, **done)


async def approve(conn: Connection, plan_id: UUID, deed: Deed) -> Plan:
    """Agree, as a second person, to a plan that disables many."""
    plan = await lock(conn, plan_id, deed.by.scope)
    deed.by.require(Level.ADMIN)
    plan.require(State.AWAITING_APPROVAL)
    if deed.by.email in {plan.authored_by, plan.executed_by}:
        raise SecondPersonNeeded("Who made or executed a plan cannot approve it: somebody else must.")
    return await _run(conn, plan, deed, "approve_plan", approved_by=deed.by.email, approved_at=plan.read_at)


async def pause(conn: Connection, plan_id: UUID, deed: Deed) -> Plan:
    """Order nothing more for now."""
    plan = await lock(conn, plan_id, deed.by.scope)
    deed.by.require(Level.TECHNICAL)
    plan.require(State.RUNNING)
    return await _move(conn, plan, State.PAUSED, deed, "pause_plan", waits_for=None)


async def resume(conn: Connection, plan_id: UUID, deed: Deed) -> Plan:
    """Go on with a paused plan; needs what executing it needs."""
    plan = await lock(conn, plan_id, deed.by.scope)
    deed.by.require(policy.needed_level(plan.wish))
    plan.require(State.PAUSED)
    return await _run(conn, plan, deed, "resume_plan")


async def cancel(conn: Connection, plan_id: UUID, deed: Deed) -> Plan:
    """Order nothing more, for ever; what was ordered stays, and `undo` is how it is taken back."""
    plan = await lock(conn, plan_id, deed.by.scope)
    deed.by.require(Level.TECHNICAL)
    plan.require(*(state for state in State if State.CANCELLED in MOVES[state]))
    return await _move(
        conn, plan, State.CANCELLED, deed, "cancel_plan", finished_at=plan.read_at, waits_for=None
    )


def require_undoable(plan: Plan) -> None:
    """Raise unless a plan has disabled something and will not disable more."""
    if not plan.wish.disables or plan.ordered == 0:
        raise NothingToUndo(
            "Only a plan that disables, and has ordered something, can be undone.",
            mode=str(plan.wish.mode),
            ordered=plan.ordered,
        )
    if plan.state not in FINAL:
        raise PlanGoesOn(f"This plan is {plan.state}; cancel it first.", state=str(plan.state))


async def by_id(conn: Connection, plan_id: UUID, scope: Scope) -> Plan:
    """Give a plan whose whole scope lies within one; raises `PlanNotFound`."""
    return _found(await row(conn, Plan.from_row, SQL.by_id, id=plan_id, scope=listed(scope)), plan_id)


async def lock(conn: Connection, plan_id: UUID, scope: Scope) -> Plan:
    """Give a plan like `by_id`, and hold it until the transaction ends."""
    return _found(await row(conn, Plan.from_row, SQL.lock, id=plan_id, scope=listed(scope)), plan_id)


async def page(conn: Connection, *, scope: Scope, limit: int, before: UUID | None = None) -> list[Plan]:
    """List plans within a scope, newest first; `before` is the id of the last one of the page before."""
    return await rows(conn, Plan.from_row, SQL.page, scope=listed(scope), limit=limit, before=before)


async def tally(conn: Connection, plan_id: UUID) -> dict[str, int]:
    """Count a plan's commands by their states."""
    return dict(await rows(conn, lambda one: (one["state"], one["number"]), SQL.tally, plan_id=plan_id))


async def write(conn: Connection, plan: Plan) -> None:
    """Write what can change of a plan that is locked."""
    await execute(
        conn,
        SQL.write,
        id=plan.id,
        state=str(plan.state),
        summary=None if plan.summary is None else Jsonb(plan.summary),
        expires_at=plan.expires_at,
        included=plan.included,
        ordered=plan.ordered,
        dropped=plan.dropped,
        executed_by=plan.executed_by,
        executed_at=plan.executed_at,
        approved_by=plan.approved_by,
        approved_at=plan.approved_at,
        finished_at=plan.finished_at,
        waits_for=plan.waits_for and str(plan.waits_for),
        aborted_because=None if plan.aborted_because is None else Jsonb(plan.aborted_because),
        place=plan.place,
        metered_at=plan.metered_at,
        next_at=plan.next_at,
    )


async def _run(conn: Connection, plan: Plan, deed: Deed, action: str, **changes: Any) -> Plan:
    """Let a plan go from now on."""
    return await _move(
        conn, plan, State.RUNNING, deed, action, metered_at=plan.read_at, next_at=plan.read_at, **changes
    )


async def _move(conn: Connection, plan: Plan, to: State, deed: Deed, action: str, **changes: Any) -> Plan:
    """Move a plan that is locked, and write down who did it and why."""
    deed.require_reason()
    moved = replace(plan, state=to, **changes)
    await write(conn, moved)
    told = {
        "state": moved.state,
        "mode": moved.wish.mode,
        "after_s": moved.wish.after_s,
        "terms": asdict(moved.terms),
        "selection": moved.selection,
        "listed": (moved.summary or {}).get("listed"),
        "included": moved.included,
        "ordered": moved.ordered,
    }
    await audit.write(conn, deed, action, "plan", plan.id, before={"state": plan.state}, after=told)
    return moved


def _found(plan: Plan | None, plan_id: UUID) -> Plan:
    if plan is None:
        raise PlanNotFound("There is no plan with this id.", id=str(plan_id))
    return plan
