"""Days that are over are packed, and nobody notices but the disk (issue 3.1)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from deploy.local.postgres import Role
from protocol.messages import Mode
from runtime.settings import Database, Keeping
from storage import engine
from storage.engine import Engine
from storage.errors import NotMigrated
from storage.pack import AlreadyPacking, Loose, NotTheOwner, pack
from storage.pool import Pool
from telemetry import heartbeats
from telemetry.heartbeats import Heartbeat
from telemetry.partitions import Days

NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
UNITS = 40
EACH = 100
LIMIT_S = 60.0
ALL = "SELECT md5(string_agg(h::text, '|' ORDER BY h::text)) FROM heartbeat h"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
ENDED = """
SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ 'REINDEX')
"""


@pytest.fixture(autouse=True)
async def only_plain(pool: Pool, request: pytest.FixtureRequest) -> None:
    """Leave out what the other engine does in its own way, but for the test that says so."""
    async with pool.transaction() as conn:
        here = await engine.present(conn)
    if (here is Engine.TIMESCALE) != ("timescale" in request.node.name):
        pytest.skip("no TimescaleDB here" if here is Engine.PLAIN else "TimescaleDB compresses instead")


def a_day(ago: int, units: int = UNITS) -> list[Heartbeat]:
    """Let a fleet live through the day so long ago: its heartbeats in the order in which they come."""
    start, step = TODAY - timedelta(days=ago), timedelta(days=1) / EACH
    return [
        Heartbeat(
            unit_id=unit,
            at=(at := start + number * step + timedelta(seconds=unit)),
            received_at=at,
            unit_ts=None,
            life=1,
            boot=1,
            seq=number + 1,
            epoch=0,
            mode=Mode.ENABLED,
            output=None,
            fw=None,
            readings={"battery_v": 12.5},
            fields={},
        )
        for number in range(EACH)
        for unit in range(1, units + 1)
    ]


async def store(pool: Pool, beats: Sequence[Heartbeat]) -> None:
    """Append heartbeats, their days made first."""
    await Days(pool).ensure(beat.at for beat in beats)
    async with pool.transaction() as conn:
        await heartbeats.append(conn, beats)


def table(ago: int) -> str:
    """Name the table of the day so long ago."""
    return f"heartbeat_{TODAY - timedelta(days=ago):%Y%m%d}"


async def ask(database: Database, question: str) -> Any:
    """Ask as the owner."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as conn:
        cursor = await conn.execute(question.encode())
        found = await cursor.fetchone() if cursor.description else None
    return found[0] if found else None


async def until(database: Database, question: str) -> None:
    """Wait until a question is answered with yes."""
    async with asyncio.timeout(LIMIT_S):
        while not await ask(database, question):
            await asyncio.sleep(0.05)


async def built_as(database: Database, ago: int) -> Any:
    """Give the file of the day's index; autovacuum adds files of its own beside it, and builds none anew."""
    return await ask(database, f"SELECT pg_relation_filenode('{table(ago)}_unit_id_at_idx')")


@asynccontextmanager
async def held_up(database: Database) -> AsyncIterator[None]:
    """Keep every rebuilding from its end for as long as the block takes: it waits for older snapshots."""
    async with await psycopg.AsyncConnection.connect(database.owner_url) as conn:
        await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await conn.execute("SELECT FROM unit")
        yield


async def test_days_that_are_over_are_packed_and_the_others_left(pool: Pool, database: Database) -> None:
    await store(pool, [beat for ago in (0, 1, 2, 3) for beat in a_day(ago)])
    before = await ask(database, ALL)
    built = [await built_as(database, ago) for ago in (0, 1, 2, 3)]

    done = await pack(database, Keeping(), now=NOW)

    assert [day.name for day in done.packed] == [table(2), table(3)]
    assert all(day.after < 0.9 * day.before for day in done.packed)
    assert await ask(database, ALL) == before
    anew = [await built_as(database, ago) != before for ago, before in enumerate(built)]
    assert anew == [False, False, True, True]


async def test_a_second_run_finds_nothing_to_do(pool: Pool, database: Database) -> None:
    await store(pool, a_day(2))

    first, second = [await pack(database, Keeping(), now=NOW) for _ in range(2)]

    assert len(first.packed) == 1
    assert not second.packed


async def test_a_day_is_packed_where_autovacuum_has_counted_its_rows_before(
    pool: Pool, database: Database
) -> None:
    await store(pool, a_day(2))
    await ask(database, f"ANALYZE {table(2)}")

    done = await pack(database, Keeping(), now=NOW)

    assert [day.name for day in done.packed] == [table(2)]


async def test_a_few_late_heartbeats_do_not_unpack_a_day_and_many_do(pool: Pool, database: Database) -> None:
    day = a_day(2)
    await store(pool, day[100:])
    await pack(database, Keeping(), now=NOW)

    await store(pool, day[:100])
    few = await pack(database, Keeping(), now=NOW)
    await store(pool, a_day(2, units=UNITS * 2))
    many = await pack(database, Keeping(), now=NOW)

    assert not few.packed
    assert len(many.packed) == 1


