"""Connections to the database: checked before use, and never waited for without an end.

Against a server that is frozen or cut off, neither `statement_timeout` nor an asyncio timeout
ends a wait in time. So every transaction arms a timer that shuts the connection's socket down:
the driver then fails at once, and the pool throws the connection away.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Literal, Self

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from runtime.settings import Database
from storage import wakes
from storage.errors import DatabaseUnavailable, DeadlinePassed, NotMigrated, StillLocked, transient
from storage.sql import LIMITS_TRANSACTIONS, Connection

CHECK_S = 2.0
"""A connection that does not answer an empty question in so long (seconds) is dead."""

GRACE_S = 2.0
"""Whoever is not frozen cuts a transaction so long before the server does."""

HEED_S = 1.0
"""A server notices so soon that nobody waits any more for what it is at (seconds)."""

CONNECT_S = 5
RECONNECT_S = 10.0


class Pool:
    """The connections of one process; made by `open_pool`."""

    def __init__(
        self, connections: AsyncConnectionPool[Connection], deadline_s: float, failures: Sequence[str]
    ) -> None:
        self._pool = connections
        self._deadline_s = deadline_s
        self._failures = failures

    @asynccontextmanager
    async def transaction(self, *, deadline_s: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection inside a transaction: commit at the end, roll back on any error.

        Raises `DatabaseUnavailable` when no connection is free in time or the server is gone; of it
        `DeadlinePassed` when all took longer than `deadline_s` seconds (default: the setting), and
        `StillLocked` when somebody else did not let go of what it needed.
        """
        limit, loop = deadline_s or self._deadline_s, asyncio.get_running_loop()
        began = loop.time()
        try:
            async with self._pool.connection(timeout=limit) as conn:
                wakes.forget(conn)  # of a transaction that was rolled back
                with cut_after(conn, limit - (loop.time() - began)):
                    async with conn.transaction():
                        if limit > self._deadline_s:
                            await _limit_transactions(conn, limit, "LOCAL")
                        yield conn
                    await wakes.tell(conn)
        except PoolTimeout:
            raise self._unconnected(loop.time() - began) from None
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
            raise NotMigrated(
                "The database lacks what this release needs; run `python -m storage migrate`."
            ) from error
        except psycopg.Error as error:
            if not transient(error):
                raise
            raise _unfinished(error, loop.time() - began, limit) from error

    def _unconnected(self, spent_s: float) -> DatabaseUnavailable:
        """Tell why there was no connection."""
        told = DatabaseUnavailable(
            f"The database cannot be reached: {self._failures[-1]}."
            if self._failures
            else "No database connection became free in time."
        )
        told.spent_s = spent_s
        return told


def session(settings: Database) -> dict[str, object]:
    """Give what every connection of ours asks of the server.

    What is cut off gives its locks back before others give up waiting for them.
    """
    lock_ms = round(settings.database_lock_timeout_s * 1000)
    deadline_ms = round(settings.database_deadline_s * 1000)
    heed_ms = max(1, min(round(HEED_S * 1000), lock_ms // 2))
    return {
        "connect_timeout": CONNECT_S,
        "application_name": "heliograph",
        "options": f"-c timezone=UTC -c lock_timeout={lock_ms} -c statement_timeout={deadline_ms}"
        f" -c idle_in_transaction_session_timeout={deadline_ms}"
        f" -c client_connection_check_interval={heed_ms}",
    }


@contextmanager
def cut_after(conn: psycopg.AsyncConnection[Any], seconds: float) -> Iterator[None]:
    """Shut the connection's socket down unless the block ends within so many seconds."""
    timer = asyncio.get_running_loop().call_later(seconds, _cut, conn)
    try:
        yield
    finally:
        timer.cancel()


def reason(error: BaseException) -> str:
    """Give the first line of what the driver said."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unfinished(error: psycopg.Error, spent_s: float, limit_s: float) -> DatabaseUnavailable:
    """Tell why: its time was over, others held what it needed, or the server was gone."""
    told: DatabaseUnavailable
    if spent_s >= limit_s:
        told = DeadlinePassed("The database took too long.", seconds=limit_s)
    elif isinstance(error, psycopg.errors.LockNotAvailable):
        told = StillLocked("Somebody holds what this work needs.", why=reason(error))
    else:
        told = DatabaseUnavailable("The database did not finish the work.", why=reason(error))
    told.spent_s = spent_s
    return told


def _cut(conn: psycopg.AsyncConnection[Any]) -> None:
    with (
        suppress(psycopg.OperationalError, OSError),  # already closed: nothing is left to cut
        socket.socket(fileno=os.dup(conn.fileno())) as twin,
    ):
        twin.shutdown(socket.SHUT_RDWR)


async def _limit_transactions(conn: Connection, seconds: float, scope: Literal["LOCAL", "SESSION"]) -> None:
    """Have the server end what takes longer by more than a moment: whoever should cut it may be frozen."""
    if conn.info.server_version >= LIMITS_TRANSACTIONS:
        limit_ms = sql.Literal(round((seconds + GRACE_S) * 1000))
        await conn.execute(
            sql.SQL("SET {} transaction_timeout = {}").format(sql.SQL(scope), limit_ms), prepare=False
        )


async def _check(conn: Connection) -> None:
    with cut_after(conn, CHECK_S):
        await conn.execute("")


def _telling(failures: deque[str]) -> type[Connection]:
    """Give connections that write down why the last one could not be opened: the pool does not tell."""

    class Telling(psycopg.AsyncConnection[Any]):
        @classmethod
        async def connect(cls, *args: Any, **kwargs: Any) -> Self:
            try:
                conn = await super().connect(*args, **kwargs)
            except psycopg.Error as error:
                failures.append(reason(error))
                raise
            failures.clear()
            return conn

    return Telling


@asynccontextmanager
async def open_pool(settings: Database) -> AsyncIterator[Pool]:
    """Open the pool for one process; the first transaction finds out whether the server is there."""
    failures: deque[str] = deque(maxlen=1)
    connections: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        settings.url,
        connection_class=_telling(failures),
        kwargs={"row_factory": dict_row, "autocommit": True, **session(settings)},
        min_size=1,
        max_size=settings.database_pool,
        timeout=settings.database_deadline_s,
        check=_check,
        configure=partial(_limit_transactions, seconds=settings.database_deadline_s, scope="SESSION"),
        reconnect_timeout=RECONNECT_S,  # then the next who asks begins anew, without the grown pauses
        open=False,
    )
    await connections.open(wait=False)
    try:
        yield Pool(connections, settings.database_deadline_s, failures)
    finally:
        await connections.close(timeout=CHECK_S)
