"""Heartbeats as rows of PostgreSQL's binary COPY: what thousands a second are written as.

The driver formats a row column by column, through Python for each moment; here the columns that
are always there are packed at once. The order of fields is that of `append` in heartbeats.sql.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from pydantic_core import to_json

from protocol.messages import Mode
from storage.arrays import NULL, microseconds

REAL_READINGS = ("battery_v", "battery_a", "panel_v", "panel_a", "load_a", "soc_pct", "temp_c", "rssi_dbm")
FLAG_READINGS = ("tamper", "lvd")
NAMED_READINGS = (*REAL_READINGS, "energy_wh", *FLAG_READINGS)
COLUMNS, REALS = frozenset(NAMED_READINGS), frozenset(REAL_READINGS)

REAL_MIN, REAL_MAX = 1.1754944e-38, 3.4028234e38
"""What a `real` column holds, besides zero."""

SUMMABLE = 1e290
"""Beyond it the sum of an hour could leave the range of numbers, and stop the hours of every unit."""

CODES = {Mode.ENABLED: b"e", Mode.DISABLED: b"d", Mode.OFFLINE_DISABLED: b"o"}

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = struct.pack("!h", -1)
FIELDS = 12 + len(NAMED_READINGS)

_MOMENTS = struct.Struct("!hiqiq").pack
_INT8 = struct.Struct("!iq").pack
_NAMES = struct.Struct("!iiihiqiqiqic").pack
_REAL = struct.Struct("!if").pack
_REALS = struct.Struct("!" + "if" * len(REAL_READINGS)).pack
_DOUBLE = struct.Struct("!id").pack
_BOOLS = {None: NULL, False: b"\0\0\0\1\0", True: b"\0\0\0\1\1"}
_NO_FLAGS = NULL * len(FLAG_READINGS)


class Beat(Protocol):
    """What a row needs of a heartbeat."""

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


def copied(heartbeats: Iterable[Any]) -> bytes:
    """Give the whole stream for one COPY."""
    return b"".join((HEADER, *map(_row, heartbeats), TRAILER))


def _row(beat: Beat) -> bytes:
    arrived = microseconds(beat.received_at)
    at = arrived if beat.at is beat.received_at else microseconds(beat.at)
    ts, mode = beat.unit_ts, CODES[beat.mode]
    readings, further = beat.readings, None
    if not (readings.keys() <= COLUMNS and all(map(_fits, readings, readings.values()))):
        further = {name: value for name, value in readings.items() if not _has_column(name, value)}
        readings = {name: value for name, value in readings.items() if name not in further}
    return b"".join(
        (
            _MOMENTS(FIELDS, 8, at, 8, arrived),
            NULL if ts is None else _INT8(8, ts),
            _NAMES(4, beat.unit_id, 2, beat.life, 8, beat.boot, 8, beat.seq, 8, beat.epoch, 1, mode),
            _BOOLS[beat.output],
            NULL if beat.fw is None else _text(beat.fw.encode()),
            _extra(further, beat.fields),
            _measured(readings),
        )
    )


def _measured(readings: Mapping[str, float | bool]) -> bytes:
    """Pack the named readings; all the reals are there in most heartbeats."""
    get = readings.get
    reals = [get(name) for name in REAL_READINGS]
    if None in reals:
        packed = b"".join(NULL if value is None else _REAL(4, value) for value in reals)
    else:
        v1, v2, v3, v4, v5, v6, v7, v8 = reals
        packed = _REALS(4, v1, 4, v2, 4, v3, 4, v4, 4, v5, 4, v6, 4, v7, 4, v8)
    energy = get("energy_wh")
    packed += NULL if energy is None else _DOUBLE(8, energy)
    if "tamper" in readings or "lvd" in readings:
        return packed + b"".join(_BOOLS[get(name)] for name in FLAG_READINGS)  # type: ignore[index]
    return packed + _NO_FLAGS


def _extra(further: Mapping[str, float | bool] | None, fields: Mapping[str, Any]) -> bytes:
    extra = {name: part for name, part in (("readings", further), ("fields", fields)) if part}
    return _text(b"\x01" + to_json(extra)) if extra else NULL


def _text(encoded: bytes) -> bytes:
    return len(encoded).to_bytes(4, "big") + encoded


def _has_column(name: str, value: float) -> bool:
    return name in COLUMNS and _fits(name, value)


def _fits(name: str, value: float) -> bool:
    """Whether a column holds the value; one that does not is kept beside the columns."""
    if REAL_MIN <= value <= REAL_MAX or -REAL_MAX <= value <= -REAL_MIN or value == 0:
        return True
    return name not in REALS and -SUMMABLE <= value <= SUMMABLE
