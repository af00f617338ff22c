"""Plans: one wish for many units; a dry run says what it would do, executing quotes it (S1.17, S1.18)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse

from api import uploads
from api.auth import CanCommand, CanDisable, CanPlan, CanRead
from api.connection import ThePool, Transaction
from api.once import Key, Once, OnlyOnce
from api.paging import Page, PageQuery, Place, behind, page
from api.plan_shapes import NewListPlan, NewPlan, PlanStory, PlanUnitView, PlanView, Why
from api.problems import documented
from api.sheets import Csv, Row, sheet
from api.uploads import Uploaded
from commands import dry_run, plan_units, plans, policy, selection, waves
from commands.plan_units import Outcome, PlanUnit
from commands.plans import Draft, Plan
from commands.selection import Listing, Matching, Reversal, Source
from protocol.messages import Mode
from registry import idempotency
from registry.audit import Deed
from registry.permissions import Caller
from runtime import clock
from runtime.settings import Plans
from storage.pool import Pool
from storage.sql import Connection

router = APIRouter(prefix="/v1", tags=["plans"])

UNIT_COLUMNS = tuple(PlanUnit.__dataclass_fields__)


async def settings_of(request: Request) -> Plans:
    """Give the bounds of plans."""
    settings: Plans = request.app.state.plans
    return settings


Bounds = Annotated[Plans, Depends(settings_of)]


class BeforePlan(Place):
    """The last plan of a page."""

    id: UUID


class AfterRow(Place):
    """The last line of a page."""

    row: int


class PlanUnitQuery(PageQuery):
    """Which lines of a plan."""

    outcome: Outcome | None = None


class _DryRun:
    """The way of a dry run: longer than a transaction, and yet the same answer for the same request."""

    def __init__(self, request: Request, key: Key, caller: CanPlan, pool: ThePool, settings: Bounds) -> None:
        self._pool: Pool = pool
        self._caller: Caller = caller
        self._settings: Plans = settings
        self._key: str = key
        self._route = f"{request.method} {request.url.path}?{request.url.query}"

    async def perform(self, draft: Draft, source: Source, reason: str, body: bytes) -> JSONResponse:
        """Find and judge the units, unless an earlier call has; two calls at once both do, and one counts."""
        self._caller.require(policy.needed_level(draft.wish))
        once = idempotency.Request(key=self._key, route=self._route, body=body)
        deed = Deed(by=self._caller, now=clock.now(), reason=reason)
        async with self._pool.transaction() as conn:
            if earlier := await Once(conn, self._caller, once).earlier():
                await plans.by_id(conn, UUID(earlier["id"]), self._caller.scope)
                return JSONResponse(earlier, 201, {"Location": f"/v1/plans/{earlier['id']}"})
        plan_id, summary = await dry_run.perform(self._pool, draft, source, deed, self._settings)
        async with self._pool.transaction() as conn:

            async def work() -> PlanView:
                return PlanView.of(await plans.ready(conn, plan_id, summary, deed, self._settings))

            async def allowed(kept: dict[str, Any]) -> None:
                await plans.by_id(conn, UUID(kept["id"]), self._caller.scope)

            made = Once(conn, self._caller, once)
            return await made.answer(201, work, under="/v1/plans", allowed=allowed)


DryRun = Annotated[_DryRun, Depends(_DryRun)]
ACTING = documented(400, 401, 403, 404, 409, 413, 415, 422, 503)


@router.post("/plans", status_code=201, response_model=PlanView, responses=ACTING)
async def draft_plan(wanted: NewPlan, request: Request, caller: CanPlan, run: DryRun) -> JSONResponse:
    """Say what would be done to the units that fit a filter; nothing is ordered before it is executed."""
    source = Matching(wanted.filter.filter)
    draft = wanted.draft(caller, wanted.filter.entity_id)
    return await run.perform(draft, source, wanted.reason, await request.body())


@router.post(
    "/plans.csv",
    status_code=201,
    response_model=PlanView,
    responses=ACTING,
    openapi_extra=uploads.IN_THE_DOCUMENT,
)
async def draft_list_plan(
    wanted: Annotated[NewListPlan, Query()], caller: CanPlan, run: DryRun, upload: Uploaded
) -> JSONResponse:
    """Say what would be done to the units of a list: IMEIs or serial numbers, one a line.

    They stand in the column `imei`, `serial_number`, `serial` or `unit` if the first line names one, else in
    the first; under the first three only such names count. Every line is accounted for, by its row.
    """
    source = Listing(upload.lines, upload.digest.hex())
    return await run.perform(wanted.draft(caller), source, wanted.reason, upload.digest)


@router.get("/plans", responses=documented(401, 403, 422, 503))
async def list_plans(
    query: Annotated[PageQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[PlanView]:
    """List the plans within the caller's scope, newest first."""
    last = behind(BeforePlan, query.cursor)
    found = await plans.page(
        conn, scope=caller.scope, limit=query.limit + 1, before=last.id if last else None
    )
    return page([PlanView.of(plan) for plan in found], query.limit, lambda plan: BeforePlan(id=plan.id))


