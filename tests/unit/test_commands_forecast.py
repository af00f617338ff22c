"""When a waiting command should take effect: said no surer than the unit's rhythm is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import forecast
from commands.docket import Command
from commands.forecast import Habit, Outlook, WaitsFor, Window
from commands.states import FINAL, State
from protocol.messages import CommandKind, Mode
from tests.builders import NOON

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LAST = NOON - timedelta(hours=8, minutes=50)
NEXT = Window(earliest=NOON + HOUR, likely=NOON + 2 * HOUR, latest=NOON + 3 * HOUR)


def a_command(state: State = State.QUEUED, **more: Any) -> Command:
    """Give a command that expires in three days, and waits for contact alone."""
    given = {
        "id": UUID(int=7),
        "unit_id": 1,
        "kind": CommandKind.SET_MODE,
        "mode": Mode.ENABLED,
        "after_s": 0,
        "epoch": 1,
        "state": state,
        "reason": "paid",
        "ordered_by": "ada@example.com",
        "ordered_at": NOON,
        "expires_at": NOON + 3 * DAY,
        "due_at": NOON + 3 * DAY,
        "attempt": 0,
        "attempted_at": None,
        "acknowledged_at": None,
        "finished_at": None,
        "refusal": None,
    }
    return Command(**{name: (given | more).get(name) for name in Command.__slots__})  # type: ignore[arg-type]


def a_habit(**more: Any) -> Habit:
    """Give the habit of a unit that usually comes every four hours, and is away."""
    known = {"usual": 4 * HOUR, "learnt": True, "last_at": LAST, "awaited": NEXT}
    return Habit(**{**known, "listens": False, "barred": False, **more})


def test_a_waiting_command_says_what_it_waits_for_and_until_when() -> None:
    told = forecast.tell(a_command(), a_habit(), NOON)

    assert (told.waits_for, told.effect, told.outlook) == (WaitsFor.CONTACT, NEXT, Outlook.IN_TIME)
    assert told.sentence == (
        "Waits for the unit, which usually makes contact every ~4 h; last 03:10 UTC, next about 14:00 UTC, "
        "nine times in ten by 15:00 UTC; expires 2026-06-04 12:00 UTC."
    )


def test_a_rhythm_that_is_only_expected_is_called_so() -> None:
    told = forecast.tell(a_command(), a_habit(learnt=False), NOON)

    assert told.sentence == (
        "Waits for the unit, which is expected to make contact every ~4 h; last 03:10 UTC, "
        "next about 14:00 UTC; expires 2026-06-04 12:00 UTC."
    )


@pytest.mark.parametrize(("learnt", "longer"), [(True, "it hardly ever was"), (False, "expected")])
def test_where_there_is_no_telling_nothing_is_told(*, learnt: bool, longer: str) -> None:
    told = forecast.tell(a_command(), a_habit(awaited=None, learnt=learnt), NOON)

    assert (told.effect, told.outlook) == (None, Outlook.UNKNOWN)
    assert f"has been silent for ~9 h, longer than {longer}: when it comes nobody knows" in told.sentence


def test_a_unit_that_was_never_heard_is_waited_for_without_a_date() -> None:
    told = forecast.tell(a_command(), a_habit(last_at=None, awaited=None), NOON)

    assert (told.effect, told.outlook) == (None, Outlook.UNKNOWN)
    assert told.sentence == "Waits for the unit, which was never heard; expires 2026-06-04 12:00 UTC."


@pytest.mark.parametrize(
    ("expires_at", "outlook"),
    [
        (NOON + 4 * HOUR, Outlook.IN_TIME),
        (NOON + 3 * HOUR, Outlook.DOUBTFUL),
        (NOON + 2 * HOUR, Outlook.TOO_LATE),
        (NOON, Outlook.TOO_LATE),
    ],
)
def test_the_next_contact_is_held_against_the_command_s_end(expires_at: datetime, outlook: Outlook) -> None:
    assert forecast.tell(a_command(expires_at=expires_at), a_habit(), NOON).outlook is outlook


def test_a_unit_that_listens_is_sent_it_within_seconds() -> None:
    told = forecast.tell(a_command(due_at=NOON), a_habit(listens=True), NOON)

    assert told.waits_for is WaitsFor.TURN
    assert told.effect == Window(earliest=NOON, likely=NOON, latest=NEXT.latest)
    assert told.sentence.startswith("The unit listens; it is sent within seconds;")


def test_a_command_that_pauses_after_an_attempt_is_sent_after_its_pause() -> None:
    later = NOON + 5 * MINUTE
    sooner = Window(earliest=NOON + MINUTE, likely=NOON + MINUTE, latest=NOON + MINUTE)

    told = forecast.tell(a_command(due_at=later), a_habit(listens=True, awaited=sooner), NOON)
    alone = forecast.tell(a_command(due_at=later), a_habit(listens=True, awaited=None), NOON)

    assert told.effect == alone.effect == Window(earliest=later, likely=later, latest=later)
    assert "it is sent again at 12:05 UTC" in told.sentence


def test_a_command_that_has_tried_often_enough_waits_for_contact_even_of_a_unit_that_listens() -> None:
    assert forecast.tell(a_command(), a_habit(listens=True), NOON).waits_for is WaitsFor.CONTACT


def test_what_is_sent_waits_for_the_ack_and_then_for_the_report() -> None:
    sending = a_command(State.SENDING, attempt=1, attempted_at=NOON)
    sent = a_command(State.SENT, attempt=1, attempted_at=NOON)
    applied = a_command(State.ACKNOWLEDGED, attempt=1, attempted_at=NOON, acknowledged_at=NOON + MINUTE)

    told = [forecast.tell(one, a_habit(), NOON + 2 * MINUTE) for one in (sending, sent, applied)]

    assert [one.waits_for for one in told] == [WaitsFor.TURN, WaitsFor.ACK, WaitsFor.REPORT]
    assert told[1].sentence.startswith("Sent at 12:00 UTC; the unit's answer is awaited;")
    at = NOON + MINUTE
    assert told[2].effect == Window(earliest=at, likely=at, latest=at)
    assert told[2].sentence.startswith("The unit said at 12:01 UTC that it applied it;")


def test_nobody_knows_when_a_second_person_approves() -> None:
    told = forecast.tell(a_command(State.AWAITING_APPROVAL, epoch=0), a_habit(listens=True), NOON)

    assert (told.waits_for, told.effect, told.outlook) == (WaitsFor.APPROVAL, None, Outlook.UNKNOWN)
    assert told.sentence == "Waits for a second person to approve it; expires 2026-06-04 12:00 UTC."


def test_nothing_is_foretold_of_a_terminated_unit() -> None:
    told = forecast.tell(a_command(), a_habit(barred=True), NOON)

    assert (told.effect, told.outlook) == (None, Outlook.TOO_LATE)
    assert told.sentence == (
        "The unit is terminated, and nothing is sent to it; expires 2026-06-04 12:00 UTC."
    )


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(), "~0 s"),
        (MINUTE, "~60 s"),
        (2 * MINUTE, "~2 min"),
        (119 * MINUTE, "~119 min"),
        (4 * HOUR, "~4 h"),
        (47 * HOUR, "~47 h"),
        (3 * DAY, "~3 d"),
    ],
)
def test_spans_are_said_as_people_say_them(span: timedelta, said: str) -> None:
    assert forecast.about(span) == said


@given(
    state=st.sampled_from(sorted(set(State) - FINAL)),
    listens=st.booleans(),
    known=st.booleans(),
    after_s=st.integers(0, 10**7),
)
def test_every_open_command_has_its_sentence_and_no_effect_before_its_time(
    *, state: State, listens: bool, known: bool, after_s: int
) -> None:
    now = NOON + timedelta(seconds=after_s)
    window = Window(earliest=now + HOUR, likely=now + 2 * HOUR, latest=now + 3 * HOUR)
    command = a_command(state, attempt=1, attempted_at=NOON, acknowledged_at=NOON)

    told = forecast.tell(command, a_habit(listens=listens, awaited=window if known else None), now)

    assert "; expires " in told.sentence
    if told.effect and told.waits_for is not WaitsFor.REPORT:
        assert now <= told.effect.earliest <= told.effect.likely <= told.effect.latest
