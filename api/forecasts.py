"""When open commands should take effect: a unit's rhythm and a command's deadlines, brought together."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Self

from api.shapes import Shape
from commands import forecast
from commands.docket import Command
from commands.forecast import Forecast, Habit, Outlook, WaitsFor, Window
from registry.lifecycle import Lifecycle
from registry.units import Unit
from runtime import clock
from storage.sql import Connection
from telemetry import presence, rhythm, status
from telemetry.presence import Why
from telemetry.rhythm import Basis, Rhythm
from telemetry.status import Status


class ForecastView(Shape):
    """What an open command waits for, and when it should take effect: half of the times by `likely_at`.

    `rhythm` tells where `usual_s` is from: the unit's contacts of the last days, or its plan, or what is
    expected of it. Only of contacts is `latest_at` nine times in ten. Times are null when nobody knows.
    """

    waits_for: WaitsFor
    rhythm: Basis
    usual_s: int
    last_contact_at: datetime | None
    earliest_at: datetime | None
    likely_at: datetime | None
    latest_at: datetime | None
    outlook: Outlook
    sentence: str

    @classmethod
    def of(cls, told: Forecast, habit: Habit, basis: Basis) -> Self:
        """Show a forecast."""
        return cls(
            waits_for=told.waits_for,
            rhythm=basis,
            usual_s=round(habit.usual.total_seconds()),
            last_contact_at=habit.last_at,
            earliest_at=told.effect and told.effect.earliest,
            likely_at=told.effect and told.effect.likely,
            latest_at=told.effect and told.effect.latest,
            outlook=told.outlook,
            sentence=told.sentence,
        )


async def of_command(conn: Connection, command: Command, unit: Unit) -> ForecastView | None:
    """Tell when a command should take effect; None when it has reached its end."""
    if not command.open:
        return None
    told = await status.of_unit(conn, unit.id)
    now = told.read_at if told else clock.now()
    learnt = await rhythm.of_unit(conn, unit, next_s=told.next_s if told else None, now=now)
    habit = _habit(unit, told, learnt, now)
    return ForecastView.of(forecast.tell(command, habit, now), habit, learnt.basis)


def _habit(unit: Unit, told: Status | None, learnt: Rhythm, now: datetime) -> Habit:
    """Put together how a unit makes contact."""
    last_at = told.contact_at if told else None
    awaited = learnt.awaited(last_at, now) if last_at else None
    judged = told.present(unit.expected_interval_s) if told else presence.NEVER
    return Habit(
        usual=learnt.usual,
        learnt=learnt.basis is Basis.HEARTBEATS,
        last_at=last_at,
        awaited=Window(**asdict(awaited)) if awaited else None,
        listens=judged.reason is Why.SESSION_OPEN,
        barred=unit.lifecycle is Lifecycle.TERMINATED,
    )
