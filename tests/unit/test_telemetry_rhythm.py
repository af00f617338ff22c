"""A unit's rhythm: learnt from its contacts alone, and honest about how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.rhythm import Awaited, Basis, Rhythm, gaps_between
from tests.builders import NOON

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TOUCH = timedelta(milliseconds=3)


def arrivals(*gaps: timedelta) -> list[datetime]:
    """Give moments with these gaps between them."""
    return [NOON + since for since in accumulate(gaps, initial=timedelta())]


def learnt(*gaps: timedelta) -> Rhythm:
    return Rhythm(basis=Basis.HEARTBEATS, gaps=gaps_between(arrivals(*gaps)))


def test_the_usual_gap_is_the_one_that_half_of_them_do_not_exceed() -> None:
    rhythm = learnt(*(hours * HOUR for hours in (4, 3, 5, 4, 4, 4, 4, 4, 9, 4)))

    assert (rhythm.usual, rhythm.long) == (4 * HOUR, 5 * HOUR)


@pytest.mark.parametrize(
    "burst",
    [
        [TOUCH] * 8,  # what a queue gave out when a gateway came back
        [20 * timedelta(seconds=1)] * 3,  # a backlog in several messages, a report after a command
    ],
)
def test_what_arrives_together_is_one_contact(burst: list[timedelta]) -> None:
    plain, bursts = [4 * HOUR] * 20, [4 * HOUR] * 20 + burst

    assert learnt(*bursts).gaps == learnt(*plain).gaps


def test_an_outage_does_not_change_what_is_usual() -> None:
    rhythm = learnt(*[MINUTE] * 500, 2 * 24 * HOUR, *[MINUTE] * 500)

    assert (rhythm.usual, rhythm.long) == (MINUTE, MINUTE)


def test_a_unit_that_sleeps_at_night_is_awaited_in_the_morning() -> None:
    rhythm = learnt(*([HOUR] * 12 + [12 * HOUR]) * 7)

    at_noon = rhythm.awaited(NOON, NOON + MINUTE)
    at_night = rhythm.awaited(NOON, NOON + 2 * HOUR)

    assert at_noon == Awaited(earliest=NOON + HOUR, likely=NOON + HOUR, latest=NOON + HOUR)
    assert at_night is not None
    assert at_night.likely == NOON + 12 * HOUR


def test_of_a_unit_that_is_silent_for_longer_than_hardly_ever_nothing_is_foretold() -> None:
    rhythm = learnt(*[HOUR] * 20, *[8 * HOUR] * 2)

    assert rhythm.awaited(NOON, NOON + HOUR - MINUTE) is not None
    assert rhythm.awaited(NOON, NOON + HOUR) is None


def test_a_rhythm_that_is_only_expected_forgives_one_lost_contact() -> None:
    rhythm = Rhythm(basis=Basis.EXPECTED, gaps=(HOUR, 2 * HOUR))

    assert rhythm.usual == HOUR
    assert rhythm.awaited(NOON, NOON) == Awaited(
        earliest=NOON + HOUR, likely=NOON + HOUR, latest=NOON + 2 * HOUR
    )
    assert rhythm.awaited(NOON, NOON + HOUR) is not None
    assert rhythm.awaited(NOON, NOON + 2 * HOUR) is None


@pytest.mark.parametrize("moments", [[], [NOON], [NOON, NOON]])
def test_too_few_contacts_make_no_gap_worth_the_name(moments: Sequence[datetime]) -> None:
    assert [gap for gap in gaps_between(moments) if gap] == []


def test_nine_times_in_ten_is_nine_times_in_ten() -> None:
    """A hundred units with a rhythm of their own: foretold at random moments, compared with what came."""
    dice = Random(4)  # noqa: S311 - not for secrets
    in_time = times = 0
    for _ in range(100):
        usual = dice.uniform(0.1, 12)
        hours = [usual * (1 + dice.expovariate(5)) for _ in range(120)]
        gaps = [HOUR * one for one in hours]
        rhythm, future = learnt(*gaps[:80]), gaps[80:]
        for gap in future:
            awaited = rhythm.awaited(NOON, NOON + gap * dice.random())
            if awaited is not None:
                in_time, times = in_time + (NOON + gap <= awaited.latest), times + 1

    assert times > 3_800
    assert in_time / times == pytest.approx(0.9, abs=0.03)


@given(
    st.lists(st.integers(1, 10**7).map(lambda s: timedelta(seconds=s)), min_size=1, max_size=50),
    st.integers(0, 10**7).map(lambda s: timedelta(seconds=s)),
)
def test_what_is_awaited_is_in_order_and_never_in_the_past(gaps: list[timedelta], silence: timedelta) -> None:
    now = NOON + silence

    rhythm = Rhythm(basis=Basis.HEARTBEATS, gaps=sorted(gaps))
    awaited = rhythm.awaited(NOON, now)

    if awaited is not None:
        assert now < awaited.earliest <= awaited.likely <= awaited.latest <= NOON + max(gaps)
