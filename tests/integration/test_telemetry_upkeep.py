"""Hours are right on both engines, and what is old goes as the settings say (issue 3.0, 3.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from protocol.messages import Mode
from runtime.settings import Database, Keeping
from storage import engine
from storage.engine import Engine
from storage.pool import Pool
from storage.sql import value
from telemetry import heartbeats, upkeep
from telemetry.heartbeats import Heartbeat
from telemetry.partitions import Days
from telemetry.upkeep import Kept
from tests.stored import refresh

NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
HOUR = NOW.replace(minute=0) - timedelta(hours=3)
HOURS = (
    "SELECT hour, heartbeats, battery_v_n, battery_v_min, battery_v_max, battery_v_sum FROM heartbeat_hourly"
)
BEATS_READ = """
SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint
  FROM pg_stat_xact_user_tables JOIN pg_inherits ON inhrelid = relid AND inhparent = 'heartbeat'::regclass
"""


def beat(seq: int, at: datetime, battery_v: float | None = 12.5) -> Heartbeat:
    """Make a heartbeat of unit 1."""
    return Heartbeat(
        unit_id=1,
        at=at,
        received_at=NOW,
        unit_ts=None,
        life=1,
        boot=1,
        seq=seq,
        epoch=0,
        mode=Mode.ENABLED,
        output=None,
        fw=None,
        readings={} if battery_v is None else {"battery_v": battery_v},
        fields={},
    )


async def store(pool: Pool, beats: Sequence[Heartbeat]) -> None:
    """Append heartbeats, their days made first."""
    await Days(pool).ensure(beat.at for beat in beats)
    async with pool.transaction() as conn:
        await heartbeats.append(conn, beats)


async def step(pool: Pool, most: int = 5_000) -> int | None:
    """Take one step in summing up all hours that are over."""
    async with pool.transaction() as conn:
        return await upkeep.roll_up(conn, before=NOW.replace(minute=0), most=most)


async def roll_up(pool: Pool, database: Database) -> None:
    """Do what the engine does by itself or has done by us, now."""
    async with pool.transaction() as conn:
        here = await engine.present(conn)
    while await step(pool):
        pass
    if here is Engine.TIMESCALE:
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            await refresh(owner)


async def keep(pool: Pool, settings: Keeping, *, now: datetime = NOW) -> Kept:
    """Let go of what is old."""
    async with pool.transaction() as conn:
        return await upkeep.keep(conn, settings, now=now)


async def hours(pool: Pool) -> list[tuple[object, ...]]:
    async with pool.transaction() as conn:
        found = await (await conn.execute(f"{HOURS} ORDER BY hour".encode())).fetchall()
    return [tuple(row.values()) for row in found]


async def test_an_hour_is_told_at_once_and_the_same_after_it_was_summed_up(
    pool: Pool, database: Database
) -> None:
    await store(pool, [beat(1, HOUR, 12.0), beat(2, HOUR + timedelta(minutes=59), 13.0), beat(3, HOUR, None)])

    before = await hours(pool)
    await roll_up(pool, database)

    assert before == [(HOUR, 3, 2, 12.0, 13.0, 25.0)]
    assert await hours(pool) == before


async def test_late_heartbeats_correct_hours_that_were_summed_up(pool: Pool, database: Database) -> None:
    """Backlog rows of last week and of the same hour, after the sums were made."""
    last_week = HOUR - timedelta(days=7)
    await store(pool, [beat(1, HOUR, 12.0)])
    await roll_up(pool, database)

    await store(pool, [beat(2, HOUR, 14.0), beat(3, last_week, 11.0)])
    await roll_up(pool, database)

    assert await hours(pool) == [(last_week, 1, 1, 11.0, 11.0, 11.0), (HOUR, 2, 2, 12.0, 14.0, 26.0)]


async def test_readings_beyond_all_sums_spoil_no_hour(pool: Pool, database: Database) -> None:
    """One unit's nonsense would otherwise stop the summing up of the whole fleet, for ever."""
    absurd = [beat(seq, HOUR)._replace(readings={"energy_wh": 1.7e308}) for seq in (1, 2)]
    await store(pool, [*absurd, beat(3, HOUR, 12.0)])

    before = await hours(pool)
    await roll_up(pool, database)

    assert before == [(HOUR, 3, 1, 12.0, 12.0, 12.0)]
    assert await hours(pool) == before
    async with pool.transaction() as conn:
        [_, *kept] = await heartbeats.of_unit(conn, 1, since=HOUR, until=NOW, limit=9)
    assert [one.readings for one in kept] == [{"energy_wh": 1.7e308}] * 2


async def test_an_hour_without_heartbeats_has_no_row(pool: Pool, database: Database) -> None:
    await store(pool, [beat(1, HOUR), beat(2, HOUR + timedelta(hours=2))])
    await roll_up(pool, database)

    assert [row[0] for row in await hours(pool)] == [HOUR, HOUR + timedelta(hours=2)]


