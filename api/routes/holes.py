"""Heartbeats that are missing: of a unit by boot, and of the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query

from api.auth import CanRead
from api.connection import Transaction
from api.problems import documented
from api.routes.units import UnitName
from api.shapes import Shape
from protocol.identity import Imei, SerialNumber
from registry import units
from telemetry import holes
from telemetry.holes import Boot, Hole, Lacking, Losses, Past

router = APIRouter(prefix="/v1", tags=["holes"])

Worst = Annotated[int, Query(ge=1, le=200, description="How many units are named, the worst first.")]


class HoleView(Shape):
    """Missing numbers, both ends included; `since` is when the heartbeat before them stands, where known."""

    first: int
    last: int
    count: int
    since: datetime | None

    @classmethod
    def of(cls, hole: Hole) -> Self:
        """Show a hole."""
        return cls(first=hole.first, last=hole.last, count=hole.count, since=hole.since)


class BootView(Shape):
    """A boot that lacks heartbeats below its newest; `holes` are the newest of `all_holes`."""

    life: int
    boot: int
    newest: int
    missing: int
    holes: Sequence[HoleView]
    all_holes: int

    @classmethod
    def of(cls, boot: Boot) -> Self:
        """Show a boot."""
        return cls(
            life=boot.life,
            boot=boot.boot,
            newest=boot.newest,
            missing=boot.missing,
            holes=[HoleView.of(hole) for hole in boot.holes],
            all_holes=boot.all_holes,
        )


class PastView(Shape):
    """Boots too old to be told one by one, summed up; (`life`, `boot`) is the newest of them."""

    life: int
    boot: int
    boots: int
    heard: int
    missing: int

    @classmethod
    def of(cls, past: Past) -> Self:
        """Show what is summed up."""
        return cls.model_validate({name: getattr(past, name) for name in cls.model_fields})


class HolesView(Shape):
    """What a unit lacks: in its newest boots, and in those before; `missing` is all of it."""

    missing: int
    boots: Sequence[BootView]
    past: PastView | None

    @classmethod
    def of(cls, boots: Sequence[Boot], past: Past | None) -> Self:
        """Show a unit's holes."""
        return cls(
            missing=sum(boot.missing for boot in boots) + (past.missing if past else 0),
            boots=[BootView.of(boot) for boot in boots],
            past=PastView.of(past) if past else None,
        )


class LackingView(Shape):
    """A unit that lacks heartbeats."""

    imei: Imei
    serial_number: SerialNumber
    missing: int
    boots: int

    @classmethod
    def of(cls, one: Lacking) -> Self:
        """Show a unit."""
        return cls(imei=one.imei, serial_number=one.serial_number, missing=one.missing, boots=one.boots)


class LossesView(Shape):
    """What was missing of all units that the caller sees when it was last counted, and which lack most.

    Null in `counted_at` is "not yet". Gateways count every few minutes; in a large fleet less often.
    """

    counted_at: datetime | None
    missing: int
    boots: int
    units: int
    worst: Sequence[LackingView]

    @classmethod
    def of(cls, losses: Losses) -> Self:
        """Show the losses of a fleet."""
        return cls(
            counted_at=losses.counted_at,
            missing=losses.missing,
            boots=losses.boots,
            units=losses.units,
            worst=[LackingView.of(one) for one in losses.worst],
        )


@router.get("/units/{unit}/holes", responses=documented(401, 404, 422, 503))
async def list_holes(unit: UnitName, caller: CanRead, conn: Transaction) -> HolesView:
    """Tell which heartbeats of a unit are missing, in its 64 newest boots, and how many before."""
    found = await units.by_identity(conn, unit, scope=caller.scope)
    return HolesView.of(await holes.of_unit(conn, found.id), await holes.past_of_unit(conn, found.id))


@router.get("/fleet/holes", responses=documented(401, 422, 503))
async def sum_holes(caller: CanRead, conn: Transaction, limit: Worst = 20) -> LossesView:
    """Tell the missing heartbeats of all units in the caller's scope, as last counted."""
    return LossesView.of(await holes.of_fleet(conn, caller.scope, limit=limit))
