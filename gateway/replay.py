"""Dead letters that people marked, taken in once more: the way of a delivery, and no broker waits for it.

The decision is closed in the transaction that takes the message in, so a gateway that dies neither
loses nor doubles. Such a message stands where it arrived first and is never live. Any gateway takes
any of them: what named no IMEI has no partition, and a row says all that there is to know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog

from gateway import tally
from gateway.lane import REFUSALS
from gateway.reading import Reading, read
from gateway.session import Delivery
from gateway.verdicts import Entry, judge
from protocol.reasons import Reason
from registry import units
from runtime.retry import until_stopped
from runtime.services import pause
from runtime.settings import Commands, Database
from storage.errors import DeadlinePassed, StillLocked
from storage.notices import wake
from storage.pool import Pool, reason
from storage.portions import Portions
from telemetry import fates
from telemetry.arrivals import Arrival, moments
from telemetry.fates import Marked
from telemetry.partitions import Days

BATCH = 50
"""Messages in one transaction at most: one can carry 500 heartbeats; live ones wait for their units' rows."""

POLL_S = 1.0
PUT_OFF_S = 60.0
PUT_OFF_MAX_S = 3600.0
"""What the database does not finish even alone is tried again so much later, twice as late each time."""

log = structlog.get_logger()


class PutOff:
    """Marks that have to wait, so that what is behind them does not."""

    def __init__(self) -> None:
        self._waits: dict[int, tuple[float, float]] = {}

    def add(self, mark: int) -> float:
        """Have one wait, and give the seconds."""
        _, before_s = self._waits.get(mark, (0.0, PUT_OFF_S / 2))
        wait_s = min(2 * before_s, PUT_OFF_MAX_S)
        self._waits[mark] = time.monotonic() + wait_s, wait_s
        return wait_s

    def now(self) -> list[int]:
        """List those that are to wait yet."""
        return [mark for mark, (until, _) in self._waits.items() if until > time.monotonic()]


class Replay:
    """Empties what is marked; any number of gateways may."""

    def __init__(self, name: str, pool: Pool, days: Days, settings: Commands) -> None:
        self._name = name
        self._pool = pool
        self._days = days
        self._settings = settings
        self._portions = Portions(BATCH)
        self._put_off = PutOff()
        self._woken = asyncio.Event()

    async def listen(self, database: Database, stop: asyncio.Event) -> None:
        """Be woken by whoever marks; the poll does it too, only later."""
        await until_stopped(
            "replay-listen", lambda stop: wake(database, "dead_letter_marked", self._woken, stop), stop
        )

    async def serve(self, stop: asyncio.Event) -> None:
        """Take in what is marked until stopped."""
        await until_stopped("replay", self._work, stop)

    async def step(self) -> int:
        """Take some in and give their number; those that another gateway is at are left to it.

        What the database does not finish even alone keeps none behind it waiting.
        """
        with self._portions.next() as portion:
            async with self._pool.transaction() as conn:
                marked = await fates.waiting(conn, most=portion.most, besides=self._put_off.now())
                portion.number = len(marked)
                readings = {mark.id: _reading(mark) for mark in marked}
                speakers = {reading.imei for reading in readings.values() if reading.imei is not None}
                unit_ids = await units.ids_by_imei(conn, speakers)
            try:
                return await self._settle(readings, unit_ids)
            except (DeadlinePassed, StillLocked) as error:
                if len(readings) == 1:
                    [(mark, reading)] = readings.items()
                    wait_s = self._put_off.add(mark)
                    log.warning("dead_letter_put_off", imei=reading.imei, seconds=wait_s, why=str(error))
                raise

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._woken.clear()
            if not await self.step():
                await pause(self._woken, POLL_S)

    async def _settle(self, readings: Mapping[int, Reading], unit_ids: Mapping[str, int]) -> int:
        """Bring readings to their verdicts; when the database refuses them, each by itself."""
        entries = {
            mark: (reading, reading.content(unit_ids.get(reading.imei or "")))
            for mark, reading in readings.items()
        }
        try:
            return await self._transact(entries)
        except REFUSALS as refusal:
            if len(readings) > 1:
                return sum([await self._settle({mark: one}, unit_ids) for mark, one in readings.items()])
            [(mark, reading)] = readings.items()
            why = reason(refusal)
            log.warning("message_refused", imei=reading.imei, why=why)
            lost = reading.lost(unit_ids.get(reading.imei or ""), Reason.REFUSED_BY_DATABASE, why)
            return await self._transact({mark: (reading, lost)})

    async def _transact(self, entries: Mapping[int, Entry]) -> int:
        contents = [content for _, content in entries.values()]
        await self._days.ensure(moments(content for content in contents if isinstance(content, Arrival)))
        async with self._pool.transaction() as conn:
            taken = await fates.take(conn, entries)
            mine = {mark: entry for mark, entry in entries.items() if mark in taken}
            if not mine:
                return 0
            outcome = await judge(conn, list(mine.values()), gateway=self._name, settings=self._settings)
            await fates.close(conn, dict(zip(mine, outcome.verdicts, strict=True)))
        tally.replayed(outcome)
        log.info("dead_letters_replayed", number=len(mine))
        return len(mine)


def _reading(mark: Marked) -> Reading:
    delivery = Delivery(None, None, mark.topic, mark.body, retained=False, again=False)
    return read(delivery, mark.first_at, live=False)
