"""What a unit said, heartbeat by heartbeat."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import Field

from api.auth import CanRead
from api.connection import Transaction
from api.paging import Page, PageQuery, Place, behind, page
from api.periods import bounds
from api.problems import documented
from api.routes.units import UnitName
from api.shapes import Count, Moment, Shape
from protocol.messages import Mode
from registry import units
from telemetry import heartbeats
from telemetry.heartbeats import Heartbeat

router = APIRouter(prefix="/v1", tags=["heartbeats"])


class HeartbeatQuery(PageQuery):
    """Which heartbeats: from ≤ at < to; the last 24 hours before `to`, which is now, if nothing is said."""

    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None


class BeforeHeartbeat(Place):
    """The last heartbeat of a page, and where the list began that it belongs to."""

    since: Moment
    at: Moment
    life: Count
    boot: Count
    seq: Count


class HeartbeatView(Shape):
    """One heartbeat. `at` orders it, `received_at` is our clock, `unit_ts` the unit's as sent."""

    at: datetime
    received_at: datetime
    unit_ts: int | None
    life: int
    boot: int
    seq: int
    epoch: int
    mode: Mode
    output: bool | None
    fw: str | None
    readings: dict[str, float | bool]
    fields: dict[str, Any]

    @classmethod
    def of(cls, beat: Heartbeat) -> Self:
        """Show a heartbeat."""
        return cls.model_validate({name: getattr(beat, name) for name in cls.model_fields})


@router.get("/units/{unit}/heartbeats", responses=documented(401, 404, 422, 503))
async def list_heartbeats(
    unit: UnitName, query: Annotated[HeartbeatQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[HeartbeatView]:
    """List a unit's heartbeats, newest first."""
    last = behind(BeforeHeartbeat, query.cursor)
    # A further page keeps the beginning of the first: now went on since.
    since, until = bounds(query.since or (last.since if last else None), query.until, ("from", "to"))
    found = await heartbeats.of_unit(
        conn,
        (await units.by_identity(conn, unit, scope=caller.scope)).id,
        since=since,
        until=until,
        limit=query.limit + 1,
        before=(last.at, last.life, last.boot, last.seq) if last else None,
    )
    shown = [HeartbeatView.of(beat) for beat in found]
    return page(
        shown,
        query.limit,
        lambda beat: BeforeHeartbeat(since=since, at=beat.at, life=beat.life, boot=beat.boot, seq=beat.seq),
    )
