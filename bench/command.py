"""Group `command`: how soon a unit has done what it was told, and how fast many are told.

Units obey at once (`bench.units`), so what is measured is the way through API, database and broker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from statistics import quantiles
from typing import Any
from uuid import UUID, uuid4

import psycopg
from uuid_utils.compat import uuid7

from bench import http
from bench.figures import Figure
from bench.ingest import STEADY, UNITS, Tell, watching
from bench.register import register
from bench.stack import DidNotHappen, Stack, serve
from bench.units import Fleet, Unit, connect
from deploy.local.postgres import Role
from protocol.identity import Imei
from protocol.messages import Mode
from storage.arrays import uuids

PER_SECOND = 100  # commands
HEARD_S = 7.0
"""Seconds of heartbeats until every unit was heard, and just now."""

WARM = 3 * PER_SECOND  # commands that are not sampled; likewise below
SAMPLED = 15 * PER_SECOND
LIMIT_S = 60.0
PROBE_S = 0.005
BULK = 100_000
POLL_S = 0.05
REASON = "to be measured"

CONFIRMED = "SELECT id FROM command WHERE id = ANY(%s) AND state = 'confirmed'"
SENT = """
SELECT count(*) FILTER (WHERE state = 'sent'), count(*) FILTER (WHERE attempt > 1) FROM command
 WHERE finished_at IS NULL
"""
PRESENT = """
INSERT INTO unit_status (unit_id, contact_at, presence, presence_at)
SELECT id, now(), 'online', now() FROM unit
    ON CONFLICT (unit_id) DO UPDATE SET contact_at = now(), presence = 'online', presence_at = now()
"""
INTENDED = """
INSERT INTO unit_intent (unit_id, epoch, desired) SELECT id, 1, 'enabled' FROM unit
    ON CONFLICT (unit_id) DO UPDATE SET epoch = unit_intent.epoch + 1
"""
ENDED = "UPDATE command SET state = 'cancelled', finished_at = now() WHERE finished_at IS NULL"
ORDERED = """
INSERT INTO command (id, unit_id, kind, mode, after_s, epoch, state, reason, ordered_by,
                     ordered_at, expires_at, due_at)
SELECT id, unit_id, 'set_mode', 'enabled', 0, epoch, 'queued', %s, 'bench@example.com',
       now(), now() + interval '30 days', now()
  FROM (SELECT *, row_number() OVER () AS place FROM unit_intent) AS intent
  JOIN unnest(%s::uuid[]) WITH ORDINALITY AS named (id, place) USING (place)
