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
from telemetry.holes import Boot, Hole, Lacking, Losses

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


class HolesView(Shape):
    """What a unit's newest boots lack; `missing` over these boots."""

    missing: int
    boots: Sequence[BootView]


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
    """What is missing of all units that the caller sees, and which lack most."""

    missing: int
    boots: int
    units: int
    worst: Sequence[LackingView]

    @classmethod
    def of(cls, losses: Losses) -> Self:
        """Show the losses of a fleet."""
        return cls(
            missing=losses.missing,
            boots=losses.boots,
            units=losses.units,
            worst=[LackingView.of(one) for one in losses.worst],
        )


@router.get("/units/{unit}/holes", responses=documented(401, 404, 422, 503))
async def list_holes(unit: UnitName, caller: CanRead, conn: Transaction) -> HolesView:
    """Tell which heartbeats of a unit are missing, in its 64 newest boots that lack any."""
    found = await holes.of_unit(conn, (await units.by_identity(conn, unit, scope=caller.scope)).id)
    return HolesView(missing=sum(boot.missing for boot in found), boots=[BootView.of(boot) for boot in found])


@router.get("/fleet/holes", responses=documented(401, 422, 503))
async def sum_holes(caller: CanRead, conn: Transaction, limit: Worst = 20) -> LossesView:
    """Sum up the missing heartbeats of all units in the caller's scope."""
    return LossesView.of(await holes.of_fleet(conn, caller.scope, limit=limit))
