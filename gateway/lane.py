"""The way of one batch at a time: what it needs to know, its one transaction, its acknowledgement.

A batch that the database refuses is halved until the bad message is alone; that one becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psycopg
import structlog

from gateway import metrics, tally
from gateway.reading import Reading
from gateway.unit_ids import UnitIds
from gateway.verdicts import Entry, judge
from protocol.reasons import Reason
from runtime.errors import HeliographError
from runtime.retry import until_done
from runtime.settings import Commands
from storage.errors import DatabaseUnavailable, DeadlinePassed
from storage.pool import Pool, reason
from telemetry.arrivals import Arrival, moments
from telemetry.partitions import Days

REFUSALS = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""What the database says of values that it does not take, whenever they come."""

log = structlog.get_logger()


class TooMuch(HeliographError):
    """A batch is more than the database finishes in time."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every lane of a gateway works with."""

    name: str
    commands: Commands
    pool: Pool
    days: Days
    unit_ids: UnitIds
    acknowledge: Callable[[Sequence[Reading]], None]
    tried: Callable[[], None]


class Lane:
    """Settles one batch at a time."""

    def __init__(self, tools: Tools, stop: asyncio.Event) -> None:
        self._tools = tools
        self._stop = stop
        self._ahead: Awaitable[object] | None = None

    async def settle(self, batch: Sequence[Reading], ahead: Awaitable[object] | None) -> None:
        """Bring a batch to its verdicts, or give up at the stop; a database that is away is waited for.

        What came before it is acknowledged first: `ahead` ends when that is so.
        """
        self._ahead = ahead
        await self._settle(batch)

    async def _settle(self, batch: Sequence[Reading], *, fresh: bool = False) -> None:
        """Try a batch; when the database refuses it, once more with nothing taken for granted (`fresh`).

        It may have been restored meanwhile, or lack the days of a backlog. Then the batch is halved, as is
        one that takes too long, until the bad message is alone.
        """
        try:
            await until_done("ingest", lambda: self._attempt(batch, fresh=fresh), self._stop)
        except TooMuch:
            log.warning("batch_halved", messages=len(batch))
            await self._halve(batch, fresh=fresh)
        except REFUSALS as refusal:
            if not fresh:
                self._tools.unit_ids.forget()
                await self._settle(batch, fresh=True)
            elif len(batch) > 1:
                await self._halve(batch, fresh=True)
            else:
                await self._give_up(batch[0], reason(refusal))

    async def _halve(self, batch: Sequence[Reading], *, fresh: bool) -> None:
        middle = len(batch) // 2
        await self._settle(batch[:middle], fresh=fresh)
        await self._settle(batch[middle:], fresh=fresh)

    async def _give_up(self, reading: Reading, why: str) -> None:
        """Make a dead letter of the one message that the database refuses."""
        log.warning("message_refused", imei=reading.imei, why=why)
        await until_done("ingest", lambda: self._lose(reading, why), self._stop)

    async def _lose(self, reading: Reading, why: str) -> None:
        self._tools.tried()
        unit_ids = await self._tools.unit_ids.of([reading.imei])
        lost = reading.lost(unit_ids.get(reading.imei), Reason.REFUSED_BY_DATABASE, why)
        await self._transact([(reading, lost)])

    async def _attempt(self, batch: Sequence[Reading], *, fresh: bool) -> None:
        """Try a batch from what it needs to know up to its acknowledgement."""
        self._tools.tried()
        try:
            unit_ids = await self._tools.unit_ids.of(reading.imei for reading in batch)
            entries = [(reading, reading.content(unit_ids.get(reading.imei))) for reading in batch]
            if fresh:
                await self._tools.days.ensure(
                    moments(content for _, content in entries if isinstance(content, Arrival))
                )
            await self._transact(entries)
        except DatabaseUnavailable as error:
            self._tools.unit_ids.forget()  # it may come back as another
            if isinstance(error, DeadlinePassed) and len(batch) > 1:
                raise TooMuch(
                    "The database did not finish this batch in time.", messages=len(batch)
                ) from error
            raise

    async def _transact(self, entries: Sequence[Entry]) -> None:
        tools, began = self._tools, time.monotonic()
        async with tools.pool.transaction() as conn:
            outcome = await judge(conn, entries, gateway=tools.name, settings=tools.commands)
        metrics.BATCH_SECONDS.observe(time.monotonic() - began)
        metrics.BATCH_ROWS.observe(len(entries))
        if self._ahead is not None:
            await self._ahead
        tally.settled(outcome)
        tools.acknowledge([reading for reading, _ in entries])
