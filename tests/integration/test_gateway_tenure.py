"""Who serves under a gateway's name: one process at a time, whatever becomes of the database."""

from __future__ import annotations

import asyncio

import psycopg
from structlog.testing import capture_logs

from gateway.tenure import Tenure
from runtime.services import Service
from runtime.settings import Database

CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'heliograph'
"""


async def test_who_stood_by_does_not_serve_beside_who_lost_the_lock(database: Database) -> None:
    """As when the database starts again: both have lost their connections, and either may be first."""
    serving: set[str] = set()
    turns: list[str] = []
    beside: list[str] = []
    stop = asyncio.Event()

    def service(name: str) -> Service:
        async def serve(stop: asyncio.Event) -> None:
            beside.extend(serving)
            serving.add(name)
            turns.append(name)
            try:
                await stop.wait()
            finally:
                serving.discard(name)

        return serve

    with capture_logs() as told:

        def stood_by() -> int:
            return sum(one["event"] == "standing_by" for one in told)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(Tenure("gateway-x", database, {"x": service("first")}).serve(stop))
            while not turns:
                await asyncio.sleep(0.01)
            group.create_task(Tenure("gateway-x", database, {"x": service("second")}).serve(stop))
            for times in (1, 2, 3):
                while len(turns) < times or stood_by() < times:
                    await asyncio.sleep(0.01)
                async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as conn:
                    await conn.execute(CUT)
            while len(turns) < 4:
                await asyncio.sleep(0.01)
            stop.set()

    assert beside == []
