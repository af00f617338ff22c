"""From deliveries to committed facts to acknowledgements: the only place that acknowledges an uplink message.

Every delivery gets exactly one verdict, in a batch that is one transaction. Two batches are under way
at a time, each in its lane, when no unit speaks in both.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import cycle

from gateway import tally
from gateway.lane import Lane, Tools
from gateway.reading import Reading, read
from gateway.session import Delivery, Session
from gateway.unit_ids import UnitIds
from runtime.clock import now
from runtime.settings import Commands, Gateway
from storage.pool import Pool
from telemetry.partitions import Days

QUEUED_S = 30.0
"""For so long after a connect or a pause (seconds) what arrives may have waited in the broker's queue."""

PAUSE_S = 5.0
"""Where nothing waits, a shorter pause (seconds) does not matter: what it kept back is hardly older."""

BREATH_S = 0.02
"""After so long decoding (seconds), others get their turn on the event loop."""


class Ingest:
    """The queue between the uplink and the database, and what empties it."""

    def __init__(self, name: str, settings: Gateway, commands: Commands, pool: Pool, days: Days) -> None:
        self._settings = settings
        self._tools = Tools(name, commands, pool, days, UnitIds(pool), self._acknowledge, self._tried)
        self._queue: deque[tuple[Delivery, datetime, bool]] = deque()
        self._arrived = asyncio.Event()
        self._held = 0
        self._moved_at = time.monotonic()
        self._live_from = 0.0
        self._full_since: float | None = None
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
        spoken: dict[str, int] = {}
        for delivery in deliveries:
            before = spoken.get(delivery.topic, 0)
            spoken[delivery.topic] = before + 1
            # What one unit says again and again is several contacts, though read at once.
            moment = at + timedelta(microseconds=before) if before else at
            self._queue.append((delivery, moment, live and not delivery.retained))
        if not self._held:
            self._moved_at = time.monotonic()  # nothing waited until now
        self._held += sum(delivery.weight for delivery in deliveries)
        self._arrived.set()
        tally.received(len(deliveries), again=sum(delivery.again for delivery in deliveries))
        if not self._has_room and self._full_since is None:
            self._full_since = time.monotonic()
        return self._has_room

    async def serve(self, stop: asyncio.Event) -> None:
        """Empty the queue batch by batch until stopped; a database that is away is waited for.

        While the database works on one batch the next is decoded, and begun when it is of other units.
        What is not committed at the stop stays unacknowledged: the broker has it.
        """
        decoded: asyncio.Queue[list[Reading] | None] = asyncio.Queue(maxsize=1)
        lanes = cycle([Lane(self._tools, stop), Lane(self._tools, stop)])
        ahead: asyncio.Task[None] | None = None
        imeis: set[str | None] = set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._decode(decoded, stop), name="ingest-decode")
                while (batch := await decoded.get()) is not None:
                    before, imeis = imeis, {reading.imei for reading in batch}
                    if ahead is not None and not imeis.isdisjoint(before):
                        await ahead  # of one unit, what came first is judged first
                    behind = group.create_task(next(lanes).settle(batch, ahead), name="ingest-settle")
                    if ahead is not None:
                        await ahead
                    ahead = behind
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

    def _tried(self) -> None:
        self._moved_at = time.monotonic()

    def _acknowledge(self, readings: Sequence[Reading]) -> None:
        """Acknowledge in the order of arrival, each on the connection that brought it; then read on."""
        by_session: dict[Session, list[int]] = {}
        for reading in readings:
            session, packet_id = reading.delivery.session, reading.delivery.packet_id
            if session is not None and packet_id is not None:
                by_session.setdefault(session, []).append(packet_id)
        for session, packet_ids in by_session.items():
            session.acknowledge(packet_ids)
        self._held -= sum(reading.delivery.weight for reading in readings)
        if self._session is not None and self._has_room:
            self._read_on(self._session)

    def _read_on(self, session: Session) -> None:
        """Go on after a pause, if there was one: what the broker kept meanwhile comes first.

        A queue that still fills the window is not drained yet, however short its pauses are.
        """
        if self._full_since is not None:
            at = time.monotonic()
            if at - self._full_since > PAUSE_S or at < self._live_from:
                self._live_from = at + QUEUED_S
            self._full_since = None
        session.resume()
