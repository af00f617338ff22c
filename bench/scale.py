"""Group `scale`: what more gateways, more units and more waiting messages do to ingest."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psycopg

from bench.figures import Figure
from bench.ingest import (
    DURABLE,
    UNITS,
    WORKLOAD,
    Rig,
    Run,
    Tell,
    figure,
    last_landed,
    stored,
    watching,
)
from bench.load import connect, forget
from bench.register import register
from bench.stack import GATEWAYS, DidNotHappen, Stack, serve
from deploy.local.gateways import ranges
from deploy.local.postgres import Role
from deploy.local.processes import Child
from protocol.identity import Imei
from runtime.garbage import collect_rarely

WARM = 2 * UNITS
MANY = 1_000_000
GROWTH_ROUNDS = 2
"""For each run: what it tells is smaller than what a shared machine does from one minute to the next."""

PORTION = 100_000  # heartbeats that are encoded at once
WAITING = (20_000, 100_000)
"""Messages that wait at the broker for a gateway that starts."""

SEED = 3
DRAIN_S = 120.0

CONDITIONS = "example payload with 8 readings, QoS 1 from 8 connections, fsync on, synchronous_commit on"


@dataclass(frozen=True, slots=True)
class Growth:
    """A load on the small fleet, and two on the large one."""

    small: Run
    some: Run
    other: Run


@dataclass(frozen=True, slots=True)
class Shared:
    """A load through one gateway, and through two."""

    one: Run
    two: Run


@dataclass(frozen=True, slots=True)
class Fleet:
    """A million units, each heard once: ten thousand of them, sixty thousand others, and their gateway."""

    some: Rig
    other: Rig
    gateway: Child


async def measure(runs: int, tell: Tell) -> list[Figure]:
    """Measure growth, then sharing, then waiting; in each, contenders take turns."""
    collect_rarely()  # a million names do not become garbage
    tell("scale: servers and units")
    async with serve() as stack, watching(stack) as conn:
        rig = Rig(stack, _some(await stack.enrol(UNITS), UNITS), conn)
        return [
            *await _growth(rig, runs, tell),
            *await _sharing(rig, runs, tell),
            *await _waiting(rig, runs, tell),
        ]


async def _growth(rig: Rig, runs: int, tell: Tell) -> list[Figure]:
    async with rig.stack.gateway(), _large(tell) as fleet:
        await stored(rig, WARM)
        await stored(fleet.some, WARM)
        rounds = []
        for number in range(1, GROWTH_ROUNDS * runs + 1):
            tell(f"scale: growth, round {number} of {GROWTH_ROUNDS * runs}")
            await _tidy(rig.stack)
            await _tidy(fleet.some.stack)
            rounds.append(
                Growth(
                    await stored(rig, DURABLE),
                    await stored(fleet.some, DURABLE),
                    await stored(fleet.other, DURABLE),
                )
            )
        peak = _peak_mb(fleet.gateway)
    beside = (
        f"beside {UNITS:,} units on servers of their own in the same round, in an order of chance as well"
    )
    some = f"{UNITS:,} random ones of {MANY:,} units, each heard before, {beside}; {CONDITIONS}"
    other = f"{DURABLE:,} random ones of {MANY:,} units, each once, each heard before, {beside}; {CONDITIONS}"
    heard = f"peak of the gateway that has heard {MANY:,} units; {CONDITIONS}"
    return [
        figure(
            "growth", "x", [(one.some.rate / one.small.rate, one.some) for one in rounds], goal=0.8, how=some
        ),
        figure(
            "growth_distinct",
            "x",
            [(one.other.rate / one.small.rate, one.other) for one in rounds],
            goal=0.8,
            how=other,
        ),
        figure("growth_memory_mb", "MB", [(peak, rounds[-1].other)], how=heard),
    ]


async def _tidy(stack: Stack) -> None:
    """Vacuum, so that no fleet's turn is spent on what another has left behind."""
    url = stack.database.url(Role.SUPERUSER)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute("VACUUM ANALYZE")


