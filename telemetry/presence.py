"""Whether a unit is alive: judged by what came straight from it, against when it should come again.

Only live contact is evidence, so a backlog, a queue or a replayed presence makes no dead unit look
alive. A session that comes and goes changes the reason, never the state: there is nothing to flap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from protocol.messages import PresenceState

SILENT_INTERVALS = 2
"""Intervals without live contact after which a unit is silent: one contact lost is bad luck, two are not."""

GRACE_SHARE = 10
"""A contact is late after a further tenth of its interval: units spread their contacts by about as much."""

GRACE_MIN = timedelta(seconds=60)
"""… and never before so long: a slow radio needs it to connect."""

AHEAD = timedelta(minutes=1)
"""What lies further in the future was dated by a clock that has been set back since: it tells no time."""

LONGEST_S = 30 * 86_400
"""The longest interval that is believed of a unit (seconds), as long as the longest expected one."""


class State(StrEnum):
    """What is shown of a unit."""

    NEVER = "never"
    ONLINE = "online"
    LATE = "late"
    SILENT = "silent"


class Why(StrEnum):
    """What a state rests on."""

    NEVER_HEARD = "never_heard"
    ONLY_QUEUED = "only_queued"
    """All that was heard had waited in the broker's queue, or bears times to come: it says nothing of now."""

    SESSION_OPEN = "session_open"
    SESSION_CLOSED = "session_closed"
    """It said goodbye, or its will was sent: the wire does not tell which; it is not yet overdue."""

    CONTACT_RECENT = "contact_recent"
    PLANNED_CONTACT_PASSED = "planned_contact_passed"
    SILENT_FOR = "silent_for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a unit's contacts; live ones by the database's clock."""

    contact_at: datetime | None
    live_contact_at: datetime | None
    live_online_at: datetime | None
    word: PresenceState | None
    next_s: int | None

    @property
    def heard(self) -> bool:
        """Whether there is any."""
        return any((self.contact_at, self.live_contact_at, self.live_online_at, self.word))

    def alive_at(self, now: datetime) -> datetime | None:
        """When the unit was alive for certain, as far as that is known."""
        told = (self.live_contact_at, self.live_online_at)
        return max((at for at in told if at is not None and at <= now + AHEAD), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether a unit is alive, why it is thought so, since when, and when it should come again."""

    state: State
    reason: Why
    since: datetime | None
    next_expected_at: datetime | None


NEVER = Presence(state=State.NEVER, reason=Why.NEVER_HEARD, since=None, next_expected_at=None)


def judge(evidence: Evidence, expected_interval_s: int, now: datetime) -> Presence:
    """Judge by the evidence; `now` is the database's, as the times of the evidence are."""
    alive_at = evidence.alive_at(now)
    if alive_at is None:
        if not evidence.heard:
            return NEVER
        at = evidence.contact_at
        since = at if at is not None and at <= now + AHEAD else None
        return Presence(state=State.SILENT, reason=Why.ONLY_QUEUED, since=since, next_expected_at=None)
    interval, grace = _pace(evidence.next_s, expected_interval_s)
    due_at = alive_at + interval
    late_at = due_at + grace
    silent_at = alive_at + silent_after(evidence.next_s, expected_interval_s)
    if now > silent_at:
        state, reason, since = State.SILENT, Why.SILENT_FOR, silent_at
    elif now > late_at:
        state, reason, since = State.LATE, Why.PLANNED_CONTACT_PASSED, late_at
    else:
        state, reason, since = State.ONLINE, _online_because[evidence.word], alive_at
    return Presence(state=state, reason=reason, since=since, next_expected_at=due_at)


def silent_after(next_s: int | None, expected_interval_s: int) -> timedelta:
    """Tell for how long what came from a unit speaks of now; after that the unit is silent."""
    interval, grace = _pace(next_s, expected_interval_s)
    return max(SILENT_INTERVALS * interval, interval + 2 * grace)


def _pace(next_s: int | None, expected_interval_s: int) -> tuple[timedelta, timedelta]:
    """Give the interval to the next contact and its grace; no planned contact, or one at once, is no plan."""
    interval = timedelta(seconds=min(next_s or expected_interval_s, LONGEST_S))
    return interval, max(GRACE_MIN, interval / GRACE_SHARE)


_online_because = {
    None: Why.CONTACT_RECENT,
    PresenceState.ONLINE: Why.SESSION_OPEN,
    PresenceState.OFFLINE: Why.SESSION_CLOSED,
}
