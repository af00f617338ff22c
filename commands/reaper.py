"""What nobody answered in time: leases that lapsed, acks and evidence that did not come, lives that ended."""

from __future__ import annotations

import asyncio

from commands import docket
from commands.dispatcher import requeue
from commands.states import State
from runtime.retry import until_stopped
from runtime.services import pause
from runtime.settings import Commands
from storage.pool import Pool
from storage.portions import Portion, Portions
from storage.sql import load, rows

POLL_S = 1.0
BATCH = 500
"""Commands ended in one transaction at most, and as many put back."""

LAPSES = {State.SENDING: "lease_lapsed", State.SENT: "no_ack", State.ACKNOWLEDGED: "no_evidence"}

SQL = load(__file__)


class Reaper:
    """Ends the waits of all commands; any number of reapers may run."""

    def __init__(self, name: str, pool: Pool, settings: Commands) -> None:
        self._name = name
        self._pool = pool
        self._settings = settings
        self._portions = Portions(BATCH)

    async def serve(self, stop: asyncio.Event) -> None:
        """Reap until stopped."""
        await until_stopped("reaper", self._work, stop)

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if not await self.step():
                await pause(stop, POLL_S)

    async def step(self) -> int:
        """End what has waited long enough; give the number of commands."""
        with self._portions.next() as portion:
            return await self._end(portion)

    async def _end(self, portion: Portion) -> int:
        async with self._pool.transaction() as conn:
            waited = await rows(conn, dict, SQL.waited, limit=portion.most)
            portion.number = len(waited)
            if not waited:
                return 0
            ending = [found["unit_id"] for found in waited if found["ends_wish"]]
            locked = await rows(conn, lambda row: row["unit_id"], SQL.lock_intents, unit_ids=ending)
            ids = [found["id"] for found in waited]
            book = await docket.lock(conn, SQL.overdue, actor=self._name, ids=ids, locked=locked)
            for command in book.all():
                if command.expires_at <= book.now:
                    book.move(command, State.EXPIRED, "expired", evidence={})
                else:
                    requeue(book, command, LAPSES[command.state], self._settings)
            await book.write(conn)
        return len(book.all())
