"""Migrations: once each, in order, never changed, one migrator at a time."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from runtime.settings import Database
from storage import engine
from storage.catalogue import describe
from storage.engine import Engine
from storage.errors import DatabaseUnavailable, MigrationChanged, SchemaTooNew, WrongEngine
from storage.migrate import FOLDER, BadMigration, EngineNotServed, MayNotMigrate, migrate, migrations, pending
from storage.pool import open_pool
from storage.sql import value

SCHEMA = Path("storage/schema.sql")
PLAINS_OWN = ("TABLE heartbeat_hour\n", "TABLE heartbeat_touched\n", "TABLE heartbeat_summing\n")
TIMESCALES_OWN = "TABLE heartbeat_dropped\n"


async def execute(database: Database, statement: str) -> None:
    """Run one statement as the owner."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as conn:
        await conn.execute(statement.encode())


def lengthened(folder: Path, text: str) -> Path:
    """Copy the real migrations and add one."""
    for path in FOLDER.glob("*.sql"):
        (folder / path.name).write_text(path.read_text())
    (folder / f"{len(migrations(Engine.PLAIN)) + 1:04}_more.sql").write_text(text)
    return folder


async def test_a_migrated_database_needs_nothing_more(database: Database) -> None:
    assert await migrate(database) == []
    async with open_pool(database) as pool, pool.transaction() as conn:
        assert await pending(conn) == []


async def test_two_migrators_at_once_apply_each_step_once(database: Database, tmp_path: Path) -> None:
    folder = lengthened(tmp_path, "CREATE TABLE more (id int); SELECT pg_sleep(0.2);")

    done = await asyncio.gather(migrate(database, folder), migrate(database, folder))

    assert sorted(len(steps) for steps in done) == [0, 1]


async def test_a_step_that_fails_leaves_no_trace_and_can_be_tried_again(
    database: Database, tmp_path: Path
) -> None:
    folder = lengthened(tmp_path, "CREATE TABLE more (id int); SELECT 1 / 0;")

    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(database, folder)

    assert len(await migrate(database, lengthened(tmp_path, "CREATE TABLE more (id int);"))) == 1


async def test_a_step_outside_a_transaction_runs(database: Database, tmp_path: Path) -> None:
    statement = "-- outside transaction\nCREATE INDEX CONCURRENTLY more ON entity (created_at);"

    [step] = await migrate(database, lengthened(tmp_path, statement))

    assert step.outside_transaction


async def test_heartbeats_of_the_release_before_are_summed_up_too(
    empty_database: Database, tmp_path: Path
) -> None:
    """0.1.0 had no hours: what it stored is noted when they come."""
    for path in FOLDER.glob("000[1-4]*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    await migrate(empty_database, tmp_path)
    await execute(empty_database, "SELECT ensure_heartbeat_day('2026-11-20')")
    await execute(
        empty_database,
        "INSERT INTO heartbeat (at, received_at, boot, seq, epoch, unit_id, life, mode, battery_v)"
        " VALUES ('2026-11-20 12:34Z', '2026-11-20 12:34Z', 1, 1, 0, 1, 1, 'e', 12.5)",
    )

    await migrate(empty_database)

    async with open_pool(empty_database) as pool, pool.transaction() as conn:
        assert await value(conn, "SELECT heartbeats FROM heartbeat_hourly WHERE battery_v_max = 12.5") == 1


@pytest.mark.parametrize("given", ["database", "empty_database"])
async def test_the_applications_role_is_refused(given: str, request: pytest.FixtureRequest) -> None:
    there: Database = request.getfixturevalue(given)
    app = there.model_copy(update={"database_owner_url": None})

    with pytest.raises(MayNotMigrate, match="HELIOGRAPH_DATABASE_OWNER_URL"):
        await migrate(app)


async def test_a_server_that_takes_no_writes_is_told(empty_database: Database) -> None:
    """A standby answers with the same error."""
    name = urlsplit(empty_database.owner_url).path[1:]
    await execute(empty_database, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')

    with pytest.raises(DatabaseUnavailable, match="takes no writes"):
        await migrate(empty_database)


async def test_a_changed_migration_is_refused_by_its_number(database: Database) -> None:
    await execute(database, "UPDATE schema_migration SET checksum = 'other' WHERE number = 2")

    with pytest.raises(MigrationChanged, match="0002"):
        await migrate(database)


async def test_a_database_newer_than_the_release_is_refused(database: Database) -> None:
    await execute(
        database, "INSERT INTO schema_migration (number, name, checksum) VALUES (9999, 'future', '')"
    )

    with pytest.raises(SchemaTooNew):
        await migrate(database)


async def test_a_database_of_another_engine_is_refused(database: Database) -> None:
    async with open_pool(database) as pool, pool.transaction() as conn:
        here = await engine.present(conn)
    swap = "UPDATE schema_engine SET engine = CASE engine WHEN 'plain' THEN 'timescale' ELSE 'plain' END"
    await execute(database, swap)
    async with open_pool(database) as pool, pool.transaction() as conn:
        assert await engine.chosen(conn) is not here

    with pytest.raises(WrongEngine):
        await migrate(database)


def test_an_engine_that_some_migration_has_no_form_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_rows.plain.sql").write_text("SELECT 1;")

    with pytest.raises(EngineNotServed, match="0001"):
        migrations(Engine.TIMESCALE, tmp_path)


@pytest.mark.parametrize("served", Engine)
def test_every_engine_has_every_step(served: Engine) -> None:
    """Issue 3.0."""
    numbers = {path.name[:4] for path in FOLDER.glob("*.sql")}

    assert len(migrations(served)) == len(numbers)


@pytest.mark.parametrize("name", ["1_short.sql", "0002_gap.sql", "0001_Upper.sql", "0001_x.oracle.sql"])
def test_a_folder_out_of_order_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("SELECT 1;")

    with pytest.raises(BadMigration):
        migrations(Engine.PLAIN, tmp_path)


async def test_the_schema_is_the_one_written_down(database: Database) -> None:
    """`python -m storage schema > storage/schema.sql` writes it anew, on the plain engine."""
    async with open_pool(database) as pool, pool.transaction() as conn:
        here = await engine.present(conn)
    described, written = await describe(database), SCHEMA.read_text()

    if here is Engine.PLAIN:
        assert described == written
    else:
        common = {table for table in tables(written) if not table.startswith(PLAINS_OWN)}
        assert {table for table in tables(described) if not table.startswith(TIMESCALES_OWN)} == common


def tables(schema: str) -> set[str]:
    """Give the tables with all their columns and constraints, without how they are divided."""
    blocks = re.split(r"\n(?=[A-Z])", schema.replace(" PARTITION BY RANGE (at)", ""))
    return {block for block in blocks if block.startswith("TABLE ")}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'x'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "DELETE FROM command_event",
        "UPDATE lifecycle_change SET reason = 'x'",
        "DELETE FROM heartbeat",
        "DELETE FROM unit",
        "DELETE FROM command",
        "INSERT INTO schema_migration (number, name, checksum) VALUES (1, '', '')",
        "CREATE TABLE mine (id int)",
        "DROP TABLE entity",
    ],
)
async def test_the_applications_role_may_not_rewrite_history(database: Database, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute(statement.encode())
