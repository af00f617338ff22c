"""What becomes of heartbeats and dead letters as they age: summed up, compressed, let go.

Both engines offer the same functions and the same `heartbeat_hourly`; where TimescaleDB does a
part by itself, its function does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from psycopg.rows import DictRow

from runtime.clock import now
from runtime.retry import until_stopped
from runtime.services import pause
from runtime.settings import Keeping
from storage.errors import DatabaseUnavailable
from storage.pool import Pool
from storage.portions import Portions
from storage.sql import Connection, execute, load, row, value

EVERY_S = 300.0
NOTES = 5_000
"""Noted hours taken in one transaction, so that its deadline is far."""

LETTERS = 5_000
"""Dead letters let go of in one transaction at most, and as many that are open."""

KEEPING_DEADLINE_S = 300.0
"""Dropping is quick; summing up an hour, or compressing a week, of a large fleet is not."""

SQL = load(__file__)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one round let go or compressed: days or chunks of heartbeats; rows or chunks of hours.

    `held` when somebody did not let go of what was to go: a dump, a forgotten transaction, slow writers.
    """

    dropped: int
    hours: int
    compressed: int
    held: bool

    @classmethod
    def from_row(cls, found: DictRow) -> Kept:
        """Build from the answer of `keep_heartbeats`."""
        return cls(**found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """Dead letters that one bite let go: closed ones, and open ones that are now only counted."""

    closed: int
    opened: int


async def roll_up(conn: Connection, *, before: datetime, most: int = NOTES) -> int | None:
    """Take one step in summing up the hours that are over at a moment.

    Tells how much it did: 0 when nothing is left, None when another process is at it. The steps
    are transactions of their own.
    """
    done: int | None = await value(conn, SQL.roll_up, before=before, most=most)
    return done


async def keep(conn: Connection, settings: Keeping, *, now: datetime) -> Kept:
    """Let go of what is older than the settings keep it, and compress what no late heartbeat reaches."""
    kept = await row(
        conn,
        Kept.from_row,
        SQL.keep,
        now=now,
        heartbeats_days=settings.keep_heartbeats_days,
        hours_days=settings.keep_hours_days,
        compress_days=settings.compress_after_days,
    )
    assert kept is not None  # noqa: S101 - the function always gives one row
    return kept


async def keep_dead_letters(
    conn: Connection, settings: Keeping, *, now: datetime, most: int = LETTERS
) -> LetGo | None:
    """Let go of dead letters that are older than the settings keep them; None if another is at it."""
    return await row(
        conn,
        lambda found: None if found["closed"] is None else LetGo(**found),
        SQL.keep_dead_letters,
        most=most,
        now=now,
        closed_days=settings.keep_dead_letters_days,
        open_days=settings.keep_open_dead_letters_days,
    )


class Upkeep:
    """The rounds that a gateway makes every few minutes; any number of gateways may."""

    def __init__(self, pool: Pool, settings: Keeping) -> None:
        self._pool = pool
        self._settings = settings
        self._letters = Portions(LETTERS)

    async def serve(self, stop: asyncio.Event) -> None:
        """Make rounds until stopped; what cannot be done now keeps nothing else from being done."""
        async with asyncio.TaskGroup() as rounds:
            for name, go in (
                ("upkeep-letters", self._let_dead_letters_go),
                ("upkeep-days", self._see_to_days),
            ):
                rounds.create_task(until_stopped(name, partial(_rounds, go), stop), name=name)

    async def _let_dead_letters_go(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with self._letters.next() as portion:
                async with self._pool.transaction() as conn:
                    gone = await keep_dead_letters(conn, self._settings, now=now(), most=portion.most)
            if gone is None or not (gone.closed or gone.opened):
                return
            log.info("dead_letters_let_go", closed=gone.closed, opened=gone.opened)

    async def _see_to_days(self, stop: asyncio.Event) -> None:
        """Let days go, then sum hours up: each needs the other's lock, and summing up may take long."""
        try:
            await self._keep()
        except DatabaseUnavailable:
            await self._roll_all_up(stop)
            raise
        await self._roll_all_up(stop)

    async def _roll_all_up(self, stop: asyncio.Event) -> None:
        before = now().replace(minute=0, second=0, microsecond=0)
        while not stop.is_set():
            async with self._unhurried() as conn:
                if not await roll_up(conn, before=before):
                    return

    async def _keep(self) -> None:
        async with self._unhurried() as conn:
            kept = await keep(conn, self._settings, now=now())
        if kept.held:
            log.warning("heartbeats_held", why="Somebody is at what is to go; it goes once they have ended.")
        if kept.dropped or kept.hours or kept.compressed:
            log.info("heartbeats_kept", dropped=kept.dropped, hours=kept.hours, compressed=kept.compressed)

    @asynccontextmanager
    async def _unhurried(self) -> AsyncIterator[Connection]:
        """Give a transaction that may take minutes, for an hour or a week of a large fleet."""
        async with self._pool.transaction(deadline_s=KEEPING_DEADLINE_S) as conn:
            await execute(conn, SQL.allow, ms=str(round(KEEPING_DEADLINE_S * 1000)))
            yield conn


async def _rounds(go: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    while not await pause(stop, EVERY_S):
        await go(stop)
