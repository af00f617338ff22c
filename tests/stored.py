"""Heartbeats that are stored as they stand, and hours that are summed up now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

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

REFRESHING = """
SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate'
"""


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
            await refresh(owner)


async def refresh(owner: psycopg.AsyncConnection[Any]) -> None:
    """Do now what TimescaleDB's scheduler does every ten minutes: no more and no less."""
    [job] = await (await owner.execute(REFRESHING)).fetchall()
    await owner.execute("CALL run_job(%s)", job)
