"""Connections that are checked before use, and waits that end even against a server that does not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from runtime.settings import Database
from storage.errors import DatabaseUnavailable, DeadlinePassed, transient
from storage.notices import wake
from storage.pool import Pool, open_pool
from storage.sql import pipelined, value
from storage.wakes import after_commit

THAWED_S = 20.0
"""So long a frozen server stays so, if nobody gives it up before."""


async def open_one(pool: Pool) -> None:
    """Let a first connection be opened in peace: a short deadline is one of work, not of that."""
    async with pool.transaction(deadline_s=30):
        pass


@contextmanager
def frozen(backend: int) -> Iterator[None]:
    """Stop the server's process of a connection; not for ever, or a test that fails would not end either."""
    os.kill(backend, signal.SIGSTOP)
    thaw = asyncio.get_running_loop().call_later(THAWED_S, os.kill, backend, signal.SIGCONT)
    try:
        yield
    finally:
        thaw.cancel()
        with suppress(ProcessLookupError):  # it was thawed, and has ended
            os.kill(backend, signal.SIGCONT)


async def test_a_transaction_commits_at_the_end_and_rolls_back_on_an_error(database: Database) -> None:
    async with open_pool(database) as pool:
        async with pool.transaction() as conn:
            await conn.execute("INSERT INTO entity (name) VALUES ('kept')")
        with pytest.raises(LookupError):
            async with pool.transaction() as conn:
                await conn.execute("INSERT INTO entity (name) VALUES ('dropped')")
                raise LookupError

        async with pool.transaction() as conn:
            assert await value(conn, "SELECT count(*) FROM entity WHERE name IN ('kept', 'dropped')") == 1


async def test_every_connection_speaks_utc(database: Database) -> None:
    async with open_pool(database) as pool, pool.transaction() as conn:
        assert await value(conn, "SELECT current_setting('timezone')") == "UTC"


async def test_a_connection_that_the_server_ended_is_not_handed_out(database: Database) -> None:
    async with open_pool(database) as pool:
        async with pool.transaction() as conn:
            backend = conn.info.backend_pid
        async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as other:
            await other.execute("SELECT pg_terminate_backend(%s)", [backend])

        async with pool.transaction() as conn:
            assert await value(conn, "SELECT 1") == 1


async def test_a_fault_of_the_statement_is_not_called_an_outage(database: Database) -> None:
    async with open_pool(database) as pool:
        with pytest.raises(psycopg.errors.DivisionByZero):
            async with pool.transaction() as conn:
                await conn.execute("SELECT 1 / 0")


async def test_a_connection_that_is_frozen_is_not_handed_out(database: Database) -> None:
    async with open_pool(database) as pool:
        async with pool.transaction() as conn:
            backend = conn.info.backend_pid
        with frozen(backend):
            async with pool.transaction() as conn:
                assert await value(conn, "SELECT pg_backend_pid()") != backend


async def test_a_server_that_freezes_amid_a_transaction_is_waited_for_no_longer_than_the_deadline(
    database: Database,
) -> None:
    """The backend process is stopped: neither timeouts of the server nor of the driver end this wait."""
    settings = database.model_copy(update={"database_deadline_s": 2.0})
    async with open_pool(settings) as pool:
        await open_one(pool)
        with pytest.raises(DeadlinePassed):
            async with pool.transaction() as conn:
                await conn.execute("SELECT 1")
                began = time.monotonic()
                with frozen(conn.info.backend_pid):
                    await conn.execute("SELECT 1")
        waited = time.monotonic() - began

    assert waited < THAWED_S


async def test_who_is_frozen_amid_its_statements_holds_no_lock_for_ever(database: Database) -> None:
    """As a process that is stopped there: it sends nothing more, and cuts nothing."""
    settings = database.model_copy(update={"database_deadline_s": 1.0})
    async with open_pool(settings) as pool, open_pool(database) as others:
        frozen = await pool._pool.getconn(timeout=30)  # noqa: SLF001 - without the timer, which would be frozen too
        with pytest.raises(psycopg.Error) as woken:
            async with frozen.transaction(), pipelined(frozen):
                await frozen.execute("LOCK TABLE entity")
                async with others.transaction() as conn:
                    await conn.execute("SET LOCAL lock_timeout = '10s'")
                    began = time.monotonic()
                    await conn.execute("LOCK TABLE entity")
                    waited = time.monotonic() - began
        await pool._pool.putconn(frozen)  # noqa: SLF001 - likewise

    assert 0.5 < waited < 8
    assert transient(woken.value)


async def test_what_was_cut_off_gives_its_locks_back_before_others_give_up(database: Database) -> None:
    """The statement could go on for as long as any may."""
    async with open_pool(database) as pool:
        await open_one(pool)
        with pytest.raises(DeadlinePassed):
            async with pool.transaction(deadline_s=0.5) as conn:
                await conn.execute("LOCK TABLE entity")
                await conn.execute("SELECT pg_sleep(60)")

        async with pool.transaction() as conn:
            await conn.execute("LOCK TABLE entity")


async def test_a_server_that_is_not_there_is_unavailable(database: Database) -> None:
    nowhere = database.model_copy(
        update={
            "database_url": type(database.database_url)("postgresql://x@127.0.0.1:1/x"),
            "database_deadline_s": 1.0,
        }
    )
    async with open_pool(nowhere) as pool:
        with pytest.raises(DatabaseUnavailable):
            async with pool.transaction():
                pass


async def test_a_busy_pool_is_unavailable_after_the_deadline(database: Database) -> None:
    settings = database.model_copy(update={"database_pool": 1, "database_deadline_s": 0.5})
    async with open_pool(settings) as pool:
        release = asyncio.Event()

        async def hold() -> None:
            async with pool.transaction(deadline_s=10) as conn:
                held.set()
                while not release.is_set():
                    await conn.execute("SELECT pg_sleep(0.05)")

        held = asyncio.Event()
        holder = asyncio.create_task(hold())
        await held.wait()
        with pytest.raises(DatabaseUnavailable, match="free"):
            async with pool.transaction():
                pass
        release.set()
        await holder


async def test_who_listens_is_woken_by_a_commit_and_by_no_rollback(database: Database) -> None:
    woken, stop = asyncio.Event(), asyncio.Event()
    listening = asyncio.create_task(wake(database, "test_channel", woken, stop))
    async with asyncio.timeout(10), open_pool(database) as pool:
        await woken.wait()  # once at the start
        woken.clear()

        with pytest.raises(ZeroDivisionError):
            async with pool.transaction() as conn:
                after_commit(conn, "test_channel")
                raise ZeroDivisionError
        async with pool.transaction() as conn:
            await conn.execute("SELECT 1")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):  # what should not come has this long to come
                await woken.wait()

        async with pool.transaction() as conn:
            after_commit(conn, "test_channel")
            assert not woken.is_set()
        await woken.wait()
    stop.set()
    await listening
