"""Series of readings: the same from heartbeats and from hours, gaps as gaps, late ones in their place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import psycopg
import pytest
from psycopg import sql

from runtime import clock
from runtime.settings import Database, Keeping
from storage import engine
from storage.engine import Engine
from storage.pool import Pool
from storage.sql import rows
from telemetry import series, upkeep
from telemetry.heartbeats import Heartbeat
from telemetry.series import HOUR, Bucket, Grid, Reading, Source
from tests.stored import a_beat, store, sum_up

TODAY = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
USUAL = {"battery_v": 12.8, "battery_a": -1.5, "energy_wh": 1e9}


async def read(
    pool: Pool, reading: Reading, since: datetime, until: datetime, points: int, unit_id: int = 1
) -> list[Bucket]:
    grid = Grid.over(since, until, points=points, heartbeats_since=LONG_AGO)
    async with pool.transaction() as conn:
        [buckets] = (await series.of_unit(conn, unit_id, [reading], grid)).values()
    return buckets


def counted(buckets: Iterable[Bucket]) -> list[int]:
    return [bucket.count for bucket in buckets]


def expected(beats: Sequence[Heartbeat], reading: Reading, grid: Grid) -> list[Bucket]:
    """Do in plain Python what the database does."""
    told = []
    for start in grid.starts():
        values = [
            float(beat.readings[reading])
            for beat in beats
            if start <= beat.at < start + grid.width and reading in beat.readings
        ]
        told.append(
            Bucket(
                start=start,
                count=len(values),
                min=min(values, default=None),
                max=max(values, default=None),
                mean=sum(values) / len(values) if values else None,
            )
        )
    return told


def alike(bucket: Bucket, other: Bucket) -> bool:
    """Whether two buckets say the same, as far as the single precision of hours goes."""
    return (bucket.start, bucket.count) == (other.start, other.count) and all(
        mine == (None if others is None else pytest.approx(others, rel=1e-6))
        for mine, others in ((bucket.min, other.min), (bucket.max, other.max), (bucket.mean, other.mean))
    )


def random_beats(dice: Random, number: int) -> list[Heartbeat]:
    """Give heartbeats of three days with holes of hours, and readings that lack here and there."""
    silent = {dice.randrange(72) for _ in range(30)}
    offsets = [offset for _ in range(number) if (offset := dice.uniform(0, 72)) // 1 not in silent]
    readings = [
        {
            name: round(usual * dice.uniform(0.5, 1.5), 2)
            for name, usual in USUAL.items()
            if dice.random() < 0.8
        }
        for _ in offsets
    ]
    return [
        a_beat(seq, TODAY - 4 * DAY + offset * HOUR)._replace(readings=dict(measured))
        for seq, (offset, measured) in enumerate(zip(offsets, readings, strict=True), 1)
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_heartbeats_and_hours_tell_the_same_whatever_came_late(
    pool: Pool, database: Database, seed: int
) -> None:
    """A third comes after the hours were summed up, as a late row or out of a backlog does."""
    dice = Random(seed)  # noqa: S311 - not for secrets
    beats = random_beats(dice, 600)
    late = len(beats) * 2 // 3
    await store(pool, beats[:late])
    await sum_up(pool, database)
    await store(pool, beats[late:])
    await sum_up(pool, database)

    used = set()
    for reading in map(Reading, USUAL):
        for points in (1, 3, 7, 36, 72, 150, 400, 2000):
            grid = Grid.over(TODAY - 4 * DAY, TODAY - DAY, points=points, heartbeats_since=LONG_AGO)
            found = await read(pool, reading, TODAY - 4 * DAY, TODAY - DAY, points)
            due = expected(beats, reading, grid)
            assert [pair for pair in zip(found, due, strict=True) if not alike(*pair)] == []
            used.add(grid.source)
    assert used == set(Source)


async def test_a_mean_of_hours_weighs_every_value_alike(pool: Pool, database: Database) -> None:
    """Three values in one hour and one in the next: no mean of means."""
    first = TODAY - 2 * DAY
    await store(pool, [a_beat(seq, first, battery_v=12.0) for seq in (1, 2, 3)])
    await store(pool, [a_beat(4, first + HOUR, battery_v=16.0)])
    await sum_up(pool, database)

    [bucket] = await read(pool, Reading.BATTERY_V, first, first + 2 * HOUR, 1)

    assert bucket == Bucket(start=first, count=4, min=12.0, max=16.0, mean=13.0)


@pytest.mark.parametrize("points", [3, 18])
async def test_a_gap_is_a_bucket_with_nothing_in_it(pool: Pool, points: int) -> None:
    first = TODAY - 2 * DAY
    await store(
        pool,
        [a_beat(1, first, soc_pct=80.0), a_beat(2, first + HOUR), a_beat(3, first + 2 * HOUR, soc_pct=0.0)],
    )

    buckets = await read(pool, Reading.SOC_PCT, first, first + 3 * HOUR, points)

    width = 3 * HOUR / points
    assert len(buckets) == points
    assert [bucket for bucket in buckets if bucket.count] == [
        Bucket(start=first, count=1, min=80.0, max=80.0, mean=80.0),
        Bucket(start=first + 2 * HOUR, count=1, min=0.0, max=0.0, mean=0.0),
    ]
    gap = Bucket(start=first + width, count=0, min=None, max=None, mean=None)
    assert buckets[1] == gap


async def test_a_late_heartbeat_changes_its_bucket_at_once(pool: Pool, database: Database) -> None:
    first = TODAY - 3 * DAY
    await store(pool, [a_beat(number, first + number * HOUR, temp_c=20.0) for number in range(1, 6)])
    await sum_up(pool, database)
    before = await read(pool, Reading.TEMP_C, first, first + 6 * HOUR, 12)

    await store(pool, [a_beat(9, first + 2 * HOUR + timedelta(minutes=40), temp_c=-5.0)])

    after = await read(pool, Reading.TEMP_C, first, first + 6 * HOUR, 12)
    assert counted(before) == [0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert [place for place, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]] == [5]
    assert after[5] == Bucket(start=first + 2.5 * HOUR, count=1, min=-5.0, max=-5.0, mean=-5.0)


async def test_a_late_heartbeat_changes_its_hour_too(pool: Pool, database: Database) -> None:
    """At once on plain PostgreSQL, after the next refresh on TimescaleDB."""
    first = TODAY - 3 * DAY
    await store(pool, [a_beat(number, first + number * HOUR, temp_c=20.0) for number in range(1, 6)])
    await sum_up(pool, database)

    await store(pool, [a_beat(9, first + 2 * HOUR, temp_c=-5.0)])
    async with pool.transaction() as conn:
        lags = await engine.present(conn) is Engine.TIMESCALE
    if lags:
        await sum_up(pool, database)

    assert counted(await read(pool, Reading.TEMP_C, first, first + 6 * HOUR, 6)) == [0, 1, 2, 1, 1, 1]


async def test_bounds_are_from_the_beginning_up_to_but_without_the_end(pool: Pool) -> None:
    first = TODAY - 2 * DAY
    tick = timedelta(microseconds=1)
    moments = [first - tick, first, first + HOUR - tick, first + HOUR]
    await store(pool, [a_beat(seq, moment, load_a=1.0) for seq, moment in enumerate(moments)])

    assert counted(await read(pool, Reading.LOAD_A, first, first + HOUR, 1)) == [2]
    assert counted(await read(pool, Reading.LOAD_A, first, first + HOUR, 2)) == [1, 1]


async def test_a_period_within_a_bucket_gets_the_whole_bucket(pool: Pool) -> None:
    """So that a chart that scrolls shows the same bars again."""
    first = TODAY - 2 * DAY
    await store(pool, [a_beat(1, first, panel_v=18.0), a_beat(2, first + HOUR / 2, panel_v=20.0)])

    [bucket] = await read(pool, Reading.PANEL_V, first + HOUR / 4, first + HOUR, 1)

    assert bucket == Bucket(start=first, count=2, min=18.0, max=20.0, mean=19.0)


async def test_other_units_have_no_part_in_it(pool: Pool) -> None:
    first = TODAY - 2 * DAY
    await store(pool, [a_beat(1, first, panel_a=1.0), a_beat(1, first, unit_id=2, panel_a=9.0)])

    for points in (1, 60):
        buckets = await read(pool, Reading.PANEL_A, first, first + HOUR, points, unit_id=2)
        assert [bucket.mean for bucket in buckets if bucket.count] == [9.0]


async def test_summer_time_neither_doubles_an_hour_nor_leaves_one_out(pool: Pool) -> None:
    """The night to 25 October 2026 has 25 hours in Berlin; days and hours here are those of UTC."""
    day = datetime(2026, 10, 25, tzinfo=UTC)
    await store(pool, [a_beat(number, day + number * HOUR / 2, rssi_dbm=-70.0) for number in range(-2, 50)])

    assert counted(await read(pool, Reading.RSSI_DBM, day, day + DAY, 24)) == [2] * 24
    assert counted(await read(pool, Reading.RSSI_DBM, day, day + DAY, 48)) == [1] * 48
    assert counted(await read(pool, Reading.RSSI_DBM, day, day + DAY, 1)) == [48]


async def test_hours_tell_what_heartbeats_no_longer_can(pool: Pool, database: Database) -> None:
    old = TODAY - 100 * DAY
    keeping = Keeping(keep_heartbeats_days=60)
    await store(pool, [a_beat(1, old, battery_v=12.0), a_beat(2, old + HOUR, battery_v=13.0)])
    async with pool.transaction() as conn:
        assert (await upkeep.keep(conn, Keeping(), now=clock.now())).dropped == 0
    await sum_up(pool, database)
    async with pool.transaction() as conn:
        assert (await upkeep.keep(conn, keeping, now=clock.now())).dropped == 1

    grid = Grid.over(old, old + 3 * HOUR, points=300, heartbeats_since=TODAY - 60 * DAY)
    async with pool.transaction() as conn:
        told = await series.of_unit(conn, 1, [Reading.BATTERY_V], grid)

    assert [bucket.mean for bucket in told[Reading.BATTERY_V]] == [12.0, 13.0, None]


async def test_values_are_told_as_they_were_sent(pool: Pool) -> None:
    await store(pool, [a_beat(1, TODAY - DAY, battery_v=12.81)])

    [bucket] = await read(pool, Reading.BATTERY_V, TODAY - DAY, TODAY - DAY + HOUR / 2, 1)

    assert (bucket.min, bucket.max, bucket.mean) == (12.81, 12.81, 12.81)


@pytest.mark.parametrize("value", [1.7e308, -1.7e308, 5e-324, 3.4e38, 1.2e-38])
async def test_no_value_is_too_large_to_be_summed_up(pool: Pool, database: Database, value: float) -> None:
    """One unit's odd counter must not stop the hours of all others."""
    moment = TODAY - DAY
    await store(pool, [a_beat(seq, moment, energy_wh=value, battery_v=value) for seq in (1, 2, 3)])
    await store(pool, [a_beat(4, moment, energy_wh=100.0)])

    await sum_up(pool, database)

    for points in (1, 2):
        told = await read(pool, Reading.ENERGY_WH, moment, moment + HOUR, points)
        assert told[0].count in {1, 4}


async def test_the_index_finds_a_unit_s_heartbeats(pool: Pool, database: Database) -> None:
    moments = [TODAY - 4 * DAY + number * timedelta(minutes=30) for number in range(150)]
    await store(pool, [a_beat(1, moment, unit_id=unit) for moment in moments for unit in range(100)])
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("ANALYZE heartbeat")
    grid = Grid.over(TODAY - 3 * DAY, TODAY - 2 * DAY, points=300, heartbeats_since=LONG_AGO)
    bounds = {"unit_id": 7, "width": grid.width, "first": grid.first, "last": grid.last}

    async with pool.transaction() as conn:
        asked = sql.SQL("EXPLAIN ") + series.query(grid.source, [Reading.BATTERY_V])
        plan = "\n".join(await rows(conn, lambda row: str(row["QUERY PLAN"]), asked, **bounds))

    assert grid.source is Source.HEARTBEATS
    assert "Seq Scan" not in plan
    assert re.search(r"Index Cond: \(\(unit_id = \S+ AND \(at >= .* AND \(at < ", plan)
