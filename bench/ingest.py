"""Group `ingest`: how fast heartbeats are kept for good.

Beside it stand, in every round, the same gateway without a database, and two naive loops on the same servers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import psycopg

from bench.figures import Figure
from bench.load import BOOT, Lines, Load, connect
from bench.stack import POLL_S, PUBLISHERS, DidNotHappen, Stack, serve, told, until
from deploy.local.processes import Child
from gateway.ingest import QUEUED_S
from protocol.identity import Imei
from runtime.errors import Invalid

UNITS = 10_000
DURABLE = 60_000  # heartbeats of one run; likewise below
INSERT = 10_000
EXECUTEMANY = 40_000
LIMIT_S = 120.0
"""No run may take longer."""

PROBED, PROBED_EVERY = 20_000, 250
"""Of so many last heartbeats of a load one in so many is watched for: some of each batch under way."""

LATER_S = 5.0
"""Seconds that are waited for what is not there when all that is watched for is."""

STEADY = 2_000  # heartbeats/s
WARM_S = QUEUED_S + 2
"""Steady seconds before latency is sampled: from then on what a gateway hears counts as live."""

SAMPLED_S = 10
PROBE_EVERY = 10  # heartbeats
PROBE_WINDOW = 100  # probes asked for at once: half a second of the load
PROBE_S = 0.005

WORKLOAD = (
    "10,000 units, example payload with 8 readings, QoS 1 from 8 connections, fsync on, synchronous_commit on"
)

LANDED = """
SELECT place
  FROM unnest(%s::int[], %s::bigint[], %s::int[]) AS wanted (unit_id, seq, place)
 CROSS JOIN LATERAL (
       SELECT FROM heartbeat h
        WHERE h.unit_id = wanted.unit_id AND h.seq = wanted.seq AND h.at = to_timestamp(%s)
        LIMIT 1) h
"""
"""One by one through the index: who looks so often must not read the table, whatever its statistics say."""

COUNT = """
SELECT count(*), count(DISTINCT (unit_id, seq)) FROM heartbeat
 WHERE at = to_timestamp(%s) AND boot = %s AND seq BETWEEN %s AND %s
"""

Tell = Callable[[str], None]


class NotDurable(Invalid):
    """The database server does not keep what it commits."""


@dataclass(frozen=True, slots=True)
class Run:
    """One load sent: `n` heartbeats in so many seconds."""

    n: int
    seconds: float
    lost: int
    duplicates: int = 0

    @property
    def rate(self) -> float:
        """Heartbeats per second."""
        return self.n / self.seconds


@dataclass(frozen=True, slots=True)
class Round:
    """Everything once, side by side; latencies in milliseconds."""

    durable: Run
    null: Run
    insert: Run
    executemany: Run
    steady: Run
    latencies: Sequence[float]

    def percentile(self, percent: int) -> float:
        """Give a percentile of the latencies."""
        return quantiles(self.latencies, n=100)[percent - 1]


class Rig:
    """Where loads of some units are sent and found again; sequence numbers rise from load to load."""

    def __init__(
        self,
        stack: Stack,
        unit_ids: Mapping[Imei, int],
        conn: psycopg.AsyncConnection[Any],
        first_seq: int = 1,
    ) -> None:
        self.stack = stack
        self._imeis = list(unit_ids)
        self._unit_ids = list(unit_ids.values())
        self._conn = conn
        self._next_seq = first_seq

    def load(self, size: int) -> Load:
        """Give a load that was never sent."""
        load = Load(self._imeis, self._next_seq, size, int(time.time()))
        self._next_seq = load.next_seq
        return load

    async def landed(self, load: Load, places: Collection[int]) -> set[int]:
        """Tell which heartbeats of these places are in the database."""
        units = [self._unit_ids[place % len(self._unit_ids)] for place in places]
        seqs = [load.seq(place) for place in places]
        cursor = await self._conn.execute(LANDED, [units, seqs, list(places), load.unit_ts])
        return {place for (place,) in await cursor.fetchall()}

    async def count(self, load: Load, seconds: float) -> Run:
        """Count what a load left in the database; what is late by a little is waited for."""
        deadline = time.monotonic() + LATER_S
        span = (load.unit_ts, BOOT, load.first_seq, load.next_seq - 1)
        while True:
            [(rows, different)] = await (await self._conn.execute(COUNT, span)).fetchall()
            if different >= load.size or time.monotonic() > deadline:
                return Run(load.size, seconds, lost=load.size - different, duplicates=rows - different)
            await asyncio.sleep(POLL_S)


async def measure(runs: int, tell: Tell) -> list[Figure]:
    """Run every contender so many times, in turn."""
    tell("servers and units")
    async with serve() as stack, furnish(stack) as rig:
        return _figures(
            [await _round(rig, f"round {number} of {runs}", tell) for number in range(1, runs + 1)]
        )


@asynccontextmanager
async def furnish(stack: Stack) -> AsyncIterator[Rig]:
    """Enrol the units of the load, on servers that keep what they commit."""
    async with watching(stack) as conn:
        yield Rig(stack, await stack.enrol(UNITS), conn)


@asynccontextmanager
async def watching(stack: Stack) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Connect to look for what arrives, in a database that keeps what it commits."""
    async with await psycopg.AsyncConnection.connect(stack.database.url(), autocommit=True) as conn:
        await _insist_on_durability(conn)
        yield conn