"""
SETTLE = (
    "VACUUM (ANALYZE) command",
    "VACUUM (ANALYZE) command_event",
    "VACUUM (ANALYZE) unit_intent",
    "VACUUM (ANALYZE) unit_status",
    "CHECKPOINT",
)

ROUNDTRIP = (
    f"{PER_SECOND} set_mode commands/s by POST to the API, {STEADY:,} heartbeats/s beside them, "
    f"{UNITS:,} units that verify, obey and answer at once, fsync on, synchronous_commit on"
)
IN_BULK = (
    f"{BULK:,} enables queued at once for as many present units, published at QoS 1 and written down as "
    "sent; nobody answers; fsync on, synchronous_commit on"
)


@dataclass(frozen=True, slots=True)
class Trips:
    """Commands ordered at a steady rate: milliseconds from POST to confirmed, and how many never were."""

    latencies: Sequence[float]
    n: int
    lost: int
    twice: int = 0

    def percentile(self, percent: int) -> float:
        """Give a percentile of the latencies."""
        return quantiles(self.latencies, n=100)[percent - 1]


@dataclass(frozen=True, slots=True)
class Bulk:
    """Many commands due at the same moment: how many were published per second."""

    rate: float
    n: int
    lost: int
    twice: int


@dataclass(slots=True)
class Book:
    """When each command was ordered and when it was seen confirmed, by the monotonic clock."""

    ordered: dict[UUID, float] = field(default_factory=dict)
    confirmed: dict[UUID, float] = field(default_factory=dict)

    @property
    def waiting(self) -> list[UUID]:
        """Name the commands that are under way."""
        return [command for command in self.ordered if command not in self.confirmed]


async def measure(runs: int, tell: Tell) -> list[Figure]:
    """Measure round trips, then bulk, each on servers of its own."""
    trips, bulks = await _roundtrips(runs, tell), await _bulks(runs, tell)
    return [
        _figure("roundtrip_p50_ms", "ms", [(one.percentile(50), one) for one in trips], 60, ROUNDTRIP),
        _figure("roundtrip_p99_ms", "ms", [(one.percentile(99), one) for one in trips], 250, ROUNDTRIP),
        _figure("bulk_per_s", "commands/s", [(one.rate, one) for one in bulks], 3_000, IN_BULK),
    ]


async def _roundtrips(runs: int, tell: Tell) -> list[Trips]:
    """Order at a steady rate, so many times over, through one API and one gateway."""
    tell("command: servers and units")
    async with serve() as stack, watching(stack) as conn:
        imeis = list(await stack.enrol(UNITS))
        await conn.execute(PRESENT.encode())
        async with (
            stack.gateway(),
            stack.api() as address,
            connect(stack, imeis) as fleet,
            http.connect(address, await stack.token()) as client,
        ):
            beating = asyncio.create_task(fleet.beat(STEADY))
            await asyncio.sleep(HEARD_S)
            units, found = iter(fleet.units.values()), []
            for number in range(1, runs + 1):
                tell(f"command: round trips, round {number} of {runs}")
                found.append(await _roundtrip(client, conn, units))
            beating.cancel()
        if fleet.refused:
            raise DidNotHappen("Units or broker refused what they should not.", number=fleet.refused)
    return found


async def _roundtrip(client: http.Client, conn: psycopg.AsyncConnection[Any], fresh: Iterator[Unit]) -> Trips:
    """Switch some units off, and then on again; each waits for nobody but itself."""
    size, book = WARM + SAMPLED, Book()
    units = list(islice(fresh, size // 2))
    wishes = [(unit, mode) for mode in (Mode.OFFLINE_DISABLED, Mode.ENABLED) for unit in units]
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(conn, book, size))
        for place, (unit, mode) in enumerate(wishes):
            await asyncio.sleep(began + place / PER_SECOND - time.monotonic())
            group.create_task(_order(client, unit.imei, mode, book))
    sampled = sorted(book.ordered, key=book.ordered.__getitem__)[WARM:]
    return Trips(
        [1000 * (book.confirmed[one] - book.ordered[one]) for one in sampled if one in book.confirmed],
        n=size,
        lost=size - len(book.confirmed),
    )


async def _order(client: http.Client, imei: Imei, mode: Mode, book: Book) -> None:
    """Order a mode for a unit, under a key of its own."""
    wish = {"kind": "set_mode", "mode": mode, "reason": REASON}
    began = time.monotonic()
    status, told = await client.post(f"/v1/units/{imei}/commands", wish, {"Idempotency-Key": str(uuid4())})
    if status != HTTPStatus.ACCEPTED:
        raise DidNotHappen("The API did not accept a command.", said=told)
    book.ordered[UUID(told["id"])] = began


async def _watch(conn: psycopg.AsyncConnection[Any], book: Book, size: int) -> None:
    """Note when each command is first seen confirmed, as another connection to the database sees it."""
    deadline = time.monotonic() + size / PER_SECOND + LIMIT_S
    while len(book.confirmed) < size and time.monotonic() < deadline:
        if waiting := book.waiting:
            found = await (await conn.execute(CONFIRMED, [waiting])).fetchall()
            book.confirmed |= dict.fromkeys((command for (command,) in found), time.monotonic())
        await asyncio.sleep(PROBE_S)


async def _bulks(runs: int, tell: Tell) -> list[Bulk]:
    """Have many commands become due while the gateway is away, and time it when it is back."""
    tell("command: units for the bulk")
    async with serve("heliograph_bench_bulk") as stack, watching(stack) as conn:
        known = await register(stack, BULK)
        found = []
        for place in range(1, runs + 1):
            tell(f"command: bulk, round {place} of {runs}")
            async with connect(stack, known, mute=True) as fleet:
                await _queue(stack)
                async with stack.gateway():
                    number, again = await _all_sent(conn, fleet)
                    seconds = time.monotonic() - fleet.heard_first
            found.append(Bulk(number / seconds, BULK, lost=BULK - number, twice=again))
    return found


async def _queue(stack: Stack) -> None:
    """Queue a command for every unit, and let the database come to rest."""
    async with await psycopg.AsyncConnection.connect(
        stack.database.url(Role.SUPERUSER), autocommit=True
    ) as conn:
        for statement in (PRESENT, ENDED, INTENDED):
            await conn.execute(statement.encode())
        await conn.execute(ORDERED.encode(), [REASON, uuids(uuid7() for _ in range(BULK))])
        for statement in SETTLE:
            await conn.execute(statement.encode())


async def _all_sent(conn: psycopg.AsyncConnection[Any], fleet: Fleet) -> tuple[int, int]:
    """Wait until all are sent, or as many as in time; count them, and those that were tried twice."""
    deadline = time.monotonic() + LIMIT_S
    while fleet.heard < BULK and time.monotonic() < deadline:  # noqa: ASYNC110 - counting costs more than waiting
        await asyncio.sleep(POLL_S)
    while True:
        found = await (await conn.execute(SENT.encode())).fetchone()
        sent, again = found or (0, 0)
        if sent >= BULK or time.monotonic() > deadline:
            return sent, again
        await asyncio.sleep(POLL_S)


def _figure(
    key: str, unit: str, measured: Sequence[tuple[float, Trips | Bulk]], goal: float, workload: str
) -> Figure:
    """Make one key of values, each with the run that it is of."""
    return Figure(
        key=f"command.{key}",
        unit=unit,
        runs=tuple(value for value, _ in measured),
        workload=workload,
        n=sum(run.n for _, run in measured),
        lost=sum(run.lost for _, run in measured),
        duplicates=sum(run.twice for _, run in measured),
        goal=goal,
    )
