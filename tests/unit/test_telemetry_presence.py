"""Presence and clocks as they are judged: by live contact alone, and never by the unit's clock."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import PresenceState
from telemetry import clocks, presence
from telemetry.clocks import ClockState
from telemetry.presence import Evidence, State, Why
from tests.builders import NOON

HOUR = 3_600
ONLINE, OFFLINE = PresenceState.ONLINE, PresenceState.OFFLINE
YEARS_10 = 315_360_000
words = st.sampled_from([None, ONLINE, OFFLINE])


def evidence(
    *,
    contact: datetime | None = None,
    live: datetime | None = NOON,
    online: datetime | None = None,
    word: PresenceState | None = None,
    next_s: int | None = None,
) -> Evidence:
    return Evidence(contact_at=contact, live_contact_at=live, live_online_at=online, word=word, next_s=next_s)


def shown(known: Evidence, after_s: float) -> tuple[State, Why]:
    judged = presence.judge(known, HOUR, NOON + timedelta(seconds=after_s))
    return judged.state, judged.reason


@pytest.mark.parametrize(
    ("known", "after_s", "expected"),
    [
        (evidence(live=None), 0, (State.NEVER, Why.NEVER_HEARD)),
        (evidence(live=None, contact=NOON), 0, (State.SILENT, Why.ONLY_QUEUED)),
        (evidence(live=None, word=ONLINE), 0, (State.SILENT, Why.ONLY_QUEUED)),
        (evidence(live=None, online=NOON, word=ONLINE), 9, (State.ONLINE, Why.SESSION_OPEN)),
        (evidence(), 3_960, (State.ONLINE, Why.CONTACT_RECENT)),
        (evidence(word=OFFLINE), 3_960, (State.ONLINE, Why.SESSION_CLOSED)),
        (evidence(), 3_961, (State.LATE, Why.PLANNED_CONTACT_PASSED)),
        (evidence(word=ONLINE), 3_961, (State.LATE, Why.PLANNED_CONTACT_PASSED)),
        (evidence(), 7_200, (State.LATE, Why.PLANNED_CONTACT_PASSED)),
        (evidence(word=ONLINE), 7_201, (State.SILENT, Why.SILENT_FOR)),
        (evidence(next_s=600), 661, (State.LATE, Why.PLANNED_CONTACT_PASSED)),
        (evidence(next_s=86_400), 86_400, (State.ONLINE, Why.CONTACT_RECENT)),
        (evidence(next_s=0), 3_960, (State.ONLINE, Why.CONTACT_RECENT)),
        (evidence(next_s=2**32 - 1), 61 * 86_400, (State.SILENT, Why.SILENT_FOR)),
        (evidence(), -60, (State.ONLINE, Why.CONTACT_RECENT)),
        (evidence(), -61, (State.SILENT, Why.ONLY_QUEUED)),
        (evidence(contact=NOON, word=ONLINE), -86_400, (State.SILENT, Why.ONLY_QUEUED)),
        (evidence(online=NOON - timedelta(days=1)), -86_400, (State.ONLINE, Why.CONTACT_RECENT)),
    ],
)
def test_presence_is_judged_by_live_contact(
    known: Evidence, after_s: float, expected: tuple[State, Why]
) -> None:
    assert shown(known, after_s) == expected


@given(
    st.integers(0, 10 * HOUR), st.integers(-YEARS_10, YEARS_10), words, st.one_of(st.none(), st.integers(0))
)
def test_what_was_queued_never_changes_a_state(
    after_s: int, contact_s: int, word: PresenceState | None, next_s: int | None
) -> None:
    queued = evidence(contact=NOON + timedelta(seconds=contact_s), word=word, next_s=next_s)

    assert shown(queued, after_s)[0] is shown(evidence(word=word, next_s=next_s), after_s)[0]


@given(st.integers(0, 10 * HOUR), words, words)
def test_sessions_that_come_and_go_do_not_flip_the_state(
    after_s: int, one: PresenceState | None, other: PresenceState | None
) -> None:
    assert shown(evidence(word=one), after_s)[0] is shown(evidence(word=other), after_s)[0]


@given(st.integers(1, presence.LONGEST_S), st.lists(st.integers(0, 10**8), min_size=2, max_size=6))
def test_without_new_contact_a_state_only_gets_worse(interval_s: int, moments: list[int]) -> None:
    worse = list(State)

    states = [
        presence.judge(evidence(), interval_s, NOON + timedelta(seconds=moment)).state
        for moment in sorted(moments)
    ]

    assert [worse.index(state) for state in states] == sorted(worse.index(state) for state in states)


@pytest.mark.parametrize(
    ("skew_s", "live", "state", "told"),
    [
        (0, True, ClockState.GOOD, 0),
        (120, True, ClockState.GOOD, 120),
        (121, True, ClockState.SKEWED, 121),
        (-3_600, True, ClockState.SKEWED, -3_600),
        (601, True, ClockState.ABSURD, None),
        (-YEARS_10, True, ClockState.ABSURD, None),
        (0, False, ClockState.UNKNOWN, None),
        (0, None, ClockState.UNKNOWN, None),
    ],
)
def test_a_clock_is_judged_by_live_reports_only(
    *, skew_s: int, live: bool | None, state: ClockState, told: int | None
) -> None:
    judged = clocks.judge(int(NOON.timestamp()) + skew_s, NOON, live=live)

    assert (judged.state, judged.skew_s) == (state, told)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_time_that_a_unit_can_tell_is_judged(unit_ts: int) -> None:
    """Bad input 6."""
    assert clocks.judge(unit_ts, NOON, live=True).state is not ClockState.UNKNOWN


def test_a_clock_that_told_no_time_is_unknown() -> None:
    assert clocks.judge(None, NOON, live=True) == clocks.UNKNOWN