async def _round(rig: Rig, name: str, tell: Tell) -> Round:
    async with rig.stack.running("gateway"):
        tell(f"{name}: latency")
        steady, latencies = await _steady(rig)
        tell(f"{name}: durable")
        durable = await stored(rig, DURABLE)
    async with rig.stack.running("bench.null") as child:
        tell(f"{name}: null")
        null = await _decoded(rig, DURABLE, child)
    async with rig.stack.running("bench.naive", "insert"):
        tell(f"{name}: insert")
        insert = await stored(rig, INSERT)
    async with rig.stack.running("bench.naive", "executemany"):
        tell(f"{name}: executemany")
        executemany = await stored(rig, EXECUTEMANY)
    return Round(durable, null, insert, executemany, steady, latencies)


async def stored(rig: Rig, size: int) -> Run:
    """Send a load at full speed; it ends when all of it is visible, or nothing more comes."""
    load = rig.load(size)
    return await rig.count(load, await _seconds(rig, load, last_landed(rig, load)))


async def last_landed(rig: Rig, load: Load) -> float:
    """Wait until the last heartbeat of every connection is visible, and what came before; gives when."""
    last = range(load.size - len(PUBLISHERS), load.size)
    before = range(max(0, load.size - PROBED), load.size, PROBED_EVERY)
    for places in last, before:
        missing = set(places)
        while missing := missing - await rig.landed(load, missing):  # noqa: ASYNC110 - another process commits
            await asyncio.sleep(POLL_S)
    return time.monotonic()


async def _decoded(rig: Rig, size: int, child: Child) -> Run:
    """Send a load at full speed to the gateway without a database."""
    load = rig.load(size)

    async def last_decoded() -> float:
        await until(lambda: sum(_progress(child)[:2]) >= size, LIMIT_S)
        return _progress(child)[2]

    seconds = await _seconds(rig, load, last_decoded())
    return Run(size, seconds, lost=size - round(_progress(child)[0]))


async def _seconds(rig: Rig, load: Load, end: Coroutine[Any, Any, float]) -> float:
    packets = load.packets()
    async with connect(rig.stack) as lines:
        return await blast(lines, packets, end)


async def blast(lines: Lines, packets: Sequence[bytes], end: Coroutine[Any, Any, float]) -> float:
    """Send a load at full speed and time it from its first publish to its end."""
    try:
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            ended = group.create_task(end)
            began = group.create_task(lines.blast(packets))
    except TimeoutError:
        raise DidNotHappen(
            "A load did not come through in time.", size=len(packets), seconds=LIMIT_S
        ) from None
    return ended.result() - began.result()


