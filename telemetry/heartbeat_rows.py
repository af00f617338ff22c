"""Heartbeats as rows of PostgreSQL's binary COPY: what thousands a second are written as.

The driver formats a row column by column, through Python for each moment; here the columns that
are always there are packed at once. The order of fields is that of `append` in heartbeats.sql.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

from pydantic_core import to_json

from protocol.messages import Mode
from storage.arrays import NULL, microseconds

REAL_READINGS = ("battery_v", "battery_a", "panel_v", "panel_a", "load_a", "soc_pct", "temp_c", "rssi_dbm")
FLAG_READINGS = ("tamper", "lvd")
NAMED_READINGS = (*REAL_READINGS, "energy_wh", *FLAG_READINGS)
COLUMNS = frozenset(NAMED_READINGS)

REAL_MIN, REAL_MAX = 1.1754944e-38, 3.4028234e38
"""What a `real` column holds, besides zero. `energy_wh` could hold more, but no sum or mean of it could."""

CODES = {Mode.ENABLED: b"e", Mode.DISABLED: b"d", Mode.OFFLINE_DISABLED: b"o"}

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = struct.pack("!h", -1)
FIELDS = 12 + len(NAMED_READINGS)

_NAMES = struct.Struct("!hiqiqiqiiihiqiqiqic").pack
_WITHOUT_TS = struct.Struct("!hiqiqiiiihiqiqiqic").pack
_REAL = struct.Struct("!if").pack
_REALS = struct.Struct("!" + "if" * len(REAL_READINGS)).pack
_DOUBLE = struct.Struct("!id").pack
_BOOLS = {None: NULL, False: b"\0\0\0\1\0", True: b"\0\0\0\1\1"}
_NO_FLAGS = NULL * len(FLAG_READINGS)
_TEXT = struct.Struct("!i").pack
_all_reals = itemgetter(*REAL_READINGS)


Beat = tuple[
    int,
    datetime,
    datetime,
    int | None,
    int,
    int,
    int,
    int,
    Mode,
    bool | None,
    str | None,
    Mapping[str, float | bool],
    Mapping[str, Any],
]
"""A heartbeat as `telemetry.heartbeats.Heartbeat` orders its fields."""


def copied(heartbeats: Iterable[Beat]) -> bytes:
    """Give the whole stream for one COPY."""
    return b"".join((HEADER, *map(_row, heartbeats), TRAILER))


def _row(beat: Beat) -> bytes:
    # Taken apart at once: asking for its parts by name costs more than packing them.
    unit_id, placed, received, ts, life, boot, seq, epoch, mode, output, fw, readings, fields = beat
    arrived = microseconds(received)
    at = arrived if placed is received else microseconds(placed)
    code = CODES[mode]
    names = (
        _WITHOUT_TS(FIELDS, 8, at, 8, arrived, -1, 4, unit_id, 2, life, 8, boot, 8, seq, 8, epoch, 1, code)
        if ts is None
        else _NAMES(FIELDS, 8, at, 8, arrived, 8, ts, 4, unit_id, 2, life, 8, boot, 8, seq, 8, epoch, 1, code)
    )
    further = None
    if not (readings.keys() <= COLUMNS and _all_fit(readings.values())):
        further = {name: value for name, value in readings.items() if not _has_column(name, value)}
        readings = {name: value for name, value in readings.items() if name not in further}
    return (
        names
        + _BOOLS[output]
        + (NULL if fw is None else _text(fw.encode()))
        + (_extra(further, fields) if further or fields else NULL)
        + _measured(readings)
    )


def _measured(readings: Mapping[str, float | bool]) -> bytes:
    """Pack the named readings; all the reals are there in most heartbeats."""
    get = readings.get
    try:
        v1, v2, v3, v4, v5, v6, v7, v8 = _all_reals(readings)
        packed = _REALS(4, v1, 4, v2, 4, v3, 4, v4, 4, v5, 4, v6, 4, v7, 4, v8)
    except KeyError:
        reals = map(get, REAL_READINGS)
        packed = b"".join(NULL if value is None else _REAL(4, value) for value in reals)
    energy = get("energy_wh")
    packed += NULL if energy is None else _DOUBLE(8, energy)
    if "tamper" in readings or "lvd" in readings:
        return packed + b"".join(_BOOLS[get(name)] for name in FLAG_READINGS)  # type: ignore[index]
    return packed + _NO_FLAGS


def _extra(further: Mapping[str, float | bool] | None, fields: Mapping[str, Any]) -> bytes:
    extra = {name: part for name, part in (("readings", further), ("fields", fields)) if part}
    return _text(b"\x01" + to_json(extra))


def _text(encoded: bytes) -> bytes:
    return _TEXT(len(encoded)) + encoded


def _all_fit(values: Iterable[float]) -> bool:
    """Whether every column holds its value: a loop without calls, for it is run over all that is measured."""
    for value in values:
        if not (REAL_MIN <= value <= REAL_MAX or value == 0 or -REAL_MAX <= value <= -REAL_MIN):
            return False
    return True


def _has_column(name: str, value: float) -> bool:
    return name in COLUMNS and _fits(value)


def _fits(value: float) -> bool:
    """Whether a column holds the value; one that does not is kept beside the columns."""
    return REAL_MIN <= value <= REAL_MAX or -REAL_MAX <= value <= -REAL_MIN or value == 0
