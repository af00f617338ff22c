"""What the release before had stored is told by this one as it was."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from registry import tokens, units
from runtime import clock
from runtime.settings import Database, Keeping
from storage.migrate import FOLDER, migrate
from storage.pool import open_pool
from storage.sql import rows
from telemetry import heartbeats, holes, status, upkeep
from telemetry.heartbeats import Heartbeat
from tests.stored import a_beat, store, sum_up

RELEASED = 4
"""The migrations of 0.1.0."""

ONE_KEEPER = 15

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
COLUMNS = (
    "at, received_at, unit_ts, boot, seq, epoch, energy_wh, unit_id, battery_v, panel_v, life, mode, extra"
)
UNIT = """
INSERT INTO unit (imei, serial_number, broker_login)
VALUES ('352099001761481', 'HB000001-G', '$7$101$c2FsdA==$aGFzaA==')
"""


@pytest.fixture
async def released(empty_database: Database, tmp_path: Path) -> Database:
    """Give a database as 0.1.0 had left it, with one unit."""
    for path in FOLDER.glob("*.sql"):
        if int(path.name[:4]) <= RELEASED:
            shutil.copy(path, tmp_path)
    await migrate(empty_database, tmp_path)
    await run(empty_database, UNIT)
    return empty_database


async def run(database: Database, statement: str, *values: Any) -> None:
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as conn:
        await conn.execute(statement.encode(), values or None)


async def insert(database: Database, seq: int, *, ts: int | None = None, **readings: float) -> None:
    """Store a heartbeat as 0.1.0 did: in floats, and the unit's clock always."""
    at = HOUR + timedelta(minutes=seq) if ts is None else datetime.fromtimestamp(ts, UTC)
    await run(database, "SELECT ensure_heartbeat_day(%s)", at.date())
    await run(
        database,
        f"INSERT INTO heartbeat ({COLUMNS}) VALUES (%s, %s, %s, 1, %s, 0, %s, 1, %s, %s, 1, 'e', %s)",  # noqa: S608 - fixed words
        *(at, HOUR + timedelta(minutes=seq), ts, seq),
        *(readings.get(name) for name in ("energy_wh", "battery_v", "panel_v")),
        '{"fields": {"new": 1}}',
    )


async def told(database: Database) -> list[Heartbeat]:
    async with open_pool(database) as pool, pool.transaction() as conn:
        return await heartbeats.of_unit(
            conn, 1, since=HOUR - timedelta(days=1), until=HOUR + timedelta(days=1), limit=100
        )


async def test_readings_and_clocks_are_told_as_they_were(released: Database) -> None:
    ts = int(HOUR.timestamp()) + 30
    await insert(released, 1, battery_v=12.81, energy_wh=1234.5)
    await insert(released, 2, ts=ts, battery_v=-0.3, panel_v=812.5)
    await insert(released, 3, battery_v=12.8137, energy_wh=0.125)

    await migrate(released)

    by_seq = {beat.seq: beat for beat in await told(released)}
    assert by_seq[1].readings == {"battery_v": 12.81, "energy_wh": 1234.5}
    assert by_seq[2].readings == pytest.approx({"battery_v": -0.3, "panel_v": 812.5})
    assert by_seq[3].readings == pytest.approx({"battery_v": 12.8137, "energy_wh": 0.125}, rel=1e-6)
    assert [by_seq[seq].unit_ts for seq in (1, 2, 3)] == [None, ts, None]
    assert by_seq[2].at == datetime.fromtimestamp(ts, UTC)
    assert all(beat.fields == {"new": 1} for beat in by_seq.values())


async def test_hours_of_before_are_summed_up(released: Database) -> None:
    await insert(released, 1, battery_v=12.0)
    await insert(released, 2, battery_v=13.0)

    await migrate(released)

    async with open_pool(released) as pool, pool.transaction() as conn:
        found = await rows(conn, dict, "SELECT hour, battery_v_n, battery_v_sum FROM heartbeat_hourly")
    assert found == [{"hour": HOUR, "battery_v_n": 2, "battery_v_sum": 25.0}]


