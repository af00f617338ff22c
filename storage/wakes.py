"""Who listens is woken once a transaction has committed, not by it.

PostgreSQL lets only one transaction at a time commit with a NOTIFY in it, and writing its commit to disk
is part of that: a hundred orders per second would stand in line for the disk. A NOTIFY alone writes
nothing that must be on disk. It is only a wake-up: who polls as well misses nothing for long.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import psycopg
import structlog

from storage.sql import Connection

log = structlog.get_logger()

_waiting: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()


def after_commit(conn: Connection, channel: str) -> None:
    """Wake who listens on this channel when the transaction of this connection has committed."""
    _waiting.setdefault(conn, set()).add(channel)


def forget(conn: Connection) -> None:
    """Wake nobody after all: nothing was committed."""
    _waiting.pop(conn, None)


async def tell(conn: Connection) -> None:
    """Wake whom the transaction that has just committed wanted to wake."""
    for channel in _waiting.pop(conn, ()):
        try:
            await conn.execute("SELECT pg_notify(%s, '')", [channel])
        except psycopg.Error as error:
            # What was committed is committed: whoever asked for it must not hear of a failure.
            log.warning("not_woken", channel=channel, why=str(error))