@asynccontextmanager
async def _large(tell: Tell) -> AsyncIterator[Fleet]:
    """Serve a million units, each of which has been heard once."""
    tell(f"scale: {MANY:,} units")
    async with serve("heliograph_bench_large") as stack, watching(stack) as conn, stack.gateway() as gateway:
        everyone = await register(stack, MANY)
        tell(f"scale: {MANY:,} units are heard")
        for portion in _portions(everyone):
            run = await stored(Rig(stack, portion, conn), len(portion))
            if run.lost or run.duplicates:
                raise DidNotHappen("A fleet was not heard as it spoke.", lost=run.lost, twice=run.duplicates)
        chosen = _some(everyone, UNITS + DURABLE)
        names = iter(chosen.items())
        some, other = dict(islice(names, UNITS)), dict(names)
        yield Fleet(Rig(stack, some, conn, 2), Rig(stack, other, conn, 2), gateway)


def _some(everyone: Mapping[Imei, int], number: int) -> dict[Imei, int]:
    """Choose units in an order of chance: no fleet speaks in that in which it was enrolled."""
    chosen = random.Random(SEED).sample(list(everyone), number)  # noqa: S311 - seeded, not secret
    return {imei: everyone[imei] for imei in chosen}


def _portions(everyone: Mapping[Imei, int]) -> list[dict[Imei, int]]:
    names = iter(everyone.items())
    return [dict(islice(names, PORTION)) for _ in range(0, len(everyone), PORTION)]


async def _sharing(rig: Rig, runs: int, tell: Tell) -> list[Figure]:
    rounds = []
    for number in range(1, runs + 1):
        tell(f"scale: gateways, round {number} of {runs}")
        rounds.append(Shared(await _through(rig, 1), await _through(rig, 2)))
    two = f"two gateways over half of the partitions each; {WORKLOAD}"
    ratio = f"two gateways against one in the same round, all on the same cores; {WORKLOAD}"
    return [
        figure("gateways_2", "heartbeats/s", [(one.two.rate, one.two) for one in rounds], how=two),
        figure("scaling", "x", [(one.two.rate / one.one.rate, one.two) for one in rounds], how=ratio),
    ]


async def _through(rig: Rig, gateways: int) -> Run:
    """Send a load through so many gateways."""
    await _begin_anew(rig.stack)
    async with AsyncExitStack() as running:
        for partitions in ranges(gateways):
            await running.enter_async_context(rig.stack.gateway(partitions))
        await stored(rig, WARM)
        return await stored(rig, DURABLE)


async def _begin_anew(stack: Stack) -> None:
    """Have the broker forget every gateway: a session that nobody serves is work for it all the same."""
    for name in GATEWAYS:
        await forget(stack, name)


async def _waiting(rig: Rig, runs: int, tell: Tell) -> list[Figure]:
    found: dict[int, list[tuple[float, Run]]] = {number: [] for number in WAITING}
    for number in range(1, runs + 1):
        for waiting in WAITING:
            tell(f"scale: {waiting:,} wait, round {number} of {runs}")
            found[waiting].append(await _drained(rig, waiting))
    few, many = WAITING
    peak = "peak of a gateway that starts with {:,} messages waiting at the broker; " + WORKLOAD
    return [
        figure("memory_mb", "MB", found[many], how=peak.format(many)),
        figure("memory_few_mb", "MB", found[few], how=peak.format(few)),
    ]


async def _drained(rig: Rig, waiting: int) -> tuple[float, Run]:
    """Let messages wait for a gateway, and tell its peak of memory when all are stored."""
    await _begin_anew(rig.stack)
    async with rig.stack.gateway():
        pass  # from now on the broker keeps what it would hear
    load = rig.load(waiting)
    packets = load.packets()
    async with connect(rig.stack) as lines:
        began = await lines.blast(packets)
    async with rig.stack.gateway() as gateway:
        async with asyncio.timeout(DRAIN_S):
            ended = await last_landed(rig, load)
        peak = _peak_mb(gateway)
    return peak, await rig.count(load, ended - began)


def _peak_mb(child: Child) -> float:
    """Give the most memory that a process ever had (VmHWM), in MB."""
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii", errors="replace")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6
