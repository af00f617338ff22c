"""LISTEN: a wake-up call from the database; it only shortens a poll, for it can always be missed."""

from __future__ import annotations

import asyncio

from psycopg import sql

from runtime.settings import Database
from storage.dedicated import connection
from storage.pool import CHECK_S, cut_after
from storage.sql import Connection


async def wake(settings: Database, channel: str, event: asyncio.Event, stop: asyncio.Event) -> None:
    """Set `event` at every notice on `channel`, and once at the start, until `stop` is set.

    Raises `DatabaseUnavailable` when the connection is lost; meanwhile the caller's poll does.
    """
    async with connection(settings) as conn:
        with cut_after(conn, CHECK_S):
            await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        event.set()
        async with asyncio.TaskGroup() as group:
            relay = group.create_task(_relay(conn, event))
            await stop.wait()
            relay.cancel()


async def _relay(conn: Connection, event: asyncio.Event) -> None:
    async for _ in conn.notifies():
        event.set()
