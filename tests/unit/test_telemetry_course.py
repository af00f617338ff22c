"""What is held against a unit, message by message: nothing against a healthy one, whatever comes twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import Mode
from protocol.reasons import Reason
from telemetry.alerts import Kind
from telemetry.counters import BOOT_LEAP, SEQ_LEAP, Counters, Line
from telemetry.course import NEW, Course, Known
from telemetry.doubts import NEEDED, WINDOW, Doubt, Held, weigh
from telemetry.heartbeats import Heartbeat
from telemetry.lives import MOST
from tests.builders import NOON

Name = tuple[int, int, int]
COPY = Known(heard=True, copied=True)


def beat(life: int, boot: int, seq: int, *, minute: float = 0) -> Heartbeat:
    at = NOON + timedelta(minutes=minute)
    return Heartbeat(1, at, at, None, life, boot, seq, 0, Mode.ENABLED, None, None, {}, {})


def course(known: dict[int, Known], *, lives: int = 1, past: Line | None = None) -> Course:
    return Course(
        unit_id=1,
        newest=None,
        counters=Counters(past=past),
        known=known,
        lives=lives,
        suspected=False,
        doubt=None,
    )


def walk(said: Iterable[tuple[Name, Known | None]], *, lives: int = 1) -> tuple[Course, list[Name]]:
    """Let a unit say heartbeats; what is known of one is given for a live one, None for one that waited."""
    told = list(said)
    walked = course({place: known for place, (_, known) in enumerate(told) if known}, lives=lives)
    counted = [
        one.order
        for place, (name, _) in enumerate(told)
        for one in walked.hear(place, 7, [beat(*name, minute=place)])
    ]
    return walked, counted


@st.composite
def healthy(draw: st.DrawFn) -> list[tuple[Name, Known | None]]:
    """Draw a unit's lives: what is live comes in order, some of it is lost; the rest comes at any time."""
    lives = draw(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=3))
    names = [
        (life, boot, seq)
        for life, boots in enumerate(lives, start=1)
        for boot, length in enumerate(boots)
        for seq in range(1, length + 1)
    ]
    said: list[tuple[Name, Known | None]] = []
    for place, name in enumerate(names):
        if draw(st.booleans()):
            said.append((name, NEW))
        for earlier in draw(st.lists(st.integers(0, place), max_size=3)):
            live_before = (names[earlier], NEW) in said
            said.append((names[earlier], draw(st.sampled_from([None, COPY])) if live_before else None))
    return said


@given(healthy())
def test_nothing_is_held_against_a_healthy_unit(said: Sequence[tuple[Name, Known | None]]) -> None:
    walked, counted = walk(said)

    assert (walked.findings, walked.refusals, walked.beginnings, walked.doubt) == ([], [], [], None)
    assert counted == [name for name, _ in said]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 9)), max_size=40))
def test_nothing_that_waited_is_held_against_a_unit_in_any_order(names: Sequence[Name]) -> None:
    walked, counted = walk((name, None) for name in names)

    assert (walked.findings, walked.refusals, walked.beginnings, walked.doubt) == ([], [], [], None)
    assert counted == list(names)


@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 9)),
            st.sampled_from([None, NEW, COPY, Known(heard=True, copied=False)]),
        ),
        max_size=40,
    )
)
def test_whatever_is_said_nothing_sound_is_lost_and_the_newest_never_goes_back(
    said: Sequence[tuple[Name, Known | None]],
) -> None:
    walked = course({place: known for place, (_, known) in enumerate(said) if known}, lives=3)
    before: Name = (0, 0, 0)
    for place, (name, _) in enumerate(said):
        [counted] = walked.hear(place, 7, [beat(*name, minute=place)])
        assert counted.order[1:] == name[1:]
        assert walked.newest is not None
        assert walked.newest >= before
        before = walked.newest

    assert walked.refusals == []
    assert [one.ordinal for one in walked.beginnings] == list(range(4, 4 + len(walked.beginnings)))
    kinds = [finding.kind for finding in walked.findings]
    assert kinds.count(Kind.MEMORY_LOST) == len(walked.beginnings)
    if Kind.TWO_UNITS in kinds:  # from then on only a person lets a life begin
        assert Kind.MEMORY_LOST not in kinds[kinds.index(Kind.TWO_UNITS) :]


def test_a_unit_with_no_room_for_another_life_keeps_its_own() -> None:
    low = [((1, 2, seq), NEW) for seq in range(1, NEEDED + 1)]

    walked, counted = walk([((1, 50, 1), NEW), *low], lives=MOST)

    assert walked.beginnings == []
    assert [finding.kind for finding in walked.findings] == [Kind.TOO_MANY_LIVES]
    assert {life for life, _, _ in counted} == {1}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ((2, 7, 1), None),
        ((2, 3, 9), Reason.TOO_OLD),
        ((1, 10**6, 9), Reason.TOO_OLD),
        ((2, 4, 1), None),
        ((2, 3 + BOOT_LEAP, 1), None),
        ((2, 3 + BOOT_LEAP + 1, 1), Reason.COUNTER_JUMP),
        ((3, 2**32 - 1, SEQ_LEAP), None),
        ((3, 1, SEQ_LEAP + 1), Reason.COUNTER_JUMP),
    ],
)
def test_what_follows_boots_that_are_summed_up(name: Name, reason: Reason | None) -> None:
    counters = Counters(past=Line(2, 3))
    counters.take(2, 3, 0)

    flaw = counters.flaw(beat(*name))

    assert (flaw and flaw.reason) == reason


def test_the_same_number_twice_is_neither_evidence_nor_the_end_of_it() -> None:
    newest = (1, 50, 1)
    doubt: Doubt | None = None
    for seq in (1, 1, 2, 2):
        doubt = weigh(doubt, Held(beat(1, 2, seq), stored=True), newest)

    assert doubt is not None
    assert [held.beat.seq for held in doubt.held] == [1, 2]


def test_a_turn_that_lies_far_back_is_forgotten() -> None:
    first = weigh(None, Held(beat(1, 2, 1), stored=True), (1, 50, 1))
    minutes = WINDOW / timedelta(minutes=1)

    within = weigh(first, Held(beat(1, 2, 2, minute=minutes), stored=True), (1, 50, 2))
    beyond = weigh(first, Held(beat(1, 2, 2, minute=minutes + 1), stored=True), (1, 50, 2))

    assert (within.turns, beyond.turns) == (2, 1)
