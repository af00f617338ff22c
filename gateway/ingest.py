"""From deliveries to committed facts to acknowledgements: the only place that acknowledges an uplink message.

Every delivery gets exactly one verdict, in a batch that is one transaction. A batch that the
database refuses is halved until the bad message is alone; that one becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime

import psycopg
import structlog

from gateway import metrics, tally
from gateway.reading import Reading, read
from gateway.session import Delivery, Session
from gateway.verdicts import Entry, judge
from protocol.reasons import Reason
from registry import units
from runtime.clock import now
from runtime.errors import HeliographError
from runtime.retry import until_done
from runtime.settings import Commands, Gateway
from storage.errors import DatabaseUnavailable, DeadlinePassed
from storage.pool import Pool, reason
from telemetry.arrivals import Arrival, moments
from telemetry.partitions import Days

QUEUED_S = 30.0
"""For so long after a connect (seconds) what arrives may have waited in the broker's queue."""

BREATH_S = 0.02
"""After so long decoding (seconds), others get their turn on the event loop."""

REFUSALS = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""What the database says of values that it does not take, whenever they come."""

log = structlog.get_logger()


class TooMuch(HeliographError):
    """A batch is more than the database finishes in time."""


class Ingest:
    """The queue between the uplink and the database, and what empties it."""

    def __init__(self, name: str, settings: Gateway, commands: Commands, pool: Pool, days: Days) -> None:
        self._name = name
        self._settings = settings
        self._commands = commands
        self._pool = pool
        self._days = days
        self._queue: deque[tuple[Delivery, datetime, bool]] = deque()
        self._arrived = asyncio.Event()
        self._unit_ids: dict[str, int] = {}
        self._held = 0
        self._moved_at = time.monotonic()
        self._live_from = 0.0
        self._session: Session | None = None
        self.finished = asyncio.Event()
        """Set when the last batch is settled: until then somebody must hold the session open."""

    def connected(self, session: Session) -> None:
        """Note a new connection: what comes now may have waited in the broker's queue."""
        self._session = session
        self._live_from = time.monotonic() + QUEUED_S

    def nothing_queued(self) -> None:
        """Note that the broker had no session of this gateway, and so no queue: what comes now is live."""
        self._live_from = time.monotonic()

    def take(self, deliveries: Sequence[Delivery]) -> bool:
        """Accept what came at one moment; answers whether there is room for more."""
        at, live = now(), time.monotonic() >= self._live_from
        self._queue.extend((delivery, at, live and not delivery.retained) for delivery in deliveries)
        if not self._held:
            self._moved_at = time.monotonic()  # nothing waited until now
        self._held += sum(delivery.weight for delivery in deliveries)
        self._arrived.set()
        tally.received(len(deliveries), again=sum(delivery.again for delivery in deliveries))
        return self._has_room

    async def serve(self, stop: asyncio.Event) -> None:
        """Empty the queue batch by batch until stopped; a database that is away is waited for.

        While the database works on one batch, the next is decoded. What is not committed at the
        stop stays unacknowledged: the broker has it.
        """
        decoded: asyncio.Queue[list[Reading] | None] = asyncio.Queue(maxsize=1)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._decode(decoded, stop), name="ingest-decode")
                while (batch := await decoded.get()) is not None:
                    await self._settle(batch, stop)
        finally:
            self.finished.set()

    async def _decode(self, decoded: asyncio.Queue[list[Reading] | None], stop: asyncio.Event) -> None:
        """Turn what arrives into batches until stopped; None is the last word."""
        stopping = asyncio.create_task(stop.wait(), name="ingest-stop")
        try:
            while not stop.is_set():
                batch: list[Reading] = []
                weight, began = 0, time.monotonic()
                for delivery, at, live in await self._gather(stopping):
                    batch.append(read(delivery, at, live=live))
                    weight += batch[-1].weight
                    if weight >= self._settings.gateway_batch_rows:
                        await decoded.put(batch)
                        batch, weight = [], 0
                    if time.monotonic() - began > BREATH_S:
                        await asyncio.sleep(0)
                        began = time.monotonic()
                if batch:
                    await decoded.put(batch)
            await decoded.put(None)
        finally:
            stopping.cancel()

    @property
    def queued(self) -> int:
        """How many messages are not decoded yet."""
        return len(self._queue)

    @property
    def stalled_s(self) -> float:
        """Seconds since a batch was last tried, while messages are held; 0 when none is."""
        return time.monotonic() - self._moved_at if self._held else 0.0

    @property
    def _has_room(self) -> bool:
        return self._held < self._settings.gateway_window

    async def _gather(self, stopping: asyncio.Task[bool]) -> list[tuple[Delivery, datetime, bool]]:
        """Wait for the first message, then a little for more to share its transaction."""
        arrived = asyncio.create_task(self._arrived.wait(), name="ingest-arrived")
        await asyncio.wait({arrived, stopping}, return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        if len(self._queue) < self._settings.gateway_batch_rows:
            await asyncio.sleep(self._settings.gateway_batch_ms / 1000)
        size = min(len(self._queue), self._settings.gateway_batch_rows)
        batch = [self._queue.popleft() for _ in range(size)]
        if not self._queue:
            self._arrived.clear()
        return batch

    async def _settle(self, batch: Sequence[Reading], stop: asyncio.Event, *, fresh: bool = False) -> None:
        """Bring a batch to its verdicts, or give up at the stop.

        A batch that the database refuses is tried once more with nothing taken for granted (`fresh`):
        it may have been restored meanwhile, or lack the days of a backlog. Then it is halved, as is one
        that takes too long, until the bad message is alone.
        """
        try:
            await until_done("ingest", lambda: self._attempt(batch, fresh=fresh), stop)
        except TooMuch:
            log.warning("batch_halved", messages=len(batch))
            await self._halve(batch, stop, fresh=fresh)
        except REFUSALS as refusal:
            if not fresh:
                self._unit_ids.clear()
                await self._settle(batch, stop, fresh=True)
            elif len(batch) > 1:
                await self._halve(batch, stop, fresh=True)
            else:
                await self._give_up(batch[0], reason(refusal), stop)

    async def _halve(self, batch: Sequence[Reading], stop: asyncio.Event, *, fresh: bool) -> None:
        middle = len(batch) // 2
        await self._settle(batch[:middle], stop, fresh=fresh)
        await self._settle(batch[middle:], stop, fresh=fresh)

    async def _give_up(self, reading: Reading, why: str, stop: asyncio.Event) -> None:
        """Make a dead letter of the one message that the database refuses."""
        log.warning("message_refused", imei=reading.imei, why=why)
        lost = reading.lost(self._unit_ids.get(reading.imei or ""), Reason.REFUSED_BY_DATABASE, why)
        await until_done("ingest", lambda: self._transact([(reading, lost)]), stop)

    async def _attempt(self, batch: Sequence[Reading], *, fresh: bool) -> None:
        """Try a batch from what it needs to know up to its acknowledgement."""
        self._moved_at = time.monotonic()
        try:
            # Not `- self._unit_ids.keys()`: that walks all who are known, a million of them for every batch.
            await self._learn({reading.imei for reading in batch if reading.imei not in self._unit_ids})
            entries = [
                (reading, reading.content(self._unit_ids.get(reading.imei or ""))) for reading in batch
            ]
            if fresh:
                await self._days.ensure(
                    moments(content for _, content in entries if isinstance(content, Arrival))
                )
            await self._transact(entries)
        except DatabaseUnavailable as error:
            self._unit_ids.clear()  # it may come back as another
            if isinstance(error, DeadlinePassed) and len(batch) > 1:
                raise TooMuch(
                    "The database did not finish this batch in time.", messages=len(batch)
                ) from error
            raise

    async def _learn(self, imeis: Iterable[str | None]) -> None:
        """Look up who is not known yet; an IMEI keeps its unit as long as the database is the same."""
        wanted = [imei for imei in imeis if imei is not None]
        if wanted:
            async with self._pool.transaction() as conn:
                found = await units.ids_by_imei(conn, wanted)
            self._unit_ids |= {imei: unit.id for imei, unit in found.items()}

    async def _transact(self, entries: Sequence[Entry]) -> None:
        began = time.monotonic()
        async with self._pool.transaction() as conn:
            outcome = await judge(conn, entries, gateway=self._name, settings=self._commands)
        metrics.BATCH_SECONDS.observe(time.monotonic() - began)
        metrics.BATCH_ROWS.observe(len(entries))
        tally.settled(outcome)
        self._acknowledge(entries)

    def _acknowledge(self, entries: Sequence[Entry]) -> None:
        """Acknowledge in the order of arrival, each on the connection that brought it; then read on."""
        by_session: dict[Session, list[int]] = {}
        for reading, _ in entries:
            session, packet_id = reading.delivery.session, reading.delivery.packet_id
            if session is not None and packet_id is not None:
                by_session.setdefault(session, []).append(packet_id)
        for session, packet_ids in by_session.items():
            session.acknowledge(packet_ids)
        self._held -= sum(reading.delivery.weight for reading, _ in entries)
        if self._session is not None and self._has_room:
            self._session.resume()
