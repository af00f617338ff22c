"""A connection outside the pool, for what lasts: LISTEN, locks on names, and packing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.rows import dict_row

from runtime.settings import Database
from storage.errors import DatabaseUnavailable
from storage.pool import CHECK_S, CONNECT_S, cut_after, reason
from storage.sql import Connection, load, value

SQL = load(__file__)


@asynccontextmanager
async def connection(settings: Database, *, owner: bool = False) -> AsyncIterator[Connection]:
    """Open one; its loss shows as `DatabaseUnavailable` inside the block."""
    try:
        conn: Connection = await psycopg.AsyncConnection.connect(
            settings.owner_url if owner else settings.url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=CONNECT_S,
            application_name="heliograph",
            options="-c timezone=UTC",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=2,
        )
        async with conn:
            yield conn
    except* (
        psycopg.OperationalError,
        psycopg.InterfaceError,
    ) as lost:  # a group: from tasks in the block too
        why = reason(lost.exceptions[0])
        raise DatabaseUnavailable("The database connection was lost.", why=why) from lost


async def try_lock(conn: Connection, name: str) -> bool:
    """Take the lock of that name for as long as the connection lives, unless somebody has it."""
    with cut_after(conn, CHECK_S):
        return bool(await value(conn, SQL.try_lock, name=name))


async def watch(conn: Connection, every_s: float) -> None:
    """Ask the server for a sign of life for ever; raises when there is none, and the lock is gone."""
    while True:
        async for _ in conn.notifies(timeout=every_s):
            pass  # nobody sends any; but who waits for one is told at once when the connection is lost
        with cut_after(conn, CHECK_S):
            await conn.execute("")
