"""How much of a plan may be ordered: rate, waves, gate, abort; whatever comes, in whatever order."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.policy import WishMakesNoSense
from commands.waves import (
    CAREFUL,
    FREE,
    RATE_KEPT_PER_S,
    RATE_MIN_PER_S,
    Abort,
    Done,
    Go,
    Hold,
    Progress,
    Step,
    Terms,
    Wait,
    allowance,
    metered,
    step,
    wave,
)
from tests.builders import NOON

ENOUGH = 10**6


def at(terms: Terms, *, by_rate: int = ENOUGH, by_cap: int = ENOUGH, **progress: int) -> Step:
    """Decide."""
    return step(terms, Progress(**progress), by_rate=by_rate, by_cap=by_cap)


@pytest.mark.parametrize(
    ("terms", "progress", "decided"),
    [
        (FREE, {"included": 0}, Done()),
        (FREE, {"included": 7}, Go(7)),
        (FREE, {"included": 7, "ordered": 5, "dropped": 2}, Done()),
        (FREE, {"included": 7, "ordered": 5, "failed": 5}, Go(2)),
        (CAREFUL, {"included": 1}, Go(1)),
        (CAREFUL, {"included": 1000}, Go(10)),
        (CAREFUL, {"included": 1000, "dropped": 990}, Go(10)),
        (CAREFUL, {"included": 1000, "ordered": 3}, Go(7)),
        (CAREFUL, {"included": 1000, "ordered": 10}, Wait(Hold.GATE)),
        (CAREFUL, {"included": 1000, "ordered": 10, "confirmed": 8}, Wait(Hold.GATE)),
        (CAREFUL, {"included": 1000, "ordered": 10, "confirmed": 9}, Go(90)),
        (CAREFUL, {"included": 1000, "ordered": 10, "confirmed": 8, "withdrawn": 2}, Go(90)),
        (CAREFUL, {"included": 1000, "ordered": 10, "withdrawn": 10}, Go(90)),
        # within a wave its own commands are not held against the gate
        (CAREFUL, {"included": 1000, "ordered": 11, "confirmed": 9}, Go(89)),
        (CAREFUL, {"included": 1000, "ordered": 100, "confirmed": 90}, Go(900)),
        # below the sample nothing is given up; from it on more than the share is
        (CAREFUL, {"included": 1000, "ordered": 11, "failed": 19}, Go(89)),
        (CAREFUL, {"included": 1000, "ordered": 60, "failed": 2, "confirmed": 18}, Go(40)),
        (CAREFUL, {"included": 1000, "ordered": 60, "failed": 3, "confirmed": 17}, Abort(3, 20)),
        # a wave that ended before its gate opened has failed, however few its commands were
        (CAREFUL, {"included": 20, "ordered": 1, "failed": 1}, Abort(1, 1, "gate_pct")),
        (CAREFUL, {"included": 1000, "ordered": 10, "confirmed": 8, "failed": 1}, Wait(Hold.GATE)),
        (CAREFUL, {"included": 1000, "ordered": 10, "confirmed": 8, "failed": 2}, Abort(2, 10, "gate_pct")),
        (
            CAREFUL,
            {"included": 1000, "ordered": 10, "confirmed": 3, "failed": 1, "withdrawn": 6},
            Abort(1, 4, "gate_pct"),
        ),
        (CAREFUL, {"included": 1000, "ordered": 10, "confirmed": 9, "failed": 1}, Go(90)),
        (CAREFUL, {"included": 1, "ordered": 1, "failed": 1}, Done()),
        # it is given up also while it waits
        (CAREFUL, {"included": 1000, "ordered": 100, "failed": 20}, Abort(20, 20)),
    ],
)
def test_what_comes_next(terms: Terms, progress: dict[str, int], decided: Step) -> None:
    assert at(terms, **progress) == decided


def test_rate_and_cap_bound_a_step() -> None:
    assert at(FREE, included=9, by_rate=3) == Go(3)
    assert at(FREE, included=9, by_cap=2) == Go(2)
    assert at(FREE, included=9, by_rate=0) == Wait(Hold.RATE)
    assert at(FREE, included=9, by_cap=0, by_rate=0) == Wait(Hold.DAILY_CAP)
    assert at(FREE, included=9, by_cap=-3) == Wait(Hold.DAILY_CAP)


@pytest.mark.parametrize(
    ("field", "given_terms"),
    [
        ("rate_per_s", {"rate_per_s": 0}),
        ("rate_per_s", {"rate_per_s": float("nan")}),
        ("rate_per_s", {"rate_per_s": 1e-11}),
        ("rate_per_s", {"rate_per_s": 1e9}),
        ("waves_pct", {"waves_pct": ()}),
        ("waves_pct", {"waves_pct": (50,)}),
        ("waves_pct", {"waves_pct": (0, 100)}),
        ("waves_pct", {"waves_pct": (10, 10, 100)}),
        ("waves_pct", {"waves_pct": (100, 100)}),
        ("waves_pct", {"waves_pct": (float("nan"), 100)}),
        ("waves_pct", {"waves_pct": (*range(1, 21), 100)}),
        ("gate_pct", {"gate_pct": 101}),
        ("gate_pct", {"gate_pct": -1}),
        ("abort_pct", {"abort_pct": float("nan")}),
        ("abort_sample", {"abort_sample": 0}),
    ],
)
def test_terms_that_make_no_sense_are_refused_by_name(field: str, given_terms: dict[str, object]) -> None:
    with pytest.raises(WishMakesNoSense) as refused:
        Terms(**given_terms)  # type: ignore[arg-type]

    assert refused.value.facts["field"] == field


def test_a_new_plan_is_no_slower_than_one_command_an_hour() -> None:
    Terms(rate_per_s=RATE_MIN_PER_S).require_brisk()

    with pytest.raises(WishMakesNoSense) as refused:
        Terms(rate_per_s=RATE_KEPT_PER_S).require_brisk()

    assert refused.value.facts["field"] == "rate_per_s"


shares = st.lists(st.integers(1, 99), unique=True, max_size=5).map(lambda some: (*sorted(some), 100))
careful = st.builds(
    Terms,
    waves_pct=shares,
    gate_pct=st.integers(0, 100),
    abort_pct=st.integers(0, 100),
    abort_sample=st.integers(1, 50),
)
fates = st.sampled_from(["confirmed", "failed", "withdrawn"])


@given(careful, st.integers(0, 300), st.data())
def test_no_wave_begins_before_its_gate_and_nothing_is_ordered_after_an_abort(
    terms: Terms, included: int, data: st.DataObject
) -> None:
    counts = {"ordered": 0, "dropped": 0, "confirmed": 0, "failed": 0, "withdrawn": 0}
    for _ in range(40):
        progress = Progress(included=included, **counts)
        by_rate, by_cap = data.draw(st.integers(0, 80)), data.draw(st.integers(0, 80))
        decided = step(terms, progress, by_rate=by_rate, by_cap=by_cap)
        open_now = counts["ordered"] - sum(counts[one] for one in ("confirmed", "failed", "withdrawn"))
        match decided:
            case Go(number):
                start, end = wave(terms, progress)
                assert 0 < number <= min(by_rate, by_cap, progress.waiting)
                assert counts["ordered"] + number <= end
                if counts["ordered"] == start > 0:
                    judged = start - counts["withdrawn"]
                    assert counts["confirmed"] * 100 >= terms.gate_pct * judged
                fit = data.draw(st.integers(0, number))
                counts["ordered"] += fit
                counts["dropped"] += number - fit
            case Done():
                assert counts["ordered"] + counts["dropped"] == included
                return
            case Abort(failed, ended, "abort_pct"):
                assert failed * 100 > terms.abort_pct * ended
                assert ended >= terms.abort_sample
                return
            case Abort():
                assert open_now == 0
                assert counts["confirmed"] * 100 < terms.gate_pct * (counts["ordered"] - counts["withdrawn"])
                return
            case Wait(Hold.GATE):
                assert open_now > 0
            case Wait():
                assert by_rate == 0 or by_cap == 0 or counts["ordered"] == wave(terms, progress)[0]
        if open_now:
            counts[data.draw(fates)] += data.draw(st.integers(1, open_now))


@given(
    st.floats(0.01, 50_000),
    st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_over_any_time_no_more_is_ordered_than_the_rate_admits(rate: float, pauses: list[float]) -> None:
    now = metered_at = NOON
    total = 0
    for seconds in pauses:
        now += timedelta(seconds=seconds)
        number = allowance(rate, metered_at, now)
        metered_at = metered(rate, metered_at, now, number)
        total += number

    elapsed = (now - NOON).total_seconds()
    assert total <= rate * elapsed + 1


@given(st.floats(RATE_KEPT_PER_S, 100))
def test_even_the_lowest_rate_goes_on(rate: float) -> None:
    later = NOON + timedelta(seconds=1 / rate)

    assert allowance(rate, NOON, later) >= 1
    assert allowance(rate, NOON, later + timedelta(days=9)) <= max(rate, 1) + 1