async def test_a_backlog_older_than_all_that_an_upgrade_found_is_summed_up(
    empty_database: Database, tmp_path: Path
) -> None:
    """Without the last migration TimescaleDB looks back no further than its first chunk of then."""
    for path in FOLDER.glob("*.sql"):
        if int(path.name[:4]) < ONE_KEEPER:
            shutil.copy(path, tmp_path)
    await migrate(empty_database, tmp_path)
    late = HOUR - timedelta(days=30)
    async with open_pool(empty_database) as pool:
        await store(pool, [a_beat(1, HOUR, battery_v=12.0)])
        await sum_up(pool, empty_database)
        await migrate(empty_database)

        await store(pool, [a_beat(2, late, battery_v=13.0)])
        for _ in range(2):
            async with pool.transaction() as conn:
                await upkeep.keep(conn, Keeping(), now=clock.now())
            await sum_up(pool, empty_database)

        async with pool.transaction() as conn:
            found = await rows(
                conn, lambda row: row["hour"], "SELECT hour FROM heartbeat_hourly ORDER BY hour"
            )
    assert found == [late, HOUR]


async def test_the_interval_of_every_unit_stays_and_who_had_the_usual_one_follows_its_type(
    released: Database,
) -> None:
    own = UNIT.replace("352099001761481", "352099001761499").replace("HB000001", "HB000002")
    await run(released, own)
    await run(released, "UPDATE unit SET product_type = 'Hub2'")
    await run(released, "UPDATE unit SET expected_interval_s = 900 WHERE id = 2")

    await migrate(released)

    assert await intervals(released) == {1: 14_400, 2: 900}
    await run(released, "INSERT INTO product_type VALUES ('Hub2', 60)")
    assert await intervals(released) == {1: 60, 2: 900}


async def test_which_token_issued_which_is_taken_from_the_audit(released: Database) -> None:
    await run(released, "INSERT INTO account (email, level) VALUES ('bob@example.com', 'admin')")
    for number in range(1, 4):
        await run(
            released,
            "INSERT INTO api_token (account_id, name, token_hash, level, expires_at)"
            " VALUES (1, 'x', sha256(%s), 'admin', now() + interval '9 days')",
            b"%d" % number,
        )
    for number, told in enumerate(('{"by_token": null}', '{"by_token": 1}', "{}"), start=1):
        await run(
            released,
            "INSERT INTO audit (at, actor, action, object_kind, object_id, reason, origin, after)"
            " VALUES (now(), 'x', 'token_issued', 'api_token', %s, '', 'x', %s)",
            *(str(number), told),
        )

    await migrate(released)

    async with open_pool(released) as pool, pool.transaction() as conn:
        assert [token.issued_by for token in await tokens.page(conn)] == [None, 1, None]


async def intervals(database: Database) -> dict[int, int]:
    async with open_pool(database) as pool, pool.transaction() as conn:
        return {unit.id: unit.expected_interval_s for unit in await units.page(conn, scope=None)}


async def test_what_was_heard_before_stays_heard_and_the_newest_readings_are_found(
    released: Database,
) -> None:
    """Bits 1, 2 and 5 of a boot: the run begins behind the highest, wherever the newest report stands."""
    await insert(released, 2, battery_v=12.5)
    await run(released, "INSERT INTO unit_life VALUES (1, 1, 77, now())")
    await run(
        released,
        "INSERT INTO unit_status (unit_id, contact_at, life, boot, seq, reported_at, mode, epoch, readings)"
        " VALUES (1, now(), 1, 1, 2, now(), 'e', 0, '{}')",
    )
    await run(
        released,
        "INSERT INTO unit_sequence VALUES (1, 1, 1, 0, decode(rpad('26', 256, '0'), 'hex'))",
    )

    await migrate(released)

    async with open_pool(released) as pool, pool.transaction() as conn:
        standing = (await status.lock(conn, {1}))[1]
        newest = await status.of_unit(conn, 1)
        [boot] = (await holes.of_unit(conn, 1))[:1]
    assert standing.run is not None
    assert (standing.run.boot, standing.run.first, standing.run.last) == (1, 6, 5)
    assert standing.reported_life == 77
    assert newest is not None
    assert newest.readings == {"battery_v": 12.5}
    assert (boot.newest, boot.heard, boot.missing) == (5, 3, 2)
