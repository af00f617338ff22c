"""What somebody should look at: units whose own counters speak against them; and the word that settles it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Query
from starlette.responses import JSONResponse

from api.auth import CanCommand, CanRead
from api.connection import Transaction
from api.once import OnlyOnce
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.routes.units import UnitName
from api.shapes import Id, Shape, Word
from protocol.identity import Imei, SerialNumber
from registry import units
from registry.audit import Deed
from runtime import clock
from telemetry import alerts, memory
from telemetry.alerts import Alert, Kind
from telemetry.lives import Began

router = APIRouter(prefix="/v1", tags=["alerts"])


class AlertQuery(PageQuery):
    """Which open alerts."""

    kind: Kind | None = None


class BeforeAlert(Place):
    """The last alert of a page."""

    id: Id


class AlertView(Shape):
    """An alert; the same came `times` times between `raised_at` and `last_at`, `evidence` is the newest.

    In the evidence a life is named by its `ordinal`, in the order first heard.
    """

    id: int
    imei: Imei
    serial_number: SerialNumber
    kind: Kind
    raised_at: datetime
    last_at: datetime
    times: int
    evidence: dict[str, Any]
    resolved_at: datetime | None
    resolved_by: str | None
    resolved_because: str | None

    @classmethod
    def of(cls, alert: Alert) -> Self:
        """Show an alert."""
        return cls.model_validate({name: getattr(alert, name) for name in cls.model_fields})


class LifeView(Shape):
    """A life of a unit's memory: its number on the wire, and its place in the order first heard."""

    life: int
    ordinal: int
    begun_at: datetime

    @classmethod
    def of(cls, began: Began) -> Self:
        """Show a life."""
        return cls(life=began.life, ordinal=began.ordinal, begun_at=began.first_heard_at)


@router.get("/alerts", responses=documented(401, 422, 503))
async def list_open_alerts(
    query: Annotated[AlertQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[AlertView]:
    """List the open alerts of the units in the caller's scope, newest first."""
    last = behind(BeforeAlert, query.cursor)
    found = await alerts.open_page(
        conn, scope=caller.scope, limit=query.limit + 1, before=last.id if last else None, kind=query.kind
    )
    return _page(found, query.limit)


@router.get("/units/{unit}/alerts", responses=documented(401, 404, 422, 503))
async def list_alerts_of_unit(
    unit: UnitName, query: Annotated[PageQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[AlertView]:
    """List a unit's alerts, resolved ones too, newest first."""
    last = behind(BeforeAlert, query.cursor)
    found = await units.by_identity(conn, unit, scope=caller.scope)
    told = await alerts.of_unit(conn, found.id, limit=query.limit + 1, before=last.id if last else None)
    return _page(told, query.limit)


@router.post(
    "/alerts/{alert_id}/resolve",
    response_model=AlertView,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def resolve_alert(
    alert_id: Annotated[Id, Path()], word: Word, caller: CanCommand, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Resolve an alert; one that is resolved already stays as it is. Technical level."""

    async def work() -> AlertView:
        deed = Deed(by=caller, now=clock.now(), reason=word.reason)
        return AlertView.of(await alerts.resolve(conn, alert_id, deed, scope=caller.scope))

    async def allowed(kept: dict[str, Any]) -> None:
        await units.by_identity(conn, kept["imei"], scope=caller.scope)

    return await once.answer(200, work, allowed=allowed)


@router.post(
    "/units/{unit}/lives",
    status_code=201,
    response_model=LifeView,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def begin_life(
    unit: UnitName, word: Word, caller: CanCommand, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Say that a unit has lost its memory: what it sends from now on is of a later life. Technical level.

    For a unit that counts anew without having drawn a new `life`, or whose counters have leapt.
    """
    found = await units.by_identity(conn, unit, scope=caller.scope)

    async def work() -> LifeView:
        deed = Deed(by=caller, now=clock.now(), reason=word.reason)
        return LifeView.of(await memory.lost(conn, found, deed))

    return await once.answer(201, work)


def _page(found: list[Alert], limit: int) -> Page[AlertView]:
    shown = [AlertView.of(alert) for alert in found]
    return page(shown, limit, lambda alert: BeforeAlert(id=alert.id))
