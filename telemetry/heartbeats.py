"""The heartbeats themselves: appended once, read as ranges, never changed."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from psycopg.rows import DictRow

from protocol.messages import Mode
from storage.arrays import int2s, int4s, int8s, timestamps
from storage.pool import Pool
from storage.sql import Connection, execute, load, rows, value
from telemetry import heartbeat_rows
from telemetry.heartbeat_rows import FLAG_READINGS, SCALE, SCALED_READINGS, copied

OLDEST_S = 45 * 86_400
"""A unit's time is plausible from so many seconds before arrival …"""

NEWEST_S = 600
"""… until so many after it."""

COPIES_REACH_BACK = timedelta(seconds=OLDEST_S) + timedelta(days=14)
"""So far before a copy's arrival its original may stand: what waited longer has expired at the broker."""

BATCH = 500
"""Heartbeats read in one transaction by who reads them all."""

MODES = {code.decode(): mode for mode, code in heartbeat_rows.CODES.items()}
CODES = {mode: code for code, mode in MODES.items()}

SQL = load(__file__)


class Heartbeat(NamedTuple):
    """One stored heartbeat; a tuple, because the gateway makes thousands a second.

    `at` orders charts, `received_at` is the backend's clock, `unit_ts` the unit's (seconds since
    1970 as sent, None when absent). `life` is the ordinal of the unit's life. `readings` in SI
    units by name; `extra` holds what has no column: further readings under `readings`, unknown
    fields under `fields`.
    """

    unit_id: int
    at: datetime
    received_at: datetime
    unit_ts: int | None
    life: int
    boot: int
    seq: int
    epoch: int
    mode: Mode
    output: bool | None
    fw: str | None
    readings: dict[str, float | bool]
    fields: dict[str, Any]

    @property
    def order(self) -> tuple[int, int, int]:
        """What makes one newer than another: life, boot, seq; a slice, for each that arrives is asked."""
        order: tuple[int, int, int] = self[4:7]
        return order

    @classmethod
    def from_row(cls, row: DictRow) -> Heartbeat:
        """Build from a row of `heartbeat`."""
        fields = (row["extra"] or {}).get("fields", {})
        return cls(
            **{name: row[name] for name in ("unit_id", "at", "received_at", "life", "boot", "seq", "epoch")},
            unit_ts=_unit_ts(row),
            mode=MODES[row["mode"]],
            output=row["output"],
            fw=row["fw"],
            readings=taken_readings(row),
            fields=fields,
        )


def taken_readings(row: DictRow) -> dict[str, float | bool]:
    """Take the readings out of a row of `heartbeat`, out of columns and `extra` alike."""
    extra = row.pop("extra") or {}
    scaled = {name: row.pop(f"{name}_x100") for name in SCALED_READINGS}
    flags = {name: row.pop(name) for name in FLAG_READINGS}
    return (
        {name: number / SCALE for name, number in scaled.items() if number is not None}
        | {name: flag for name, flag in flags.items() if flag is not None}
        | {name: _number(value) for name, value in extra.get("readings", {}).items()}
    )


def placed_at(unit_ts: int | None, received_at: datetime) -> datetime:
    """Give the moment at which a heartbeat stands in charts: the unit's where plausible."""
    if unit_ts is None or not -OLDEST_S <= unit_ts - _seconds(received_at) <= NEWEST_S:
        return received_at
    return _moment(unit_ts)


# Units that speak now speak of the same seconds, and what came at one moment bears the same object.
_seconds = lru_cache(maxsize=1024)(datetime.timestamp)


@lru_cache(maxsize=4096)
def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def append(conn: Connection, heartbeats: Sequence[Heartbeat]) -> None:
    """Store heartbeats that are known to be new; their days have partitions.

    The hours of late ones are noted. The moment from which on one is late stands still until the
    transaction ends.
    """
    async with conn.cursor() as cursor, cursor.copy(SQL.append) as copy:
        await copy.write(copied(heartbeats))
    noted_before = await value(conn, SQL.noted_before)
    if noted_before is None:
        return
    late = {(beat.unit_id, _hour(beat.at)) for beat in heartbeats if beat.at < noted_before}
    if late:
        unit_ids, hours = zip(*sorted(late), strict=True)
        await execute(conn, SQL.note, unit_ids=int4s(unit_ids), hours=timestamps(hours))


