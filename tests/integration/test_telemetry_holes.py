"""Lost heartbeats are seen: of a unit by boot, of the fleet, and through the API (R10, issue 3.4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from protocol.messages import Heartbeat, Mode
from runtime import clock
from runtime.settings import Database
from telemetry import holes
from telemetry.arrivals import Arrival, moments
from telemetry.counters import SEQ_LEAP
from telemetry.missing import Count
from telemetry.partitions import Days
from telemetry.record import record
from tests.builders import an_imei
from tests.calling import FOREIGN, OWN, Site, problem, site, unit_of

SEED = 20261124


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


async def hear(here: Site, unit_id: int, *names: tuple[int, int, int]) -> None:
    """Let heartbeats arrive, each (life, boot, seq), about a minute apart."""
    start = clock.now() - timedelta(days=1)
    arrivals = [
        Arrival(
            unit_id=unit_id,
            message=Heartbeat(life=life, boot=boot, seq=seq, mode=Mode.ENABLED, epoch=0),
            received_at=start + timedelta(minutes=seq % 1_000),
            live=False,  # they come in any order: only what waited does
        )
        for life, boot, seq in names
    ]
    await Days(here.pool).ensure(moments(arrivals))
    async with here.pool.transaction() as conn:
        await record(conn, arrivals, now=start)


async def count(here: Site) -> None:
    """Count as a gateway does every few minutes."""
    await here.sql("UPDATE fleet_missing SET due_at = now()")
    await Count(here.pool).look(asyncio.Event())


async def test_holes_reported_are_holes_made(here: Site) -> None:
    """One in a hundred is lost, over reboots and a new life; what follows the newest heard nobody knows."""
    dice = random.Random(SEED)  # noqa: S311 - a repeatable loss is no secret
    sent = [(life, boot, seq) for life in (9, 4) for boot in (1, 2, 3) for seq in range(1, 1_500)]
    heard = [name for name in sent if dice.random() > 0.01]
    dice.shuffle(heard)

    await hear(here, 1, *heard)

    newest = {(life, boot): seq for life, boot, seq in sorted(heard)}
    made = {(life, boot, seq) for life, boot, seq in sent if seq < newest[life, boot]} - set(heard)
    async with here.pool.transaction() as conn:
        found = await holes.of_unit(conn, 1)
    told = {
        (boot.life, boot.boot, seq)
        for boot in found
        for hole in boot.holes
        for seq in range(hole.first, hole.last + 1)
    }
    assert told == made
    assert sum(boot.missing for boot in found) == len(made)


@pytest.mark.parametrize("newest", [1, 2, 7, 8, 9, 1_023, 1_024, 1_025, 70_000, 2**32 - 1])
async def test_the_newest_number_is_read_from_the_bits_in_sql_as_in_python(here: Site, newest: int) -> None:
    climb = [*range(SEQ_LEAP, newest, SEQ_LEAP), newest]
    await hear(here, 1, *[(1, 1, seq) for seq in climb])

    await count(here)

    async with here.pool.transaction() as conn:
        found = await holes.of_unit(conn, 1)
        fleet = await holes.of_fleet(conn, None, limit=5)
    assert [boot.newest for boot in found] == ([] if newest == 1 else [newest])
    assert fleet.missing == newest - len(climb)


async def test_a_hole_says_since_when(here: Site) -> None:
    await hear(here, 1, (1, 1, 3), (1, 1, 6))

    async with here.pool.transaction() as conn:
        [boot] = await holes.of_unit(conn, 1)
        before = await (await conn.execute("SELECT at FROM heartbeat WHERE seq = 3")).fetchone()

    assert [(hole.first, hole.last, hole.since) for hole in boot.holes] == [
        (1, 2, None),
        (4, 5, before and before["at"]),
    ]


async def test_a_hole_that_is_filled_by_a_backlog_is_gone(here: Site) -> None:
    await hear(here, 1, (1, 1, 1), (1, 1, 3))
    await hear(here, 1, (1, 1, 2))

    async with here.pool.transaction() as conn:
        assert await holes.of_unit(conn, 1) == []


async def test_many_holes_are_counted_and_the_newest_are_told(here: Site) -> None:
    await hear(here, 1, *[(1, 1, seq) for seq in range(2, 2 * holes.RANGES + 10, 2)])

    async with here.pool.transaction() as conn:
        [boot] = await holes.of_unit(conn, 1)

    assert (len(boot.holes), boot.all_holes) == (holes.RANGES, holes.RANGES + 4)
    assert boot.holes[-1].last == boot.newest - 1


async def test_a_unit_s_holes_are_shown(here: Site) -> None:
    await hear(here, 1, (7, 2, 1), (7, 2, 4))

    shown = (await here.get(f"/v1/units/{unit_of(OWN)}/holes", await here.token())).json()

    [boot] = shown["boots"]
    since = boot["holes"][0].pop("since")
    assert since is not None
    assert shown == {
        "missing": 2,
        "boots": [
            {
                "life": 7,
                "boot": 2,
                "newest": 4,
                "missing": 2,
                "holes": [{"first": 2, "last": 3, "count": 2}],
                "all_holes": 1,
            }
        ],
        "past": None,
    }


async def test_the_fleet_s_losses_name_the_worst_first_and_only_whom_one_may_see(here: Site) -> None:
    await hear(here, 1, (1, 1, 11))
    await hear(here, 2, (1, 1, 6), (1, 2, 101))
    await count(here)
    everything, own = await here.token(), await here.token(scope=frozenset({OWN}), name="own")

    fleet = (await here.get("/v1/fleet/holes", everything)).json()
    mine = (await here.get("/v1/fleet/holes", own)).json()
    first = (await here.get("/v1/fleet/holes", everything, limit=1)).json()

    assert (fleet["missing"], fleet["boots"], fleet["units"]) == (115, 3, 2)
    assert [one["imei"] for one in fleet["worst"]] == [an_imei(2), an_imei(1)]
    assert (mine["missing"], mine["units"], [one["imei"] for one in mine["worst"]]) == (10, 1, [an_imei(1)])
    assert (first["missing"], len(first["worst"])) == (115, 1)


async def test_a_fleet_that_lacks_nothing_says_so(here: Site) -> None:
    shown = (await here.get("/v1/fleet/holes", await here.token())).json()

    assert shown == {"counted_at": None, "missing": 0, "boots": 0, "units": 0, "worst": []}


async def test_who_may_not(here: Site) -> None:
    own = await here.token(scope=frozenset({OWN}), name="own")

    assert problem(await here.get(f"/v1/units/{unit_of(FOREIGN)}/holes", own))[0] == 404
    for path in (f"/v1/units/{unit_of(OWN)}/holes", "/v1/fleet/holes"):
        assert problem(await here.get(path))[0] == 401
        assert problem(await here.get(path, await here.expired()))[0] == 401


@pytest.mark.parametrize("limit", [0, -1, 10**9, "x"])
async def test_an_odd_limit_is_refused(here: Site, limit: object) -> None:
    assert problem(await here.get("/v1/fleet/holes", await here.token(), limit=limit))[0] == 422
