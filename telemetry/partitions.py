"""The days that heartbeats can be written to: some ahead, and those of the past when a backlog needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from runtime.clock import now
from runtime.services import pause
from storage.pool import Pool
from storage.sql import Connection, execute, load

AHEAD = timedelta(days=7)
EVERY_S = 3600.0

SQL = load(__file__)


async def ensure(conn: Connection, moments: Iterable[datetime]) -> None:
    """Make the partitions of these moments where they are missing; others may write to the rest meanwhile."""
    for day in sorted({moment.astimezone(UTC).date() for moment in moments}):
        await execute(conn, SQL.ensure, day=day)


class Days:
    """The days (UTC) that heartbeats can be written to."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ensure(self, moments: Iterable[datetime]) -> None:
        """Make the partitions of these moments, in a transaction of its own, before they are written to."""
        async with self._pool.transaction() as conn:
            await ensure(conn, moments)

    async def serve(self, stop: asyncio.Event) -> None:
        """Keep a week of days ready."""
        while True:
            today = now()
            await self.ensure(today + timedelta(days=ahead) for ahead in range(AHEAD.days + 1))
            if await pause(stop, EVERY_S):
                return
