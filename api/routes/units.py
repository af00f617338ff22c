"""Units as people ask for them: a list, one by any of its names (S1.1-S1.11)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query

from api import beliefs
from api.auth import CanEnrol, CanRead
from api.beliefs import BeliefView
from api.connection import Transaction
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.shapes import Id, Interval, Reason, Shape
from commands import ledger
from commands.ledger import Standing
from protocol.identity import Imei, SerialNumber
from protocol.messages import Mode
from registry import intervals, units
from registry.audit import Deed
from registry.lifecycle import Lifecycle
from registry.units import Filter, Unit
from runtime import clock
from storage.sql import Connection
from telemetry import alerts, clocks, presence, status
from telemetry.alerts import Kind
from telemetry.clocks import Clock, ClockState
from telemetry.presence import Presence, State, Why
from telemetry.status import Status

router = APIRouter(prefix="/v1", tags=["units"])

UnitName = Annotated[str, Path(description="IMEI or serial number.")]


class UnitQuery(PageQuery):
    """Which units."""

    serial: Annotated[str, Query(max_length=40, description="What the serial number begins with.")] = ""
    entity_id: Id | None = None
    lifecycle: Lifecycle | None = None


class AfterSerial(Place):
    """The last serial number of a page."""

    serial_number: SerialNumber


class OwnInterval(Shape):
    """A unit's own interval, null to leave it to its product type, and why."""

    expected_interval_s: Interval | None
    reason: Reason


class EntityName(Shape):
    """Who holds a unit."""

    id: int
    name: str


class Reported(Shape):
    """A unit's newest heartbeat; times of the unit's own clock are seconds since 1970 as sent."""

    at: datetime
    unit_ts: int | None
    life: int
    boot: int
    seq: int
    mode: Mode
    epoch: int
    output: bool | None
    next_s: int | None
    fw: str | None
    readings: dict[str, Any]

    @classmethod
    def of(cls, told: Status | None) -> Self | None:
        """Show what a unit reported; None before its first heartbeat."""
        if told is None or told.reported_at is None:
            return None
        return cls.model_validate(
            {"at": told.reported_at}
            | {name: getattr(told, name) for name in cls.model_fields if name != "at"}
        )


class PresenceView(Shape):
    """Whether a unit is alive: judged by live contact and by when it should come again."""

    state: State
    reason: Why
    since: datetime | None
    next_expected_at: datetime | None

    @classmethod
    def of(cls, judged: Presence) -> Self:
        """Show a judgement."""
        return cls.model_validate({name: getattr(judged, name) for name in cls.model_fields})


class ClockView(Shape):
    """What a unit's clock is worth; `skew_s` in seconds, positive when it is ahead."""

    state: ClockState
    skew_s: int | None

    @classmethod
    def of(cls, judged: Clock) -> Self:
        """Show a judgement."""
        return cls(state=judged.state, skew_s=judged.skew_s)


class UnitView(Shape):
    """One unit: who it is, how it was told to be, and what it says; `alerts` are the kinds that are open.

    `suspected_clone`: two units seem to speak under this IMEI, and a command may reach either.
    """

    imei: Imei
    serial_number: SerialNumber
    control_unit: str
    entity: EntityName
    product_type: str | None
    lifecycle: Lifecycle
    expected_interval_s: int
    enrolled_at: datetime
    enable_status: str
    enable_status_changed_at: datetime | None
    enable_status_changed_by: str | None
    od_confirmed: Literal["yes", "no", "unknown"]
    pending_command: UUID | None
    last_contact_at: datetime | None
    presence: PresenceView
    clock: ClockView
    reported: Reported | None
    belief: BeliefView
    alerts: list[Kind]
    suspected_clone: bool

    @classmethod
    def of(
        cls,
        unit: Unit,
        standing: Standing,
        told: Status | None,
        belief: BeliefView,
        alerts: Sequence[Kind],
    ) -> Self:
        """Show a unit."""
        return cls(
            imei=unit.imei,
            serial_number=unit.serial_number,
            control_unit=f"{unit.imei} {unit.serial_number}",
            entity=EntityName(id=unit.entity_id, name=unit.entity_name),
            product_type=unit.product_type,
            lifecycle=unit.lifecycle,
            expected_interval_s=unit.expected_interval_s,
            enrolled_at=unit.enrolled_at,
            enable_status=standing.enable_status,
            enable_status_changed_at=standing.changed_at,
            enable_status_changed_by=standing.changed_by,
            od_confirmed={None: "unknown", True: "yes", False: "no"}[standing.od_confirmed],
            pending_command=standing.pending_command,
            last_contact_at=told and told.contact_at,
            presence=PresenceView.of(told.present(unit.expected_interval_s) if told else presence.NEVER),
            clock=ClockView.of(told.clock if told else clocks.UNKNOWN),
            reported=Reported.of(told),
            belief=belief,
            alerts=list(alerts),
            suspected_clone=Kind.TWO_UNITS in alerts,
        )


@router.get("/units", responses=documented(401, 422, 503))
async def list_units(
    query: Annotated[UnitQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[UnitView]:
    """List units by serial number; the parts of a serial number are found by its beginning."""
    last = behind(AfterSerial, query.cursor)
    found = await units.page(
        conn,
        scope=caller.scope,
        wanted=Filter(entity_id=query.entity_id, serial_prefix=query.serial, lifecycle=query.lifecycle),
        after=last.serial_number if last else "",
        limit=query.limit + 1,
    )
    shown = await views(conn, found)
    return page(shown, query.limit, lambda view: AfterSerial(serial_number=view.serial_number))


@router.get("/units/{unit}", responses=documented(401, 404, 422, 503))
async def show_unit(unit: UnitName, caller: CanRead, conn: Transaction) -> UnitView:
    """Show one unit."""
    [view] = await views(conn, [await units.by_identity(conn, unit, scope=caller.scope)])
    return view


@router.put("/units/{unit}/expected-interval", responses=documented(400, 401, 403, 404, 413, 415, 422, 503))
async def expect_of_unit(
    unit: UnitName, expected: OwnInterval, caller: CanEnrol, conn: Transaction
) -> UnitView:
    """Give a unit an interval of its own, or with null leave it to its product type; factory level."""
    found = await units.by_identity(conn, unit, scope=caller.scope)
    deed = Deed(by=caller, now=clock.now(), reason=expected.reason)
    await intervals.expect(conn, found.id, expected.expected_interval_s, deed)
    [view] = await views(conn, [await units.by_identity(conn, unit, scope=caller.scope)])
    return view


async def views(conn: Connection, found: Sequence[Unit]) -> list[UnitView]:
    """Gather what is known of units."""
    ids = [unit.id for unit in found]
    standings = await ledger.standings(conn, ids)
    told = await status.of_units(conn, ids)
    raised = await alerts.open_kinds(conn, ids)
    believed = await beliefs.of_units(conn, found, told, raised)
    return [
        UnitView.of(unit, standings[unit.id], told.get(unit.id), believed[unit.id], raised.get(unit.id, ()))
        for unit in found
    ]
