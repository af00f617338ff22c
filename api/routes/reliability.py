"""How reliably units make contact."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query

from api.auth import CanRead
from api.connection import Transaction
from api.keeping import KeptSince
from api.problems import documented
from api.routes.units import UnitName
from api.shapes import Shape
from registry import units
from runtime import clock
from telemetry import reliability
from telemetry.reliability import Reliability

router = APIRouter(prefix="/v1", tags=["reliability"])

Days = Annotated[int, Query(ge=1, le=366, description="How far to look back.")]


class ReliabilityView(Shape):
    """Contacts against expected contacts; `rate` from 0 to 1, null while no contact is due yet."""

    since: datetime
    until: datetime
    contacts: int
    expected: int
    rate: float | None

    @classmethod
    def of(cls, found: Reliability) -> Self:
        """Show a unit's reliability."""
        return cls.model_validate({name: getattr(found, name) for name in cls.model_fields})


@router.get("/units/{unit}/reliability", responses=documented(401, 404, 422, 503))
async def show_reliability(
    unit: UnitName, caller: CanRead, conn: Transaction, kept_since: KeptSince, days: Days = 30
) -> ReliabilityView:
    """Tell how reliably a unit made contact in the last days, since its enrolment at most.

    `since` is later than asked for where heartbeats of so long ago may be gone.
    """
    found = await units.by_identity(conn, unit, scope=caller.scope)
    return ReliabilityView.of(
        await reliability.of_unit(conn, found, days=days, now=clock.now(), kept_since=kept_since)
    )
