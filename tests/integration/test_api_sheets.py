"""Heartbeats as CSV: every one once, nothing that a spreadsheet would compute, never a part as the whole."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg
import pytest
from httpx import Response

from api.routes.heartbeats import COLUMNS
from runtime import clock
from runtime.settings import Database
from storage.sql import rows, value
from telemetry import heartbeats
from telemetry.heartbeats import BATCH
from tests.calling import FOREIGN, OWN, Site, problem, site, unit_of
from tests.stored import a_beat, store

ROOT = Path(__file__).parents[2]
PATH = f"/v1/units/{unit_of(OWN)}/heartbeats.csv"
FIRST = clock.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)
PERIOD = {"since": FIRST.isoformat(), "until": (FIRST + timedelta(days=2)).isoformat()}
SECOND = timedelta(seconds=1)
MIB = 2**20
OPEN_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'heliograph'
   AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
"""

Taker = Callable[[bytes], Awaitable[None]]


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


def table(answer: Response | bytes) -> list[dict[str, str]]:
    text = answer.decode() if isinstance(answer, bytes) else answer.text
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


async def take(here: Site, taker: Taker) -> None:
    """Ask as a server would, and let `taker` have each part; the next one comes when it is through."""
    asked = [(b"authorization", f"Bearer {await here.token()}".encode())]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": urlencode(PERIOD).encode(),
        "headers": asked,
        "scheme": "http",
        "client": ("127.0.0.1", 4711),
        "server": ("heliograph", 80),
    }
    request = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return request.pop() if request else await asyncio.Future()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            await taker(message["body"])

    await here.app(scope, receive, send)


@pytest.fixture
def address(database: Database) -> Iterator[str]:
    """Serve as a process does."""
    settings = {"HELIOGRAPH_DATABASE_URL": database.url, "HELIOGRAPH_HTTP_PORT": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "api"], cwd=ROOT, env={**os.environ, **settings}, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        yield json.loads(process.stderr.readline())["address"]
        process.terminate()
        process.communicate(timeout=30)


