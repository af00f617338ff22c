"""Group `storage`: what a heartbeat weighs on disk, with its indexes, as it arrives and as it rests.

A week of a small simulated fleet, nine weeks ago, so that TimescaleDB may compress it; on plain
PostgreSQL its days are packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.rows import dict_row

from bench.figures import Figure
from bench.ingest import Tell
from bench.stack import serve
from deploy.local.postgres import Role
from protocol.messages import Mode
from runtime.clock import now
from runtime.settings import Keeping
from simulator.battery import Battery
from simulator.weather import Sky
from storage import engine
from storage.engine import Engine
from storage.pack import pack
from storage.pool import open_pool
from telemetry import heartbeats, upkeep
from telemetry.heartbeats import Heartbeat
from telemetry.partitions import Days

UNITS = 150
EVERY = timedelta(minutes=15)
WEEK = timedelta(days=7)
AGE = timedelta(weeks=9)
SEED = 7
GOALS = {Engine.PLAIN: 170.0, Engine.TIMESCALE: 15.0}
WORKLOAD = f"{UNITS} simulated units, every 15 min of a week, eleven readings, indexes included"

SIZES = {
    Engine.PLAIN: "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('heartbeat')",
    Engine.TIMESCALE: "SELECT hypertable_size('heartbeat')",
}


async def measure(_runs: int, tell: Tell) -> list[Figure]:
    """Store a week and weigh it; sizes do not vary, so one round is enough."""
    tell("storage: a week of heartbeats")
    async with serve() as stack, open_pool(stack.settings) as pool:
        beats = [beat for unit in range(1, UNITS + 1) for beat in _week(unit)]
        beats.sort(key=lambda beat: beat.at)  # a fleet's heartbeats arrive mixed
        await Days(pool).ensure(beat.at for beat in beats)
        async with pool.transaction() as conn:
            here = await engine.present(conn)
            await heartbeats.append(conn, beats)
        async with await psycopg.AsyncConnection.connect(
            stack.database.url(Role.OWNER), autocommit=True, row_factory=dict_row
        ) as owner:
            fresh = await _weight(owner, here)
            while (await upkeep.keep(owner, Keeping(), now=now())).compressed:
                pass  # a chunk at a time
            await pack(stack.settings, Keeping(), now=now())
            resting = await _weight(owner, here)
    return [
        _figure("bytes", resting / len(beats), len(beats), GOALS[here]),
        _figure("bytes_fresh", fresh / len(beats), len(beats), None),
    ]


def _week(unit: int) -> Iterator[Heartbeat]:
    """Let one simulated unit live through the week."""
    start = (now() - AGE).replace(hour=0, minute=0, second=0, microsecond=0)
    start -= timedelta(days=(start - datetime(1970, 1, 1, tzinfo=UTC)).days % 7)  # where chunks begin
    battery = Battery(sky=Sky(seed=SEED, unit=str(unit)), charge=0.6)
    for seq in range(1, WEEK // EVERY + 1):
        at = start + (seq - 1) * EVERY + timedelta(seconds=unit % 900)
        battery.live_until(at, switched_on=True)
        yield Heartbeat(
            unit_id=unit,
            at=at,
            received_at=at + timedelta(milliseconds=700 + (unit * seq) % 900),
            unit_ts=int(at.timestamp()),
            life=1,
            boot=3,
            seq=seq,
            epoch=12,
            mode=Mode.ENABLED,
            output=not battery.lvd,
            fw="2.4.1",
            readings=battery.readings(at),
            fields={},
        )


async def _weight(conn: psycopg.AsyncConnection[dict[str, int]], here: Engine) -> int:
    found = await (await conn.execute(SIZES[here].encode())).fetchone()
    assert found is not None  # noqa: S101 - an aggregate gives one row
    return int(next(iter(found.values())))


def _figure(key: str, value: float, rows: int, goal: float | None) -> Figure:
    return Figure(
        key=f"storage.{key}", unit="bytes", runs=(value,), workload=WORKLOAD, n=rows, lost=0, goal=goal
    )
