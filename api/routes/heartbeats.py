"""What a unit said, heartbeat by heartbeat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import Field

from api.auth import CanRead
from api.connection import ThePool, Transaction
from api.paging import Page, PageQuery, Place, behind, page
from api.periods import PeriodQuery, bounds
from api.problems import documented
from api.routes.units import UnitName
from api.shapes import Count, Moment, Shape
from api.sheets import Csv, Row, sheet
from protocol.messages import Mode
from registry import units
from telemetry import heartbeats
from telemetry.heartbeat_rows import NAMED_READINGS
from telemetry.heartbeats import Heartbeat

router = APIRouter(prefix="/v1", tags=["heartbeats"])

FACTS = ("at", "received_at", "unit_ts", "life", "boot", "seq", "epoch", "mode", "output", "fw")
COLUMNS = (*FACTS, *NAMED_READINGS, "extra")
"""What a sheet of heartbeats has; `extra` is JSON of what has no column."""


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


@router.get("/units/{unit}/heartbeats.csv", response_class=Csv, responses=documented(401, 404, 422, 503))
async def export_heartbeats(
    unit: UnitName,
    query: Annotated[PeriodQuery, Query()],
    caller: CanRead,
    conn: Transaction,
    pool: ThePool,
) -> Csv:
    """Give all of a unit's heartbeats of a period as CSV, oldest first; a file that breaks off is cut."""
    since, until = query.bounds()
    found = await units.by_identity(conn, unit, scope=caller.scope)
    batches = heartbeats.onwards(pool, found.id, since=since, until=until)
    return sheet(f"{found.imei}-heartbeats", COLUMNS, _rows(batches))


async def _rows(batches: AsyncIterator[list[Heartbeat]]) -> AsyncIterator[list[Row]]:
    async for batch in batches:
        yield [_row(beat) for beat in batch]


def _row(beat: Heartbeat) -> Row:
    further = {name: value for name, value in beat.readings.items() if name not in NAMED_READINGS}
    extra = {name: part for name, part in (("readings", further), ("fields", beat.fields)) if part}
    facts = (getattr(beat, name) for name in FACTS)
    return [*facts, *map(beat.readings.get, NAMED_READINGS), extra]