async def test_a_sheet_has_every_heartbeat_once_oldest_first(here: Site) -> None:
    """Several begin at one moment where batches meet: none may fall between them."""
    moments = [FIRST + SECOND * (number // 7) for number in range(3 * BATCH + 1)]
    await store(here.pool, [a_beat(seq, at) for seq, at in enumerate(moments)])
    await store(here.pool, [a_beat(1, FIRST - SECOND), a_beat(2, FIRST + timedelta(days=2))])
    await store(here.pool, [a_beat(1, FIRST, unit_id=2)])

    answer = await here.get(PATH, await here.token(), **PERIOD)

    assert [int(row["seq"]) for row in table(answer)] == list(range(3 * BATCH + 1))


async def test_a_sheet_says_all_that_a_heartbeat_said(here: Site) -> None:
    beat = a_beat(7, FIRST + timedelta(milliseconds=1500), battery_a=-1.25, energy_wh=123456.75)
    await store(
        here.pool,
        [
            beat._replace(
                unit_ts=-5,
                output=True,
                fw="2.4.1",
                readings=beat.readings | {"lvd": False, "fan_rpm": 900.0, "battery_v": 1e39},
                fields={"note": 'a "b",\r\nc'},
            ),
            a_beat(8, FIRST + SECOND * 2),
        ],
    )

    answer = await here.get(PATH, await here.token(), **PERIOD)

    said, silent = table(answer)
    assert json.loads(said.pop("extra")) == {
        "readings": {"fan_rpm": 900.0},
        "fields": {"note": 'a "b",\r\nc'},
    }
    assert {name: text for name, text in said.items() if text} == {
        "at": (FIRST + timedelta(milliseconds=1500)).isoformat().replace("+00:00", "Z"),
        "received_at": (FIRST + timedelta(milliseconds=1500)).isoformat().replace("+00:00", "Z"),
        "unit_ts": "-5",
        "life": "1",
        "boot": "1",
        "seq": "7",
        "epoch": "0",
        "mode": "enabled",
        "output": "true",
        "fw": "2.4.1",
        "battery_v": "1e+39",
        "battery_a": "-1.25",
        "energy_wh": "123456.75",
        "lvd": "false",
    }
    assert {name for name, text in silent.items() if text} == {
        "at", "received_at", "life", "boot", "seq", "epoch", "mode"
    }  # fmt: skip


async def test_a_sheet_is_csv_as_rfc_4180_has_it(here: Site) -> None:
    await store(here.pool, [a_beat(1, FIRST)._replace(fw='a"b,c\nd')])

    answer = await here.get(PATH, await here.token(), **PERIOD)

    lines = answer.text.split("\r\n")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert re.fullmatch(
        r'attachment; filename="\d{15}-heartbeats\.csv"', answer.headers["content-disposition"]
    )
    assert lines[0] == ",".join(COLUMNS)
    assert '"a""b,c\nd"' in lines[1]
    assert lines[2:] == [""]


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\n"])
async def test_no_text_is_a_formula(here: Site, begins: str) -> None:
    await store(here.pool, [a_beat(1, FIRST)._replace(fw=f"{begins}cmd()", fields={f"{begins}a": "=b"})])

    [row] = table(await here.get(PATH, await here.token(), **PERIOD))

    assert row["fw"] == f"'{begins}cmd()"
    assert row["extra"].startswith("{")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("1;=cmd()", "1;'=cmd()"),
        ("1\t@cmd()", "1\t'@cmd()"),
        ("=a;-1;+2", "'=a;'-1;'+2"),
        ("1;2 = 3 - 4", "1;2 = 3 - 4"),
    ],
)
async def test_nor_is_one_where_semicolons_or_tabs_part_columns(here: Site, text: str, cell: str) -> None:
    await store(here.pool, [a_beat(1, FIRST)._replace(fw=text)])

    [row] = table(await here.get(PATH, await here.token(), **PERIOD))

    assert row["fw"] == cell


async def test_nor_does_json_hold_one_there_and_it_still_says_the_same(here: Site) -> None:
    fields = {"note": ";=cmd()", "list": ["a;b", "\t@c", "1;-2"]}
    await store(here.pool, [a_beat(1, FIRST)._replace(fields=fields)])

    answer = await here.get(PATH, await here.token(), **PERIOD)

    assert not re.search(r"[;\t][=+\-@]", answer.text)
    assert json.loads(table(answer)[0]["extra"])["fields"] == fields


async def test_a_period_without_heartbeats_is_a_header_alone(here: Site) -> None:
    answer = await here.get(PATH, await here.token())

    assert answer.text == ",".join(COLUMNS) + "\r\n"


async def test_what_is_sent_is_not_kept_in_memory(here: Site) -> None:
    """20,000 heartbeats: a few megabytes of text, and several times that as rows."""
    await store(here.pool, [a_beat(seq, FIRST + SECOND * seq, battery_v=12.5) for seq in range(20_000)])
    counted = size = 0

    async def count(part: bytes) -> None:
        nonlocal counted, size
        counted, size = counted + part.count(b"\r\n"), size + len(part)

    tracemalloc.start()
    try:
        await take(here, count)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert counted == 20_001
    assert size > 1.5 * MIB
    assert peak < 4 * MIB


async def test_who_reads_slowly_holds_nothing_in_the_database(here: Site) -> None:
    """And gets what was stored since: the rest was not read yet when the first part was taken."""
    await store(here.pool, [a_beat(seq, FIRST + SECOND * seq) for seq in range(2 * BATCH)])
    parts: list[bytes] = []
    held: list[int] = []

    async def dawdle(part: bytes) -> None:
        parts.append(part)
        if len(parts) == 2:
            await store(here.pool, [a_beat(9_999, FIRST + timedelta(hours=1))])
        async with here.pool.transaction() as conn:
            held.append(
                await value(
                    conn,
                    OPEN_TRANSACTIONS,
                )
            )

    await take(here, dawdle)

    assert len(parts) == 4
    assert held == [0, 0, 0, 0]
    assert table(b"".join(parts))[-1]["seq"] == "9999"


