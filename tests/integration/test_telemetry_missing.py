"""What is missing of the fleet is counted on a round, by one gateway at a time, and kept (issue 3.4, R10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from prometheus_client import REGISTRY

from protocol.messages import Heartbeat, Mode
from registry import entities
from runtime import clock
from runtime.settings import Database
from storage.pool import Pool
from telemetry import holes, missing
from telemetry.arrivals import Arrival, moments
from telemetry.missing import BOOTS, Count
from telemetry.partitions import Days
from telemetry.record import record
from tests.calling import FOREIGN, OWN, Site, site


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


async def hear(pool: Pool, unit_id: int, *names: tuple[int, int]) -> None:
    """Let heartbeats arrive that had waited, each (boot, seq)."""
    now = clock.now()
    arrivals = [
        Arrival(
            unit_id=unit_id,
            message=Heartbeat(boot=boot, seq=seq, mode=Mode.ENABLED, epoch=0),
            received_at=now,
            live=False,
        )
        for boot, seq in names
    ]
    await Days(pool).ensure(moments(arrivals))
    async with pool.transaction() as conn:
        await record(conn, arrivals, now=now)


async def due(here: Site) -> None:
    await here.sql("UPDATE fleet_missing SET due_at = now()")


async def look(here: Site) -> None:
    await Count(here.pool).look(asyncio.Event())


async def test_a_count_is_kept_until_the_next_is_due(here: Site) -> None:
    await hear(here.pool, 1, (1, 5))
    await look(here)
    await hear(here.pool, 1, (1, 8))
    await look(here)
    async with here.pool.transaction() as conn:
        kept = await holes.of_fleet(conn, None, limit=9)

    await due(here)
    await look(here)

    async with here.pool.transaction() as conn:
        counted = await holes.of_fleet(conn, None, limit=9)
    assert (kept.missing, kept.boots, kept.units) == (4, 1, 1)
    assert (counted.missing, counted.boots, counted.units) == (6, 1, 1)
    assert counted.counted_at is not None
    assert kept.counted_at is not None
    assert counted.counted_at > kept.counted_at


async def test_the_figure_that_is_scraped_is_the_one_that_is_kept(here: Site) -> None:
    await hear(here.pool, 1, (1, 5))
    await look(here)
    missing.MISSING.set(-1)  # as in another gateway, which counts nothing now

    await look(here)

    assert REGISTRY.get_sample_value("heliograph_fleet_missing_heartbeats") == 4
    counted_at = REGISTRY.get_sample_value("heliograph_fleet_counted_timestamp_seconds")
    assert counted_at is not None
    assert abs(counted_at - clock.now().timestamp()) < 300


async def test_of_several_gateways_one_counts(here: Site) -> None:
    await hear(here.pool, 1, (1, 5))

    async with here.pool.transaction() as conn:  # whoever counts claims it first
        await conn.execute(
            "UPDATE fleet_missing SET due_at = now() + interval '10 min' WHERE due_at <= now()"
        )
    await look(here)

    async with here.pool.transaction() as conn:
        assert (await holes.of_fleet(conn, None, limit=9)).counted_at is None


async def test_a_count_that_is_told_to_stop_is_left_to_another(here: Site) -> None:
    await hear(here.pool, 1, (1, 5))
    stopped = asyncio.Event()
    stopped.set()

    await Count(here.pool).look(stopped)

    async with here.pool.transaction() as conn:
        assert (await holes.of_fleet(conn, None, limit=9)).counted_at is None


async def test_what_is_heard_after_all_is_missing_no_more(here: Site) -> None:
    await hear(here.pool, 1, (1, 3), (2, 2))
    await look(here)
    await hear(here.pool, 1, (1, 1), (1, 2), (2, 1))

    await due(here)
    await look(here)

    async with here.pool.transaction() as conn:
        fleet = await holes.of_fleet(conn, None, limit=9)
    assert (fleet.missing, fleet.boots, fleet.units, fleet.worst) == (0, 0, 0, [])


async def test_old_boots_count_on_in_every_sum_though_their_bits_are_gone(here: Site) -> None:
    await hear(here.pool, 1, *[(boot, 3) for boot in range(1, BOOTS + 7)])
    await hear(here.pool, 2, (1, 2))
    await look(here)

    token = await here.token(scope=frozenset({OWN}), name="own")
    unit = (await here.get("/v1/units/HB000001-G/holes", token)).json()
    fleet = (await here.get("/v1/fleet/holes", token)).json()

    assert unit["past"] == {"life": 0, "boot": 6, "boots": 6, "heard": 6, "missing": 12}
    assert unit["missing"] == fleet["missing"] == 2 * (BOOTS + 6)
    assert len(unit["boots"]) == BOOTS
    assert (fleet["boots"], fleet["units"]) == (BOOTS + 6, 1)
    assert fleet["counted_at"] is not None


async def test_a_scope_without_losses_says_so_and_when_that_was_found(here: Site) -> None:
    await hear(here.pool, 1, (1, 3))
    await look(here)

    async with here.pool.transaction() as conn:
        assert await entities.known(conn, {FOREIGN}, scope=None) == {FOREIGN}
        found = await holes.of_fleet(conn, frozenset({FOREIGN}), limit=9)

    assert (found.missing, found.boots, found.units, found.worst) == (0, 0, 0, [])
    assert found.counted_at is not None


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM unit_sequence",
        "DELETE FROM unit_alert",
        "UPDATE unit_past SET missing = 0",
        "INSERT INTO unit_past VALUES (1, 1, 1, 1, 1, 1, 1)",
    ],
)
async def test_the_application_lets_go_of_nothing_by_itself(here: Site, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await here.sql(statement)


async def test_boots_are_not_summed_up_under_a_heartbeat_s_hands(here: Site) -> None:
    """The sum waits for whoever holds the unit's status, and misses nothing of what was written then."""
    await hear(here.pool, 1, *[(boot, 3) for boot in range(1, BOOTS + 7)])
    locked, release = asyncio.Event(), asyncio.Event()

    async def hears_late() -> None:
        late = Heartbeat(boot=1, seq=1, mode=Mode.ENABLED, epoch=0)
        arrival = Arrival(unit_id=1, message=late, received_at=clock.now(), live=False)
        async with here.pool.transaction() as conn:
            await record(conn, [arrival], now=clock.now())
            locked.set()
            await release.wait()

    async def sums_up() -> int:
        await locked.wait()
        async with here.pool.transaction() as conn:
            return await missing.count(conn, 1, 10)

    async with asyncio.TaskGroup() as group:
        group.create_task(hears_late())
        summing = group.create_task(sums_up())
        while await waiting(here) == 0:
            await asyncio.sleep(0.01)
        release.set()

    assert summing.result() == 6
    async with here.pool.transaction() as conn:
        past = await holes.past_of_unit(conn, 1)
    assert past is not None
    assert (past.heard, past.missing) == (7, 11)


async def waiting(here: Site) -> int:
    """Count the connections to this database that wait for a lock."""
    async with here.pool.transaction() as conn:
        cursor = await conn.execute(
            "SELECT count(*) AS n FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        found = await cursor.fetchone()
    return int(found["n"]) if found else 0