async def test_a_day_without_heartbeats_is_nothing_to_do(pool: Pool, database: Database) -> None:
    await Days(pool).ensure([TODAY - timedelta(days=5)])

    assert not (await pack(database, Keeping(), now=NOW)).packed


async def test_a_day_that_is_about_to_be_dropped_is_left_alone(pool: Pool, database: Database) -> None:
    """Who drops a day waits for who packs it, and all who write wait behind him."""
    await store(pool, [beat for ago in (57, 59) for beat in a_day(ago)])

    done = await pack(database, Keeping(keep_heartbeats_days=60), now=NOW)

    assert [day.name for day in done.packed] == [table(57)]


async def test_heartbeats_of_the_day_are_taken_and_told_while_it_is_packed(
    pool: Pool, database: Database
) -> None:
    await store(pool, a_day(2))

    async with held_up(database):
        packing = asyncio.create_task(pack(database, Keeping(), now=NOW))
        await until(database, INVALID)
        await store(pool, a_day(2)[:500])
        taken = await ask(database, "SELECT count(*) FROM heartbeat")
    done = await packing

    assert taken == UNITS * EACH + 500
    assert len(done.packed) == 1
    assert await ask(database, "SELECT count(*) FROM heartbeat") == taken
    assert not await ask(database, INVALID)


async def test_of_two_runs_at_once_one_is_refused(pool: Pool, database: Database) -> None:
    await store(pool, a_day(2))

    async with held_up(database):
        packing = asyncio.create_task(pack(database, Keeping(), now=NOW))
        await until(database, INVALID)
        with pytest.raises(AlreadyPacking):
            async with asyncio.timeout(LIMIT_S):
                await pack(database, Keeping(), now=NOW)

    assert len((await packing).packed) == 1


async def test_what_a_killed_run_left_is_dropped_first(pool: Pool, database: Database) -> None:
    """The server ends the work of a run that is gone by itself; the half-built index stays."""
    await store(pool, a_day(2))
    async with held_up(database):
        killed = await start(database)
        await until(database, INVALID)
        killed.kill()
        await killed.wait()
        await until(database, ENDED)
    assert await ask(database, INVALID) == 1

    done = await pack(database, Keeping(), now=NOW)

    assert done.left_overs == [f"{table(2)}_unit_id_at_idx_ccnew"]
    assert [day.name for day in done.packed] == [table(2)]
    assert not await ask(database, INVALID)


async def test_a_run_that_is_stopped_can_be_repeated(pool: Pool, database: Database) -> None:
    await store(pool, a_day(2))
    async with held_up(database):
        packing = asyncio.create_task(pack(database, Keeping(), now=NOW))
        await until(database, INVALID)
        packing.cancel()
        with suppress(asyncio.CancelledError):
            await packing

    assert len((await pack(database, Keeping(), now=NOW)).packed) == 1
    assert not await ask(database, INVALID)


async def test_progress_is_told_day_by_day(pool: Pool, database: Database) -> None:
    await store(pool, [beat for ago in (2, 3) for beat in a_day(ago)])
    told: list[str] = []

    def track(days: Sequence[Loose]) -> Sequence[Loose]:
        told.extend(day.name for day in days)
        return days

    await pack(database, Keeping(), now=NOW, track=track)

    assert told == [table(2), table(3)]


async def test_the_applications_role_is_refused(database: Database) -> None:
    app = database.model_copy(update={"database_owner_url": None})

    with pytest.raises(NotTheOwner, match="HELIOGRAPH_DATABASE_OWNER_URL"):
        await pack(app, Keeping(), now=NOW)


async def test_a_database_without_heartbeats_is_refused(empty_database: Database) -> None:
    with pytest.raises(NotMigrated, match="migrate"):
        await pack(empty_database, Keeping(), now=NOW)


async def test_the_command_line_tells_what_it_did(pool: Pool, database: Database) -> None:
    await store(pool, a_day(2))

    packed = json.loads(await told(database, "--json"))
    nothing = json.loads(await told(database, "--json"))

    assert packed["packed"][0]["name"] == table(2)
    assert nothing == {"engine": "plain", "left_overs": [], "packed": []}
    assert await told(database) == "nothing to do\n"


async def test_the_command_line_refuses_in_one_sentence(database: Database) -> None:
    app = await start(database.model_copy(update={"database_owner_url": None}))

    _, said = await app.communicate()

    assert app.returncode == 1
    assert said.decode().startswith("heliograph: Only the schema's owner packs")
    assert Role.APP in said.decode()


async def test_on_timescale_there_is_nothing_to_do(pool: Pool, database: Database) -> None:
    await store(pool, a_day(2))

    done = await pack(database, Keeping(), now=NOW)

    assert not done.packed
    assert "TimescaleDB" in await told(database)


async def start(database: Database, *words: str) -> asyncio.subprocess.Process:
    """Start `python -m storage pack`."""
    urls = {"HELIOGRAPH_DATABASE_URL": database.url, "HELIOGRAPH_DATABASE_OWNER_URL": database.owner_url}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "storage", "pack", *words),
        env=os.environ | urls,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def told(database: Database, *words: str) -> str:
    """Run `python -m storage pack` to its good end and give what it printed."""
    process = await start(database, *words)
    printed, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    return printed.decode()
