"""The heartbeats themselves: appended once, read as ranges, never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg.rows import DictRow

from protocol.messages import Mode
from storage.pool import Pool
from storage.sql import Connection, load, rows
from telemetry import heartbeat_rows
from telemetry.heartbeat_rows import NAMED_READINGS, copied

OLDEST_S = 45 * 86_400
"""A unit's time is plausible from so many seconds before arrival …"""

NEWEST_S = 600
"""… until so many after it."""

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

    @classmethod
    def from_row(cls, row: DictRow) -> Heartbeat:
        """Build from a row of `heartbeat`."""
        extra = row["extra"] or {}
        named = {name: row[name] for name in NAMED_READINGS if row[name] is not None}
        return cls(
            **{
                name: row[name]
                for name in ("unit_id", "at", "received_at", "unit_ts", "life", "boot", "seq", "epoch")
            },
            mode=MODES[row["mode"]],
            output=row["output"],
            fw=row["fw"],
            readings=named | {name: _number(value) for name, value in extra.get("readings", {}).items()},
            fields=extra.get("fields", {}),
        )


def placed_at(unit_ts: int | None, received_at: datetime) -> datetime:
    """Give the moment at which a heartbeat stands in charts: the unit's where plausible."""
    if unit_ts is None or not -OLDEST_S <= unit_ts - received_at.timestamp() <= NEWEST_S:
        return received_at
    return datetime.fromtimestamp(unit_ts, UTC)


async def append(conn: Connection, heartbeats: Iterable[Heartbeat]) -> None:
    """Store heartbeats that are known to be new; their days have partitions."""
    async with conn.cursor() as cursor, cursor.copy(SQL.append) as copy:
        await copy.write(copied(heartbeats))


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


def _number(value: float) -> float:
    """Undo what JSON in the database does to large floats: it writes them out as integers."""
    return value if isinstance(value, bool) else float(value)