async def test_notes_are_taken_in_bounded_bites_until_none_is_left(pool: Pool, database: Database) -> None:
    async with pool.transaction() as conn:
        if await engine.present(conn) is Engine.TIMESCALE:
            pytest.skip("the continuous aggregate keeps its own notes")
    await roll_up(pool, database)
    await store(pool, [beat(number, HOUR - timedelta(hours=number)) for number in range(1, 6)])

    assert [await step(pool, most=2) for _ in range(4)] == [2, 2, 1, 0]
    assert len(await hours(pool)) == 5


@pytest.mark.parametrize(
    ("asked", "due"),
    [
        ("SELECT roll_heartbeats_up(5000, '-infinity')", 33),
        ("SELECT max(battery_v_sum) FROM heartbeat_hourly WHERE unit_id IN (1, 2, 3)", 33),
        ("SELECT max(battery_v_sum) FROM heartbeat_hourly WHERE unit_id = 2", 11),
    ],
)
async def test_a_late_hour_is_summed_up_from_its_units_heartbeats_alone(
    pool: Pool, database: Database, asked: str, due: int
) -> None:
    """Three of 300 units were late: what is read are their eleven heartbeats of the hour each."""
    async with pool.transaction() as conn:
        if await engine.present(conn) is Engine.TIMESCALE:
            pytest.skip("the continuous aggregate keeps its own notes")
    ten = [beat(seq, HOUR + timedelta(minutes=seq)) for seq in range(10)]
    await store(pool, [one._replace(unit_id=unit) for one in ten for unit in range(300)])
    await roll_up(pool, database)
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("ANALYZE heartbeat")
    await store(pool, [beat(10, HOUR)._replace(unit_id=unit) for unit in (1, 2, 3)])

    async with pool.transaction() as conn:
        before: int = await value(conn, BEATS_READ)
        await conn.execute(asked.encode())
        read = await value(conn, BEATS_READ) - before

    assert read == due


async def test_what_is_stored_while_its_hour_is_summed_up_is_in_the_sum(
    pool: Pool, database: Database
) -> None:
    """Stored before the summing began and committed after it, or stored while it goes on."""
    async with pool.transaction() as conn:
        if await engine.present(conn) is Engine.TIMESCALE:
            pytest.skip("the continuous aggregate keeps its own notes")
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute(
            "UPDATE heartbeat_summing SET noted_before = %(hour)s, summed_before = %(hour)s", {"hour": HOUR}
        )
    await store(pool, [beat(1, HOUR, 12.0)])
    async with pool.transaction() as slow:
        await heartbeats.append(slow, [beat(2, HOUR, 13.0)])
        stepping = asyncio.create_task(step(pool))
        await until_waited_for(pool)
    assert await stepping == 1
    await store(pool, [beat(3, HOUR, 14.0)])

    told = [await hours(pool)]
    while await step(pool):
        told.append(await hours(pool))

    assert len(told) > 3
    assert all(found == [(HOUR, 3, 3, 12.0, 14.0, 39.0)] for found in told)


