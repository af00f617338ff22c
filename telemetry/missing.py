"""What is missing of the whole fleet, counted from time to time and kept: no heartbeat pays for it.

One gateway at a time counts, by ranges of units, and rests in proportion: the larger the fleet, the
older the figure. On the same round the boots of a unit beyond its newest are summed up.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import structlog
from prometheus_client import Gauge

from runtime.services import pause
from storage.errors import DeadlinePassed, StillLocked
from storage.pool import Pool
from storage.portions import Portions
from storage.sql import Connection, execute, load, row, value

BOOTS = 64
"""So many boots of a unit have bits, the newest; older ones are summed up, and what comes late is too old."""

RANGE = 1_000
"""Units counted in one transaction at most: the units whose boots are summed up wait for it."""

LOOKS_S = 60.0
"""So often (seconds) a gateway looks whether the count is due, and what it says."""

LEASE = timedelta(minutes=10)
REST_MIN = timedelta(minutes=5)
REST_FACTOR = 20
"""A count is followed by a rest of so many times its length."""

MISSING = Gauge(
    "heliograph_fleet_missing_heartbeats", "heartbeats of the fleet that are missing, as last counted"
)
COUNTED_AT = Gauge(
    "heliograph_fleet_counted_timestamp_seconds", "when the missing heartbeats were last counted"
)

SQL = load(__file__)
log = structlog.get_logger()


class Count:
    """The round of counting; every gateway runs it, and one at a time counts."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._portions = Portions(RANGE)

    async def serve(self, stop: asyncio.Event) -> None:
        """Count when it is due, until stopped; show what was counted last, by whomever."""
        while True:
            await self.look(stop)
            if await pause(stop, LOOKS_S):
                return

    async def look(self, stop: asyncio.Event) -> None:
        """Count if it is due, and show the figure."""
        async with self._pool.transaction() as conn:
            due = await execute(conn, SQL.claim, lease=LEASE)
        if due:
            await self._count(stop)
        async with self._pool.transaction() as conn:
            kept = await row(conn, dict, SQL.kept)
        if kept is not None and kept["counted_at"] is not None:
            MISSING.set(kept["missing"])
            COUNTED_AT.set(kept["counted_at"])

    async def _count(self, stop: asyncio.Event) -> None:
        began, summed_up = time.monotonic(), 0
        async with self._pool.transaction() as conn:
            units: int = await value(conn, SQL.last_unit)
        first = 1
        while first <= units:
            if stop.is_set():
                return  # the lease runs out, and somebody counts anew
            try:
                with self._portions.next() as portion:
                    async with self._pool.transaction() as conn:
                        await execute(conn, SQL.prolong, lease=LEASE)
                        summed_up += await count(conn, first, first + portion.most - 1)
            except (DeadlinePassed, StillLocked) as error:
                if portion.most > 1:
                    continue
                log.warning("unit_not_counted", unit_id=first, why=str(error))
            first += portion.most
        rest = max(REST_MIN, timedelta(seconds=REST_FACTOR * (time.monotonic() - began)))
        async with self._pool.transaction() as conn:
            await execute(conn, SQL.finish, pause=rest)
        if summed_up:
            log.info("old_boots_summed_up", boots=summed_up)


async def count(conn: Connection, first: int, last: int) -> int:
    """Count what units of a range lack; sum up their old boots, and tell how many."""
    boots: int = await value(conn, SQL.sum_up, first=first, last=last, kept=BOOTS)
    await execute(conn, SQL.count, first=first, last=last)
    return boots
