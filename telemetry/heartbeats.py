"""The heartbeats themselves: appended once, read as ranges, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from protocol.messages import Mode
from storage.sql import Connection, load, rows

REAL_READINGS = ("battery_v", "battery_a", "panel_v", "panel_a", "load_a", "soc_pct", "temp_c", "rssi_dbm")
FLAG_READINGS = ("tamper", "lvd")
NAMED_READINGS = (*REAL_READINGS, "energy_wh", *FLAG_READINGS)
REALS, COLUMNS = frozenset(REAL_READINGS), frozenset(NAMED_READINGS)

OLDEST_S = 45 * 86_400
"""A unit's time is plausible from so many seconds before arrival …"""

NEWEST_S = 600
"""… until so many after it."""

REAL_MIN, REAL_MAX = 1.1754944e-38, 3.4028234e38
"""What a `real` column holds, besides zero."""

CODES = {Mode.ENABLED: "e", Mode.DISABLED: "d", Mode.OFFLINE_DISABLED: "o"}
MODES = {code: mode for mode, code in CODES.items()}

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
        for heartbeat in heartbeats:
            await copy.write_row(_columns(heartbeat))


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


def _columns(heartbeat: Heartbeat) -> tuple[object, ...]:
    named: dict[str, object] = {}
    further: dict[str, object] = {}
    for name, value in heartbeat.readings.items():
        (named if name in COLUMNS and _fits(name, value) else further)[name] = value
    extra = {name: part for name, part in (("readings", further), ("fields", heartbeat.fields)) if part}
    return (
        heartbeat.at,
        heartbeat.received_at,
        heartbeat.unit_ts,
        heartbeat.unit_id,
        heartbeat.life,
        heartbeat.boot,
        heartbeat.seq,
        heartbeat.epoch,
        CODES[heartbeat.mode],
        heartbeat.output,
        heartbeat.fw,
        Jsonb(extra) if extra else None,
        *map(named.get, NAMED_READINGS),
    )


def _number(value: float) -> float:
    """Undo what JSON in the database does to large floats: it writes them out as integers."""
    return value if isinstance(value, bool) else float(value)


def _fits(name: str, value: float) -> bool:
    """Whether a column holds the value; one that does not is kept beside the columns."""
    return REAL_MIN <= value <= REAL_MAX or -REAL_MAX <= value <= -REAL_MIN or value == 0 or name not in REALS
