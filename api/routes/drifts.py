"""Units that contradict what is wanted of them: the work-list with both views, and what people decide."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import JSONResponse

from api.auth import CanCommand, CanRead
from api.connection import Transaction
from api.once import OnlyOnce
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.routes.commands import Deadlines
from api.routes.units import UnitName
from api.shapes import BodyId, Id, Reason, Shape
from commands import drift
from commands.drift import Drift, Resolution
from commands.intent import Cause
from commands.resolving import Decision, resolve
from protocol.identity import Imei, SerialNumber
from protocol.messages import Mode
from registry import units
from registry.audit import Deed
from runtime import clock
from runtime.errors import HeliographError

MOST = 200
"""Drifts that are settled at once."""

router = APIRouter(prefix="/v1", tags=["drifts"])


class DriftQuery(PageQuery):
    """Which open drifts; `given_up` are those for which nothing is sent any more."""

    cause: Cause | None = None
    given_up: bool | None = None


class AfterDrift(Place):
    """The last drift of a page of open ones."""

    id: Id


class BeforeDrift(Place):
    """The last drift of a page of a unit's."""

    id: Id


class DriftView(Shape):
    """A contradiction: what is `desired` and what the unit reports, since when, and its likely cause.

    `sendings` counts how often the wish went out again because of it; from `gave_up_at` on it waits
    for a person.
    """

    id: int
    imei: Imei
    serial_number: SerialNumber
    cause: Cause
    likely_cause: str
    opened_at: datetime
    seen_at: datetime
    desired: Mode | None
    reported_mode: Mode
    reported_epoch: int
    evidence: dict[str, Any]
    sendings: int
    gave_up_at: datetime | None
    closed_at: datetime | None
    closed_by: str | None
    resolution: Resolution | None
    reason: str | None

    @classmethod
    def of(cls, found: Drift) -> Self:
        """Show a drift."""
        names = cls.model_fields.keys() - {"likely_cause"}
        told = {name: getattr(found, name) for name in names}
        return cls.model_validate(told | {"likely_cause": found.cause.meaning})


class Decided(Shape):
    """What is to be done about a drift, and why."""

    decision: Decision
    reason: Reason


class ManyDecided(Decided):
    """The same for several drifts."""

    ids: Annotated[list[BodyId], Field(min_length=1, max_length=MOST)]


class Settled(Shape):
    """What became of one of several: the drift as it stands, or why it was refused."""

    id: int
    drift: DriftView | None
    refused: str | None


class ManySettled(Shape):
    """What became of each."""

    items: list[Settled]


@router.get("/drifts", responses=documented(401, 422, 503))
async def list_open_drifts(
    query: Annotated[DriftQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[DriftView]:
    """List the open drifts of the units in the caller's scope, oldest first."""
    last = behind(AfterDrift, query.cursor)
    found = await drift.open_page(
        conn,
        scope=caller.scope,
        limit=query.limit + 1,
        after=last.id if last else 0,
        cause=query.cause,
        given_up=query.given_up,
    )
    return page([DriftView.of(one) for one in found], query.limit, lambda one: AfterDrift(id=one.id))


@router.get("/units/{unit}/drifts", responses=documented(401, 404, 422, 503))
async def list_drifts_of_unit(
    unit: UnitName, query: Annotated[PageQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[DriftView]:
    """List a unit's drifts, closed ones too, newest first."""
    last = behind(BeforeDrift, query.cursor)
    found = await units.by_identity(conn, unit, scope=caller.scope)
    told = await drift.of_unit(conn, found.id, limit=query.limit + 1, before=last.id if last else None)
    return page([DriftView.of(one) for one in told], query.limit, lambda one: BeforeDrift(id=one.id))


@router.post(
    "/drifts/{drift_id}/resolve",
    response_model=DriftView,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def resolve_drift(
    drift_id: Annotated[Id, Path()],
    decided: Decided,
    caller: CanCommand,
    conn: Transaction,
    once: OnlyOnce,
    settings: Deadlines,
) -> JSONResponse:
    """Settle a drift: dismiss it, send the wish once more, or want what the unit reports. Technical level.

    What takes power away needs the admin level, as every offline-disable.
    """
    await drift.by_id(conn, drift_id, scope=caller.scope)

    async def work() -> DriftView:
        deed = Deed(by=caller, now=clock.now(), reason=decided.reason)
        return DriftView.of(await resolve(conn, drift_id, decided.decision, deed, settings))

    return await once.answer(200, work)


@router.post(
    "/drifts/resolve",
    response_model=ManySettled,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def resolve_drifts(
    decided: ManyDecided, caller: CanCommand, conn: Transaction, once: OnlyOnce, settings: Deadlines
) -> JSONResponse:
    """Settle up to 200 drifts alike; what is refused for one is told with it and costs no other."""

    async def work() -> ManySettled:
        deed = Deed(by=caller, now=clock.now(), reason=decided.reason)
        items = []
        for number in await drift.in_order(conn, decided.ids):
            try:
                async with conn.transaction():
                    found = await resolve(conn, number, decided.decision, deed, settings)
            except HeliographError as refusal:
                items.append(Settled(id=number, drift=None, refused=refusal.message))
            else:
                items.append(Settled(id=number, drift=DriftView.of(found), refused=None))
        return ManySettled(items=items)

    async def allowed(kept: dict[str, Any]) -> None:
        for number in await drift.known(conn, [one["id"] for one in kept["items"]]):
            await drift.by_id(conn, number, scope=caller.scope)

    return await once.answer(200, work, allowed=allowed)
