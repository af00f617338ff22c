"""Heartbeats that are stored as they stand, and hours that are summed up now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import psycopg

from protocol.messages import Mode
from runtime import clock
from runtime.settings import Database
from storage import engine
from storage.engine import Engine
from storage.pool import Pool
from telemetry import heartbeats, upkeep
from telemetry.heartbeats import Heartbeat
from telemetry.partitions import Days


def a_beat(seq: int, at: datetime, *, unit_id: int = 1, **readings: float) -> Heartbeat:
    """Give a heartbeat."""
    return Heartbeat(
        unit_id=unit_id,
        at=at,
        received_at=at,
        unit_ts=None,
        life=1,
        boot=1,
        seq=seq,
        epoch=0,
        mode=Mode.ENABLED,
        output=None,
        fw=None,
        readings=dict(readings),
        fields={},
    )


async def store(pool: Pool, beats: Sequence[Heartbeat]) -> None:
    """Append heartbeats, their days made first."""
    await Days(pool).ensure(beat.at for beat in beats)
    async with pool.transaction() as conn:
        await heartbeats.append(conn, beats)


async def sum_up(pool: Pool, database: Database) -> None:
    """Do what the engine does by itself or has done by us."""
    done: int | None = 1
    while done:
        async with pool.transaction() as conn:
            here = await engine.present(conn)
            done = await upkeep.roll_up(conn, before=clock.now())
    if here is Engine.TIMESCALE:
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            await owner.execute("CALL refresh_continuous_aggregate('heartbeat_hourly', NULL, NULL)")
