"""What is believed of a unit's output: certain only by a fresh live report, and weaker with silence."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import belief
from commands.belief import GUESS_FOR, Belief, Ground, Heard, Power, Report, Sent
from protocol.messages import Mode
from tests.builders import NOON

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FRESH = 8 * HOUR
ENABLED, DISABLED, OD = Mode.ENABLED, Mode.DISABLED, Mode.OFFLINE_DISABLED
CERTAIN = {Power.ON, Power.OFF}


def a_report(mode: Mode = ENABLED, *, output: bool | None = None, live: bool = True) -> Report:
    """Give a report of noon under epoch 5."""
    return Report(mode=mode, epoch=5, output=output, at=NOON, live=live)


def heard(report: Report | None, contact_at: datetime | None = NOON, *, two_units: bool = False) -> Heard:
    return Heard(report=report, contact_at=contact_at, fresh_for=FRESH, two_units=two_units)


def sent(mode: Mode, after_s: int = 0, *, epoch: int = 6, minutes: int = 10, applied: bool = False) -> Sent:
    """Give a command that was sent some minutes after noon."""
    return Sent(mode, after_s, epoch, NOON + timedelta(minutes=minutes), applied)


def named(after_s: int) -> Sent:
    """Give the offline-disable that a report under epoch 5 names."""
    return sent(OD, after_s, epoch=5, minutes=-10, applied=True)


def judged(known: Heard, commands: list[Sent], after: timedelta) -> Belief:
    return belief.judge(known, commands, NOON + after)


ON, OFF, MAYBE_ON, MAYBE_OFF, UNKNOWN = Power
LONG = FRESH + GUESS_FOR + HOUR
ONE_DAY_S = 86_400
ON_AGAIN, OFF_AGAIN = sent(ENABLED, epoch=7, applied=True), sent(OD, epoch=7)


@pytest.mark.parametrize(
    ("report", "commands", "after", "power", "ground"),
    [
        # a fresh live report of the output, whatever the mode
        (a_report(output=True), [], FRESH, ON, Ground.REPORTED_OUTPUT),
        (a_report(output=False), [], HOUR, OFF, Ground.REPORTED_OUTPUT),
        (a_report(OD, output=True), [], HOUR, ON, Ground.REPORTED_OUTPUT),
        (a_report(DISABLED, output=True), [], HOUR, ON, Ground.REPORTED_OUTPUT),
        (a_report(OD, output=True), [named(ONE_DAY_S)], HOUR, ON, Ground.REPORTED_OUTPUT),
        # an old one, or one that had waited
        (a_report(output=True), [], FRESH + HOUR, MAYBE_ON, Ground.LAST_OUTPUT),
        (a_report(output=False), [], FRESH + HOUR, MAYBE_OFF, Ground.LAST_OUTPUT),
        (a_report(output=True, live=False), [], HOUR, MAYBE_ON, Ground.LAST_OUTPUT),
        (a_report(DISABLED, output=True), [], FRESH + HOUR, MAYBE_ON, Ground.LAST_OUTPUT),
        (a_report(output=True), [], LONG, UNKNOWN, Ground.SILENT_TOO_LONG),
        (a_report(output=False), [], LONG, UNKNOWN, Ground.SILENT_TOO_LONG),
        # the mode alone
        (a_report(), [], HOUR, MAYBE_ON, Ground.REPORTED_MODE),
        (a_report(), [], LONG, UNKNOWN, Ground.SILENT_TOO_LONG),
        (a_report(DISABLED), [], HOUR, MAYBE_OFF, Ground.REPORTED_MODE),
        (a_report(DISABLED, output=False), [], LONG, MAYBE_OFF, Ground.REPORTED_MODE),
        (a_report(OD, output=False), [named(0)], LONG, MAYBE_OFF, Ground.REPORTED_MODE),
        # offline_disabled, and the ledger does not know how
        (a_report(OD), [], HOUR, UNKNOWN, Ground.LOCK_UNKNOWN),
        (a_report(OD, output=True), [], FRESH + HOUR, UNKNOWN, Ground.LOCK_UNKNOWN),
        (a_report(OD, output=False), [], FRESH + HOUR, MAYBE_OFF, Ground.LAST_OUTPUT),
        # armed: on until it was silent for longer
        (a_report(OD), [named(ONE_DAY_S)], HOUR, MAYBE_ON, Ground.REPORTED_MODE),
        (a_report(OD, output=True), [named(ONE_DAY_S)], DAY, MAYBE_ON, Ground.LAST_OUTPUT),
        (a_report(OD, output=True), [named(ONE_DAY_S)], DAY + HOUR, MAYBE_OFF, Ground.LOCKED_ITSELF),
        (a_report(OD), [named(ONE_DAY_S)], LONG, MAYBE_OFF, Ground.LOCKED_ITSELF),
        # sent since, and not proven
        (a_report(output=True), [sent(OD)], HOUR, UNKNOWN, Ground.UNPROVEN),
        (a_report(output=False), [sent(ENABLED)], HOUR, UNKNOWN, Ground.UNPROVEN),
        (a_report(output=True), [sent(OD, ONE_DAY_S)], HOUR, ON, Ground.REPORTED_OUTPUT),
        (a_report(output=True), [sent(OD, ONE_DAY_S)], DAY + HOUR, UNKNOWN, Ground.UNPROVEN),
        (a_report(output=True), [sent(ENABLED)], HOUR, ON, Ground.REPORTED_OUTPUT),
        (a_report(DISABLED, output=False), [sent(OD)], HOUR, OFF, Ground.REPORTED_OUTPUT),
        (a_report(output=True), [sent(OD), sent(ENABLED, epoch=7)], HOUR, UNKNOWN, Ground.UNPROVEN),
        # … or the unit said that it applied it
        (a_report(output=True), [sent(OD, applied=True)], HOUR, MAYBE_OFF, Ground.ACKNOWLEDGED),
        (a_report(output=True), [sent(OD, applied=True)], LONG, MAYBE_OFF, Ground.ACKNOWLEDGED),
        (a_report(output=False), [sent(ENABLED, applied=True)], HOUR, MAYBE_ON, Ground.ACKNOWLEDGED),
        (a_report(output=False), [sent(ENABLED, applied=True)], LONG, UNKNOWN, Ground.SILENT_TOO_LONG),
        (a_report(), [sent(OD, ONE_DAY_S, applied=True)], HOUR, MAYBE_ON, Ground.ACKNOWLEDGED),
        (a_report(), [sent(OD, ONE_DAY_S, applied=True)], DAY + HOUR, MAYBE_OFF, Ground.LOCKED_ITSELF),
        (a_report(output=True), [sent(OD), ON_AGAIN], HOUR, MAYBE_ON, Ground.ACKNOWLEDGED),
        (a_report(output=True), [sent(ENABLED, applied=True), OFF_AGAIN], HOUR, UNKNOWN, Ground.UNPROVEN),
        # a report that came after the sending has the last word
        (a_report(output=True), [sent(OD, minutes=-1)], HOUR, ON, Ground.REPORTED_OUTPUT),
        (a_report(output=True), [sent(OD, minutes=-1, applied=True)], HOUR, ON, Ground.REPORTED_OUTPUT),
        (a_report(output=True), [sent(OD, epoch=4)], HOUR, ON, Ground.REPORTED_OUTPUT),
        # never heard
        (None, [], HOUR, UNKNOWN, Ground.NEVER_REPORTED),
        (None, [sent(ENABLED)], HOUR, UNKNOWN, Ground.UNPROVEN),
        (None, [sent(ENABLED, applied=True)], HOUR, MAYBE_ON, Ground.ACKNOWLEDGED),
    ],
)  # fmt: skip
def test_a_belief_follows_what_was_heard_and_what_was_sent(
    report: Report | None, commands: list[Sent], after: timedelta, power: Power, ground: Ground
) -> None:
    found = judged(heard(report), commands, after)

    assert (found.power, found.ground) == (power, ground)


def test_two_units_under_one_imei_make_every_word_worthless() -> None:
    found = judged(heard(a_report(output=True), two_units=True), [], HOUR)

    assert (found.power, found.ground, found.since) == (Power.UNKNOWN, Ground.TWO_UNITS, NOON)


def test_a_belief_tells_its_evidence_s_moment_and_age() -> None:
    by_report = judged(heard(a_report(output=True)), [], 2 * HOUR)
    by_command = judged(heard(a_report(output=True)), [sent(OD, minutes=30)], 2 * HOUR)
    by_nothing = judged(heard(None, contact_at=None), [], 2 * HOUR)

    assert (by_report.since, by_report.age_s) == (NOON, 7_200)
    assert (by_command.since, by_command.age_s) == (NOON + timedelta(minutes=30), 5_400)
    assert (by_nothing.since, by_nothing.age_s) == (None, None)


def test_a_clock_that_stood_a_little_ahead_makes_no_age_below_zero() -> None:
    assert judged(heard(a_report(output=True)), [], -timedelta(seconds=3)).age_s == 0


def test_an_armed_unit_s_lock_is_counted_from_its_newest_contact() -> None:
    armed = heard(a_report(OD, output=True), contact_at=NOON + 20 * HOUR)

    before = judged(armed, [named(ONE_DAY_S)], 44 * HOUR)
    after = judged(armed, [named(ONE_DAY_S)], 44 * HOUR + timedelta(seconds=1))

    assert before.locks_at == after.locks_at == NOON + 44 * HOUR
    assert (before.power, after.power) == (Power.PROBABLY_ON, Power.PROBABLY_OFF)


def test_a_unit_that_is_not_armed_does_not_lock_itself() -> None:
    for known, commands in [(a_report(), []), (a_report(OD), [named(0)]), (a_report(OD), [])]:
        assert judged(heard(known), commands, HOUR).locks_at is None


moments = st.integers(-HOUR // timedelta(seconds=1), 10 * ONE_DAY_S).map(
    lambda s: NOON + timedelta(seconds=s)
)
outputs = st.sampled_from([None, False, True])
locks = st.sampled_from([0, ONE_DAY_S, 3 * ONE_DAY_S, 60 * ONE_DAY_S])
reports = st.builds(
    Report, mode=st.sampled_from(Mode), epoch=st.just(5), output=outputs, at=moments, live=st.booleans()
)
wishes = st.tuples(st.just(ENABLED), st.just(0)) | st.tuples(st.just(OD), locks)
commands_sent = st.lists(
    st.builds(lambda wish, *rest: Sent(*wish, *rest), wishes, st.integers(4, 9), moments, st.booleans()),
    max_size=4,
    unique_by=lambda one: one.epoch,
).map(lambda some: sorted(some, key=lambda one: one.epoch))
known = st.builds(
    Heard,
    report=st.none() | reports,
    contact_at=st.none() | moments,
    fresh_for=st.integers(60, 60 * ONE_DAY_S).map(lambda s: timedelta(seconds=s)),
    two_units=st.booleans(),
)
silences = st.lists(st.integers(0, 200 * ONE_DAY_S), min_size=2, max_size=6).map(sorted)


@given(known, commands_sent, st.integers(0, 200 * ONE_DAY_S))
def test_nothing_is_certain_without_a_fresh_live_report_of_the_output(
    known: Heard, commands: list[Sent], after_s: int
) -> None:
    now = NOON + timedelta(seconds=after_s)
    report = known.report

    found = belief.judge(known, commands, now)

    if found.power in CERTAIN:
        assert report is not None
        assert report.live
        assert report.output is (found.power is Power.ON)
        assert now - report.at <= known.fresh_for


GROWING = {
    Power.ON: set(Power) - {Power.OFF},
    Power.OFF: {Power.OFF, Power.PROBABLY_OFF, Power.UNKNOWN},
    Power.PROBABLY_ON: {Power.PROBABLY_ON, Power.PROBABLY_OFF, Power.UNKNOWN},
    Power.PROBABLY_OFF: {Power.PROBABLY_OFF, Power.UNKNOWN},
    Power.UNKNOWN: {Power.UNKNOWN, Power.PROBABLY_OFF},
}
"""What silence alone may make of a belief: never certainty, never power; darkness only by a lock."""


@given(known, commands_sent, silences)
def test_a_belief_only_weakens_with_silence(known: Heard, commands: list[Sent], silence: list[int]) -> None:
    told = [belief.judge(known, commands, NOON + timedelta(seconds=after_s)) for after_s in silence]

    for before, after in pairwise(told):
        assert after.power in GROWING[before.power]
        if after.power is Power.PROBABLY_OFF and before.power not in {Power.OFF, Power.PROBABLY_OFF}:
            assert any(one.mode is OD and one.after_s for one in commands)
        if after.since is not None and after.since == before.since:
            assert (after.age_s or 0) >= (before.age_s or 0)