async def test_a_sheet_that_breaks_off_is_no_whole_file(here: Site, address: str) -> None:
    """A heartbeat that cannot be read stands in the third batch."""
    await store(here.pool, [a_beat(seq, FIRST + SECOND * seq) for seq in range(4 * BATCH)])
    whole = len((await here.get(PATH, await here.token(), **PERIOD)).content)
    await here.sql(
        "INSERT INTO heartbeat (unit_id, at, received_at, life, boot, seq, epoch, mode)"
        " VALUES (1, %s, now(), 1, 1, 9999, 0, '?')",
        FIRST + SECOND * 2.5 * BATCH,
    )
    got = 0

    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        headers = {"Authorization": f"Bearer {await here.token()}"}
        with pytest.raises(httpx.RemoteProtocolError):
            async with http.stream("GET", PATH, params=PERIOD, headers=headers) as answer:
                assert answer.status_code == 200
                async for part in answer.aiter_bytes():
                    got += len(part)

    assert whole / 4 < got < whole


async def test_a_sheet_ends_well_when_it_is_whole(here: Site, address: str) -> None:
    await store(here.pool, [a_beat(seq, FIRST + SECOND * seq) for seq in range(2 * BATCH)])

    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        headers = {"Authorization": f"Bearer {await here.token()}"}
        answer = await http.get(PATH, params=PERIOD, headers=headers)

    assert len(table(answer)) == 2 * BATCH


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(
            ({name: time}, f"/query/{name}")
            for name in ("since", "until")
            for time in ("2026-06-01T12:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "x", "")
        ),
        ({"since": PERIOD["until"], "until": PERIOD["since"]}, "since"),
        ({"since": "2099-01-01T00:00:00Z"}, "since"),
        ({"limit": 10}, "/query/limit"),
    ],
)
async def test_what_is_odd_is_named(here: Site, query: dict[str, Any], field: str) -> None:
    answer = await here.get(PATH, await here.token(), **query)

    assert problem(answer)[0] == 422
    told = answer.json()
    assert (told.get("field") or told["errors"][0]["pointer"]) == field


async def test_who_may_not(here: Site) -> None:
    own = await here.token(scope=frozenset({OWN}), name="own")

    assert problem(await here.get(PATH))[0] == 401
    assert (await here.get(PATH, own)).status_code == 200
    foreign = await here.get(f"/v1/units/{unit_of(FOREIGN)}/heartbeats.csv", own)
    assert problem(foreign) == (404, "unit-not-found")


async def test_the_index_finds_each_batch_in_order(here: Site, database: Database) -> None:
    """Else every batch would read and sort all that is left."""
    moments = [FIRST + number * timedelta(minutes=20) for number in range(200)]
    await store(here.pool, [a_beat(1, moment, unit_id=unit) for moment in moments for unit in range(100)])
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("ANALYZE heartbeat")
    behind = {"at": FIRST, "until": datetime.now(UTC), "life": 1, "boot": 1, "seq": 1}

    async with here.pool.transaction() as conn:
        plan = "\n".join(
            await rows(
                conn,
                lambda row: str(row["QUERY PLAN"]),
                f"EXPLAIN {heartbeats.SQL.onwards}",
                unit_id=7,
                limit=10,
                **behind,
            )
        )

    assert "Seq Scan" not in plan
    assert "Presorted Key" in plan
    assert re.search(r"Index Cond: \(\(unit_id = \S+ AND \(at >= .* AND \(at < ", plan)
