"""`python -m api` as a process: it says where it serves, ends politely, and tells what is missing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from api.__main__ import listen
from api.wiring import application
from runtime.settings import Commands, Database, Http, Keeping, Plans
from storage.pool import open_pool
from tests.calling import caller, problem

ROOT = Path(__file__).parents[2]
LIMIT_S = 40
"""Far more than it takes to end; a busy machine is no fault."""


def start(database: Database, port: int = 0) -> subprocess.Popen[str]:
    """Start the API on a port; 0 is any free one."""
    settings = {"HELIOGRAPH_DATABASE_URL": database.url, "HELIOGRAPH_HTTP_PORT": str(port)}
    command = [sys.executable, "-m", "api"]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True
    )


def test_it_serves_on_a_free_port_until_it_is_told_to_stop(database: Database) -> None:
    with start(database) as process:
        assert process.stderr is not None
        served = json.loads(process.stderr.readline())
        with httpx.Client(base_url=served["address"]) as http:
            answers = {path: http.get(path).status_code for path in ("/healthz", "/readyz", "/v1/units")}
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=LIMIT_S)

    assert served["event"] == "api_served"
    assert answers == {"/healthz": 200, "/readyz": 200, "/v1/units": 401}
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in rest.splitlines()]
    assert events == ["request_answered"] * 3 + ["stop_requested"]


def test_an_answer_does_not_wait_until_its_first_part_is_acknowledged() -> None:
    """Head and body are two writes; on what a listener hands on, the second is not held back."""
    settings = Http(http_host="127.0.0.1", http_port=0)
    with listen(settings) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_said_in_one_line(database: Database) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        start(database, taken.getsockname()[1]) as process,
    ):
        _, told = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 1
    assert told.count("\n") == 1
    assert "HELIOGRAPH_HTTP_PORT" in told


async def test_it_is_not_ready_while_the_schema_is_of_another_release(database: Database) -> None:
    owner = database.model_copy(update={"database_url": database.database_owner_url})

    async with ready(database) as http, open_pool(owner) as pool:
        before = await http.get("/readyz")
        async with pool.transaction() as conn:
            await conn.execute("DELETE FROM schema_migration WHERE number > 1")
        lacking = await http.get("/readyz")
        async with pool.transaction() as conn:
            await conn.execute("DROP TABLE schema_migration")
        empty = await http.get("/readyz")

    assert before.status_code == 200
    assert problem(lacking) == (503, "not-ready")
    assert problem(empty) == (503, "not-ready")


async def test_it_is_alive_but_not_ready_without_a_database() -> None:
    nowhere = Database.model_validate(
        {"database_url": "postgresql://nobody@127.0.0.1:1/nothing", "database_deadline_s": 0.5}
    )

    async with ready(nowhere) as http:
        alive = await http.get("/healthz")
        answers = [
            await http.get("/readyz"),
            await http.get("/v1/units", headers={"Authorization": "Bearer x"}),
        ]

    assert alive.status_code == 200
    assert {problem(answer) for answer in answers} == {(503, "database-unavailable")}
    assert all("127.0.0.1" not in answer.text for answer in answers)
    assert all(answer.headers["retry-after"] for answer in answers)


@asynccontextmanager
async def ready(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of an API on a database."""
    async with open_pool(database) as pool, caller(application(pool, Commands(), Keeping(), Plans())) as http:
        yield http
