"""What is believed of units' outputs: what telemetry heard and what commands were sent, brought together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Self

from api.shapes import Shape
from commands import belief
from commands.belief import Belief, Ground, Heard, Power, Report
from registry.units import Unit
from runtime import clock
from storage.sql import Connection
from telemetry import presence
from telemetry.alerts import Kind
from telemetry.heartbeats import placed_at
from telemetry.status import Status


class BeliefView(Shape):
    """What is believed of the unit's output, on what ground, and how old the evidence is.

    `on` and `off` only by a fresh live report of the output. `locks_at`: when an armed unit switches
    itself off unless it makes contact, or has done so.
    """

    state: Power
    reason: Ground
    since: datetime | None
    age_s: int | None
    locks_at: datetime | None

    @classmethod
    def of(cls, judged: Belief) -> Self:
        """Show a belief."""
        return cls(
            state=judged.power,
            reason=judged.ground,
            since=judged.since,
            age_s=judged.age_s,
            locks_at=judged.locks_at,
        )


async def of_units(
    conn: Connection,
    units: Iterable[Unit],
    told: Mapping[int, Status],
    raised: Mapping[int, Sequence[Kind]],
) -> dict[int, BeliefView]:
    """Tell what is believed of each unit, by id; one query for all of them."""
    heard = {unit.id: _heard(unit, told.get(unit.id), raised.get(unit.id, ())) for unit in units}
    now = next((one.read_at for one in told.values()), clock.now())
    judged = await belief.of_units(conn, heard, now)
    return {unit_id: BeliefView.of(one) for unit_id, one in judged.items()}


def _heard(unit: Unit, told: Status | None, alerts: Sequence[Kind]) -> Heard:
    """Put together what was heard of a unit."""
    return Heard(
        report=_report(told) if told else None,
        contact_at=told.contact_at if told else None,
        fresh_for=presence.silent_after(told.next_s if told else None, unit.expected_interval_s),
        two_units=Kind.TWO_UNITS in alerts,
    )


def _report(told: Status) -> Report | None:
    """Give a unit's newest report; one that had waited is as old as the unit's clock says, or older."""
    if told.mode is None or told.epoch is None or told.reported_at is None:
        return None
    live = bool(told.reported_live)
    waited = min(placed_at(told.unit_ts, told.reported_at), told.reported_at)
    return Report(
        mode=told.mode,
        epoch=told.epoch,
        output=told.output,
        at=told.reported_at if live else waited,
        live=live,
    )
