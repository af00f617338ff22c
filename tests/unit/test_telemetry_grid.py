"""Grids of series: they cover their period, stand still while a chart scrolls, and follow UTC alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.heartbeat_rows import FLAG_READINGS, NAMED_READINGS
from telemetry.series import HOUR, MONDAY, POINTS_MAX, WIDTHS, Grid, Reading, Source

LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
CENTURY = timedelta(days=36_524)

points = st.integers(1, POINTS_MAX)
moments = st.timedeltas(timedelta(0), CENTURY).map(lambda gone: datetime(2000, 1, 1, tzinfo=UTC) + gone)
lengths = st.timedeltas(timedelta(microseconds=1), CENTURY)


def over(since: datetime, length: timedelta, points: int, kept_since: datetime = LONG_AGO) -> Grid:
    return Grid.over(since, since + length, points=points, heartbeats_since=kept_since)


@given(moments, lengths, points)
def test_a_grid_covers_its_period_in_as_many_buckets_as_were_asked_for_and_one(
    since: datetime, length: timedelta, points: int
) -> None:
    grid = over(since, length, points)

    assert grid.first <= since < grid.first + grid.width
    assert grid.last - grid.width < since + length <= grid.last
    assert grid.buckets <= points + 1
    assert len(list(grid.starts())) == grid.buckets


@given(moments, lengths, points, st.timedeltas(timedelta(0), timedelta(days=500)))
def test_the_same_boundaries_come_back_while_a_chart_scrolls(
    since: datetime, length: timedelta, points: int, scrolled: timedelta
) -> None:
    here, there = over(since, length, points), over(since + scrolled, length, points)

    assert here.width == there.width
    assert (there.first - here.first) % here.width == timedelta(0)


@given(moments, lengths, points)
def test_no_narrower_width_would_do(since: datetime, length: timedelta, points: int) -> None:
    width = over(since, length, points).width

    assert width * points >= length
    assert all(narrower * points < length for narrower in WIDTHS if narrower < width)


@given(moments, lengths, points)
def test_hours_are_whole_where_they_are_summed_up(since: datetime, length: timedelta, points: int) -> None:
    grid = over(since, length, points)

    assert grid.source == (Source.HOURS if grid.width >= HOUR else Source.HEARTBEATS)
    if grid.source is Source.HOURS:
        assert (grid.first - MONDAY) % HOUR == grid.width % HOUR == timedelta(0)


def test_where_heartbeats_are_gone_no_bucket_is_narrower_than_an_hour() -> None:
    since = datetime(2026, 6, 1, 12, 20, tzinfo=UTC)

    assert over(since, HOUR, 60, kept_since=since).width == timedelta(minutes=1)
    assert over(since, HOUR, 60, kept_since=since + timedelta(seconds=1)).width == HOUR


@pytest.mark.parametrize(
    ("length", "points", "width"),
    [
        (timedelta(hours=24), 300, timedelta(minutes=5)),
        (timedelta(hours=24), 24, HOUR),
        (timedelta(days=7), 300, HOUR),
        (timedelta(days=366), 300, timedelta(days=2)),
        (timedelta(days=366), 1, timedelta(weeks=53)),
        (CENTURY, 1, timedelta(weeks=5218)),
        (timedelta(microseconds=1), POINTS_MAX, timedelta(seconds=1)),
    ],
)
def test_widths_are_such_as_people_use(length: timedelta, points: int, width: timedelta) -> None:
    assert over(datetime(2026, 6, 1, tzinfo=UTC), length, points).width == width


def test_days_are_those_of_utc_wherever_who_asks_and_whatever_the_season() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    since, until = datetime(2026, 3, 27, tzinfo=berlin), datetime(2026, 3, 31, tzinfo=berlin)

    grid = Grid.over(since, until, points=4, heartbeats_since=LONG_AGO)

    assert [start.isoformat() for start in grid.starts()] == [
        f"2026-03-{day}T00:00:00+00:00" for day in (26, 27, 28, 29, 30)
    ]


def test_every_named_reading_but_the_flags_has_a_series() -> None:
    assert set(Reading) == set(NAMED_READINGS) - set(FLAG_READINGS)
