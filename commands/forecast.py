"""When an open command should take effect: at the unit's next contact, which its own rhythm tells.

A forecast never says more than the rhythm does: of a unit that was never heard, or is silent for
longer than it hardly ever was, nobody knows when it comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from commands.docket import Command
from commands.states import State

ABOUT = (("d", 86_400), ("h", 3_600), ("min", 60))
"""Units of time in seconds; each is used from two of it on."""


class WaitsFor(StrEnum):
    """What an open command waits for."""

    APPROVAL = "approval"
    """A second person must agree first."""

    CONTACT = "contact"
    """The unit does not listen now."""

    TURN = "turn"
    """The unit listens; the command is sent within seconds, or after its pause."""

    ACK = "ack"
    """It was sent; the unit's answer is awaited."""

    REPORT = "report"
    """The unit says that it applied it; its report is awaited as evidence."""


class Outlook(StrEnum):
    """Whether a command takes effect before it expires."""

    IN_TIME = "in_time"
    DOUBTFUL = "doubtful"
    """Likely, but nine times in ten is not before its end."""

    TOO_LATE = "too_late"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When the unit should come next: half of the times before `likely`, nine in ten before `latest`."""

    earliest: datetime
    likely: datetime
    latest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """How a unit makes contact; `learnt` from its own contacts, not only expected.

    `awaited` is None when nobody knows. `listens` while its session is open; `barred` when
    nothing is sent to it any more.
    """

    usual: timedelta
    learnt: bool
    last_at: datetime | None
    awaited: Window | None
    listens: bool
    barred: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When a command takes effect, as far as known, and the same as a sentence in UTC."""

    waits_for: WaitsFor
    effect: Window | None
    outlook: Outlook
    sentence: str


def tell(command: Command, habit: Habit, now: datetime) -> Forecast:
    """Tell when an open command should take effect; `now` is the database's clock."""
    waits_for = _waits_for(command, habit)
    effect = None if habit.barred else _effect(command, waits_for, habit, now)
    return Forecast(
        waits_for=waits_for,
        effect=effect,
        outlook=Outlook.TOO_LATE if habit.barred else _outlook(effect, command.expires_at, now),
        sentence=_sentence(command, waits_for, habit, now),
    )


def _waits_for(command: Command, habit: Habit) -> WaitsFor:
    match command.state:
        case State.AWAITING_APPROVAL:
            return WaitsFor.APPROVAL
        case State.ACKNOWLEDGED:
            return WaitsFor.REPORT
        case State.SENT:
            return WaitsFor.ACK
        case State.SENDING:
            return WaitsFor.TURN
        case _:
            # After many attempts only contact makes it due.
            turn = habit.listens and command.due_at < command.expires_at
            return WaitsFor.TURN if turn else WaitsFor.CONTACT


def _effect(command: Command, waits_for: WaitsFor, habit: Habit, now: datetime) -> Window | None:
    """Tell when it takes effect; a unit that does not listen after all hears it at its next contact."""
    if waits_for is WaitsFor.APPROVAL:
        return None
    if waits_for is WaitsFor.CONTACT:
        return habit.awaited
    if waits_for is WaitsFor.REPORT:
        at = command.acknowledged_at or now
        return Window(earliest=at, likely=at, latest=at)
    soon = _turn(command, now) if waits_for is WaitsFor.TURN else now
    latest = max(soon, habit.awaited.latest) if habit.awaited else soon
    return Window(earliest=soon, likely=soon, latest=latest)


def _outlook(effect: Window | None, expires_at: datetime, now: datetime) -> Outlook:
    if expires_at <= now:
        return Outlook.TOO_LATE
    if effect is None:
        return Outlook.UNKNOWN
    if effect.latest < expires_at:
        return Outlook.IN_TIME
    return Outlook.DOUBTFUL if effect.likely < expires_at else Outlook.TOO_LATE


def _sentence(command: Command, waits_for: WaitsFor, habit: Habit, now: datetime) -> str:
    expires = f"expires {clock(command.expires_at, now)}."
    if habit.barred:
        return f"The unit is terminated, and nothing is sent to it; {expires}"
    match waits_for:
        case WaitsFor.APPROVAL:
            return f"Waits for a second person to approve it; {expires}"
        case WaitsFor.CONTACT:
            return f"Waits for the unit, which {_comes(habit, now)}; {expires}"
        case WaitsFor.TURN:
            turn = _turn(command, now)
            sent = f"again at {clock(turn, now)}" if turn > now else "within seconds"
            return f"The unit listens; it is sent {sent}; {expires}"
        case WaitsFor.ACK:
            sent = clock(command.attempted_at or now, now)
            return f"Sent at {sent}; the unit's answer is awaited; {expires}"
        case WaitsFor.REPORT:
            said = clock(command.acknowledged_at or now, now)
            return f"The unit said at {said} that it applied it; its report is awaited as proof; {expires}"


def _comes(habit: Habit, now: datetime) -> str:
    """Say how a unit makes contact, and when it should come."""
    if habit.last_at is None:
        return "was never heard"
    usual = "usually makes" if habit.learnt else "is expected to make"
    known = f"{usual} contact every {about(habit.usual)}; last {clock(habit.last_at, now)}"
    if habit.awaited is None:
        longer = "it hardly ever was" if habit.learnt else "expected"
        silent = about(now - habit.last_at)
        return f"{known}; it has been silent for {silent}, longer than {longer}: when it comes nobody knows"
    told = f"{known}, next about {clock(habit.awaited.likely, now)}"
    return f"{told}, nine times in ten by {clock(habit.awaited.latest, now)}" if habit.learnt else told


def _turn(command: Command, now: datetime) -> datetime:
    """Tell when a command is sent to a unit that listens: now, unless it pauses after an attempt."""
    return max(now, command.due_at) if command.state is State.QUEUED else now


def about(span: timedelta) -> str:
    """Say a span as people do: ~45 s, ~15 min, ~4 h, ~3 d."""
    seconds = span.total_seconds()
    name, size = next(((name, size) for name, size in ABOUT if seconds >= 2 * size), ("s", 1))
    return f"~{seconds / size:.0f} {name}"


def clock(at: datetime, now: datetime) -> str:
    """Say a moment in UTC; with its day unless that is today."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"