async def of_unit(
    conn: Connection,
    unit_id: int,
    *,
    since: datetime,
    until: datetime,
    limit: int,
    before: tuple[datetime, int, int, int] | None = None,
) -> list[Heartbeat]:
    """List a unit's heartbeats with since ≤ at < until, newest first.

    `before` is (at, life, boot, seq) of the last one of the page before.
    """
    at, life, boot, seq = before or (until, 0, 0, 0)
    return await rows(
        conn,
        Heartbeat.from_row,
        SQL.of_unit,
        unit_id=unit_id,
        since=since,
        until=until,
        at=at,
        life=life,
        boot=boot,
        seq=seq,
        limit=limit,
    )


async def copies(conn: Connection, beats: Sequence[Heartbeat]) -> list[bool]:
    """Tell which heartbeats, in order, are stored already under their name and say the same.

    Two that bear one name and differ are not one delivered twice. Unknown fields are not compared.
    One whose stored original is gone is no copy: nothing waits so long on its way.
    """
    since = min(beat.received_at for beat in beats) - COPIES_REACH_BACK
    found = await rows(
        conn,
        Heartbeat.from_row,
        SQL.named,
        since=since,
        unit_ids=int4s([beat.unit_id for beat in beats]),
        lives=int2s([beat.life for beat in beats]),
        boots=int8s([beat.boot for beat in beats]),
        seqs=int8s([beat.seq for beat in beats]),
    )
    stored = {(beat.unit_id, *beat.order): beat for beat in found}
    return [
        (other := stored.get((beat.unit_id, *beat.order))) is not None and say_the_same(beat, other)
        for beat in beats
    ]


def say_the_same(one: Heartbeat, other: Heartbeat) -> bool:
    """Compare what two heartbeats tell; columns keep about seven digits of a reading.

    In a backlog no firmware is told: what one of them does not say is no difference.
    """
    return (
        (one.unit_ts, one.epoch, one.mode, one.output)
        == (other.unit_ts, other.epoch, other.mode, other.output)
        and (one.fw == other.fw or None in {one.fw, other.fw})
        and one.readings.keys() == other.readings.keys()
        and all(
            math.isclose(value, other.readings[name], rel_tol=1e-6) for name, value in one.readings.items()
        )
    )


async def onwards(
    pool: Pool, unit_id: int, *, since: datetime, until: datetime
) -> AsyncIterator[list[Heartbeat]]:
    """Give all of a unit's heartbeats with since ≤ at < until, oldest first, in batches.

    Each batch is a transaction of its own that is over when the batch is given: who takes long
    over it holds nothing in the database.
    """
    at, life, boot, seq = since, -1, 0, 0
    more = True
    while more:
        async with pool.transaction() as conn:
            batch = await rows(
                conn,
                Heartbeat.from_row,
                SQL.onwards,
                unit_id=unit_id,
                until=until,
                at=at,
                life=life,
                boot=boot,
                seq=seq,
                limit=BATCH,
            )
        if batch:
            yield batch
            at, life, boot, seq = batch[-1].at, batch[-1].life, batch[-1].boot, batch[-1].seq
        more = len(batch) == BATCH


def _unit_ts(row: DictRow) -> int | None:
    """Give what the unit's clock said: it stands in `at` where it is plausible."""
    told = row["at"] != row["received_at"]
    unit_ts: int | None = round(row["at"].timestamp()) if told else row["unit_ts"]
    return unit_ts


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _number(value: float) -> float:
    """Undo what JSON in the database does to large floats: it writes them out as integers."""
    return value if isinstance(value, bool) else float(value)