async def until_waited_for(pool: Pool) -> None:
    """Wait until somebody waits for a lock that another holds."""
    async with asyncio.timeout(10), pool.transaction() as conn:
        while not await value(conn, "SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def test_two_rounds_at_once_do_not_meet(pool: Pool) -> None:
    async with pool.transaction() as conn:
        if await engine.present(conn) is Engine.TIMESCALE:
            pytest.skip("TimescaleDB's scheduler runs one refresh at a time")
    async with pool.transaction() as first, pool.transaction() as second:
        assert await upkeep.roll_up(first, before=HOUR) is not None
        assert await upkeep.roll_up(second, before=HOUR) is None


async def test_heartbeats_go_when_their_days_are_over_and_their_hours_stay(
    pool: Pool, database: Database
) -> None:
    old = HOUR - timedelta(days=100)
    await store(pool, [beat(1, old), beat(2, HOUR)])
    await keep(pool, Keeping())
    await roll_up(pool, database)

    kept = await keep(pool, Keeping(keep_heartbeats_days=60))

    assert kept.dropped == 1
    await roll_up(pool, database)
    assert [row[0] for row in await hours(pool)] == [old, HOUR]
    async with pool.transaction() as conn:
        assert await value(conn, "SELECT count(*) FROM heartbeat") == 1


async def test_who_reads_for_long_is_not_waited_for(pool: Pool, database: Database) -> None:
    """A dump holds the days until it ends; who writes would wait behind who waits for it."""
    await store(
        pool, [beat(1, HOUR - timedelta(days=400)), beat(2, HOUR - timedelta(days=100)), beat(3, HOUR)]
    )
    await keep(pool, Keeping())
    await roll_up(pool, database)
    later = Keeping(keep_heartbeats_days=60, keep_hours_days=360)
    async with await psycopg.AsyncConnection.connect(database.owner_url) as dump:
        await dump.execute("SELECT FROM heartbeat")

        beside = await keep(pool, later)

    after = await keep(pool, later)

    assert (beside.held, beside.dropped, after.held, after.dropped) == (True, 0, False, 2)
    assert [row[0] for row in await hours(pool)] == [HOUR - timedelta(days=100), HOUR]


async def test_hours_go_when_theirs_are_over(pool: Pool, database: Database) -> None:
    old = HOUR - timedelta(days=300)
    await store(pool, [beat(1, old), beat(2, HOUR)])
    await keep(pool, Keeping())
    await roll_up(pool, database)
    assert [row[0] for row in await hours(pool)] == [old, HOUR]

    await keep(pool, Keeping(keep_heartbeats_days=60, keep_hours_days=90))

    assert [row[0] for row in await hours(pool)] == [HOUR]


async def test_what_a_dead_letter_of_long_ago_brings_is_in_its_hour_too(
    pool: Pool, database: Database
) -> None:
    """Within what is kept; the hour was summed up long before."""
    old = HOUR - timedelta(days=350)
    await store(pool, [beat(1, old, 12.0), beat(2, HOUR)])
    await keep(pool, Keeping())
    await roll_up(pool, database)

    await store(pool, [beat(3, old, 14.0)])
    await roll_up(pool, database)

    assert (await hours(pool))[0] == (old, 2, 2, 12.0, 14.0, 26.0)


async def test_nothing_goes_by_a_gateway_s_clock_that_is_ahead(pool: Pool, database: Database) -> None:
    await store(pool, [beat(1, HOUR - timedelta(days=50)), beat(2, HOUR)])
    await roll_up(pool, database)

    kept = await keep(
        pool, Keeping(keep_heartbeats_days=60, keep_hours_days=60), now=NOW + timedelta(days=365)
    )

    assert (kept.dropped, kept.hours) == (0, 0)
    async with pool.transaction() as conn:
        assert await value(conn, "SELECT count(*) FROM heartbeat") == 2


@pytest.mark.parametrize("later", [Keeping(), Keeping(keep_heartbeats_days=60)])
async def test_hours_outlive_their_heartbeats_whatever_is_kept_later(
    pool: Pool, database: Database, later: Keeping
) -> None:
    """More days than before, or as many by a gateway's clock that is behind."""
    old = [HOUR - timedelta(days=days) for days in (300, 200, 100)]
    await store(pool, [*(beat(seq, at) for seq, at in enumerate(old, 1)), beat(9, HOUR)])
    await keep(pool, Keeping())
    await roll_up(pool, database)
    assert (await keep(pool, Keeping(keep_heartbeats_days=60))).dropped == 3

    await keep(pool, later, now=NOW - timedelta(days=365))
    await roll_up(pool, database)

    assert [row[0] for row in await hours(pool)] == [*old, HOUR]


async def test_nobody_has_less_kept_than_the_settings_admit(pool: Pool, database: Database) -> None:
    await store(pool, [beat(1, HOUR - timedelta(days=50)), beat(2, HOUR)])
    await keep(pool, Keeping())
    await roll_up(pool, database)

    async with pool.transaction() as conn:
        await conn.execute("SELECT keep_heartbeats('infinity', 'infinity', '-infinity')")

    assert len(await hours(pool)) == 2
    async with pool.transaction() as conn:
        assert await value(conn, "SELECT count(*) FROM heartbeat") == 2


async def test_of_two_that_let_go_at_once_one_does_it(pool: Pool, database: Database) -> None:
    """The other would look for what is gone when it gets there, and end its gateway."""
    await store(pool, [beat(1, HOUR - timedelta(days=100)), beat(2, HOUR)])
    await roll_up(pool, database)
    settings = Keeping(keep_heartbeats_days=60)

    async with pool.transaction() as first, pool.transaction() as second:
        did = await upkeep.keep(first, settings, now=NOW)
        left = await upkeep.keep(second, settings, now=NOW)

    assert (did.dropped, left.dropped) == (1, 0)


async def test_what_was_compressed_is_read_as_before_and_takes_late_rows(pool: Pool) -> None:
    """On plain PostgreSQL nothing is compressed; what is read is the same."""
    old = HOUR - timedelta(days=70)
    await store(pool, [beat(number, old + timedelta(minutes=number)) for number in range(1, 50)])

    async with pool.transaction() as conn:
        here = await engine.present(conn)
        kept = await upkeep.keep(conn, Keeping(), now=NOW)
    await store(pool, [beat(50, old)])

    assert kept.compressed == (1 if here is Engine.TIMESCALE else 0)
    async with pool.transaction() as conn:
        page = await heartbeats.of_unit(conn, 1, since=old, until=old + timedelta(days=1), limit=100)
    assert [found.seq for found in page] == [*range(49, 0, -1), 50]


@pytest.mark.parametrize("table", ["heartbeat_hour", "heartbeat_touched", "heartbeat_summing"])
async def test_the_applications_role_cannot_reach_the_sums(pool: Pool, table: str) -> None:
    async with pool.transaction() as conn:
        if await engine.present(conn) is Engine.TIMESCALE:
            pytest.skip("these tables are the plain engine's")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with pool.transaction() as conn:
            await conn.execute(f"SELECT FROM {table}".encode())