@router.get("/plans/{plan_id}", responses=documented(401, 404, 422, 503))
async def show_plan(plan_id: UUID, caller: CanRead, conn: Transaction) -> PlanStory:
    """Show one plan, and how its commands stand."""
    plan = await plans.by_id(conn, plan_id, caller.scope)
    return PlanStory.of(plan, commands=await plans.tally(conn, plan_id))


@router.get("/plans/{plan_id}/units", responses=documented(401, 404, 422, 503))
async def list_plan_units(
    plan_id: UUID, query: Annotated[PlanUnitQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[PlanUnitView]:
    """List what became of each line of a plan."""
    last = behind(AfterRow, query.cursor)
    await plans.by_id(conn, plan_id, caller.scope)
    found = await plan_units.page(
        conn,
        plan_id,
        scope=caller.scope,
        limit=query.limit + 1,
        after=last.row if last else 0,
        outcome=query.outcome,
    )
    shown = [PlanUnitView.of(line) for line in found]
    return page(shown, query.limit, lambda line: AfterRow(row=line.row))


@router.get("/plans/{plan_id}/units.csv", response_class=Csv, responses=documented(401, 404, 422, 503))
async def export_plan_units(plan_id: UUID, caller: CanRead, conn: Transaction, pool: ThePool) -> Csv:
    """Give what became of every line of a plan as CSV; a file that breaks off is cut."""
    plan = await plans.by_id(conn, plan_id, caller.scope)
    batches = plan_units.onwards(pool, plan.id, scope=caller.scope)
    return sheet(f"plan-{plan.id}", UNIT_COLUMNS, _rows(batches))


@router.post("/plans/{plan_id}/execute", response_model=PlanView, responses=ACTING)
async def execute_plan(
    plan_id: UUID, wanted: Why, caller: CanCommand, conn: Transaction, once: OnlyOnce, settings: Bounds
) -> JSONResponse:
    """Let a plan go; one that switches off many waits for a second person first."""

    async def act(conn: Connection, plan_id: UUID, deed: Deed) -> Plan:
        return await plans.execute_plan(conn, plan_id, deed, settings)

    return await _act(act, plan_id, wanted, caller, conn, once, as_wished=True)


@router.post("/plans/{plan_id}/approve", response_model=PlanView, responses=ACTING)
async def approve_plan(
    plan_id: UUID, wanted: Why, caller: CanDisable, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Agree to a plan that waits for a second person: neither its author nor who executed it."""
    return await _act(plans.approve, plan_id, wanted, caller, conn, once)


@router.post("/plans/{plan_id}/pause", response_model=PlanView, responses=ACTING)
async def pause_plan(
    plan_id: UUID, wanted: Why, caller: CanCommand, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Order nothing more for now."""
    return await _act(plans.pause, plan_id, wanted, caller, conn, once)


@router.post("/plans/{plan_id}/resume", response_model=PlanView, responses=ACTING)
async def resume_plan(
    plan_id: UUID, wanted: Why, caller: CanCommand, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Go on with a paused plan."""
    return await _act(plans.resume, plan_id, wanted, caller, conn, once, as_wished=True)


@router.post("/plans/{plan_id}/cancel", response_model=PlanView, responses=ACTING)
async def cancel_plan(
    plan_id: UUID, wanted: Why, caller: CanCommand, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Order nothing more, for ever; what was ordered stays until it is undone."""
    return await _act(plans.cancel, plan_id, wanted, caller, conn, once)


@router.post("/plans/{plan_id}/undo", status_code=201, response_model=PlanView, responses=ACTING)
async def undo_plan(
    plan_id: UUID, wanted: Why, request: Request, caller: CanPlan, run: DryRun, pool: ThePool
) -> JSONResponse:
    """Make the plan that enables all that an ended plan has disabled; it is executed like any other."""
    async with pool.transaction() as conn:
        undone = await plans.by_id(conn, plan_id, caller.scope)
    plans.require_undoable(undone)
    draft = Draft(wish=selection.wish_of(Mode.ENABLED), terms=waves.FREE, scope=undone.scope, undo_of=plan_id)
    return await run.perform(draft, Reversal(plan_id), wanted.reason, await request.body())


async def _act(
    act: Callable[[Connection, UUID, Deed], Awaitable[Plan]],
    plan_id: UUID,
    wanted: Why,
    caller: Caller,
    conn: Connection,
    once: Once,
    *,
    as_wished: bool = False,
) -> JSONResponse:
    """Act on a plan once; `as_wished` where that needs the level that the plan's wish needs."""
    plan = await plans.by_id(conn, plan_id, caller.scope)
    if as_wished:
        caller.require(policy.needed_level(plan.wish))

    async def work() -> PlanView:
        return PlanView.of(await act(conn, plan_id, Deed(by=caller, now=clock.now(), reason=wanted.reason)))

    return await once.answer(200, work)


async def _rows(batches: AsyncIterator[list[PlanUnit]]) -> AsyncIterator[list[Row]]:
    async for batch in batches:
        yield [[_plain(getattr(line, name)) for name in UNIT_COLUMNS] for line in batch]


def _plain(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value