async def _steady(rig: Rig) -> tuple[Run, list[float]]:
    """Send at a steady rate and time, for some of the last heartbeats, how long until they are visible."""
    load = rig.load(round(STEADY * (WARM_S + SAMPLED_S)))
    packets = load.packets()
    probes = range(round(STEADY * WARM_S), load.size, PROBE_EVERY)
    async with connect(rig.stack) as lines, asyncio.TaskGroup() as group:
        sending = group.create_task(lines.trickle(packets, STEADY))
        watching = group.create_task(_watch(rig, load, probes))
    published, seen = sending.result(), watching.result()
    latencies = [1000 * (seen[place] - published[place]) for place in probes]
    with suppress(TimeoutError):  # what is missing then counts as lost
        async with asyncio.timeout(LIMIT_S):
            await last_landed(rig, load)
    return await rig.count(load, max(seen.values()) - published[0]), latencies


async def _watch(rig: Rig, load: Load, probes: Sequence[int]) -> dict[int, float]:
    """Note when each probe is first seen, as another connection to the database sees it."""
    seen: dict[int, float] = {}
    await asyncio.sleep(WARM_S)
    deadline = time.monotonic() + LIMIT_S
    while waiting := [place for place in probes if place not in seen]:
        found = await rig.landed(load, waiting[:PROBE_WINDOW])
        seen |= dict.fromkeys(found, time.monotonic())
        if time.monotonic() > deadline:
            raise DidNotHappen("Heartbeats at a steady rate were not seen in time.", missing=len(waiting))
        await asyncio.sleep(PROBE_S)
    return seen


def _progress(child: Child) -> tuple[float, float, float]:
    """Read what the gateway without a database said last: decoded, unreadable, at which moment."""
    lines = [line for line in told(child).splitlines() if "queue_emptied" in line]
    said = json.loads(lines[-1]) if lines else {"decoded": 0, "unreadable": 0, "at": 0.0}
    return said["decoded"], said["unreadable"], said["at"]


async def _insist_on_durability(conn: psycopg.AsyncConnection[Any]) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        found = await (await conn.execute("SELECT current_setting(%s)", [setting])).fetchone()
        if found != ("on",):
            raise NotDurable(
                "The database server does not keep what it commits.", setting=setting, found=found
            )


def _figures(rounds: Sequence[Round]) -> list[Figure]:
    """Make the keys; ratios are taken within each round."""
    steady = f"{WORKLOAD}, {STEADY:,} heartbeats/s"
    null = figure("null", "heartbeats/s", [(one.null.rate, one.null) for one in rounds])
    durable = [one.durable for one in rounds]

    def ratio(key: str, against: Callable[[Round], Run], goal: float, floor: float | None = None) -> Figure:
        shares = [(one.durable.rate / against(one).rate, one.durable) for one in rounds]
        return figure(key, "x", shares, goal=goal, floor=floor)

    return [
        figure("durable", "heartbeats/s", [(run.rate, run) for run in durable], goal=0.30 * null.value),
        null,
        figure("insert", "heartbeats/s", [(one.insert.rate, one.insert) for one in rounds]),
        figure("executemany", "heartbeats/s", [(one.executemany.rate, one.executemany) for one in rounds]),
        ratio("durable_ratio", lambda one: one.null, goal=0.30),
        ratio("vs_insert", lambda one: one.insert, goal=10, floor=4),
        ratio("vs_executemany", lambda one: one.executemany, goal=4),
        figure("latency_p50_ms", "ms", [(one.percentile(50), one.steady) for one in rounds], how=steady),
        figure(
            "latency_p99_ms", "ms", [(one.percentile(99), one.steady) for one in rounds], goal=250, how=steady
        ),
    ]


def figure(
    key: str,
    unit: str,
    measured: Sequence[tuple[float, Run]],
    *,
    goal: float | None = None,
    floor: float | None = None,
    how: str = WORKLOAD,
) -> Figure:
    """Make one key of values, each with the run that it is of."""
    return Figure(
        key=f"ingest.{key}",
        unit=unit,
        runs=tuple(value for value, _ in measured),
        workload=how,
        n=sum(run.n for _, run in measured),
        lost=sum(run.lost for _, run in measured),
        duplicates=sum(run.duplicates for _, run in measured),
        goal=goal,
        floor=floor,
    )
