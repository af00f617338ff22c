"""Heartbeats as rows of PostgreSQL's binary COPY: what thousands a second are written as.

The driver formats a row column by column, through Python for each moment; here the columns that
are always there are packed at once. The order of fields is that of `append` in heartbeats.sql.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic_core import to_json

from protocol.messages import Mode
from storage.arrays import NULL, microseconds

SHORT_READINGS = ("battery_v", "battery_a", "panel_v", "panel_a", "load_a", "soc_pct", "temp_c", "rssi_dbm")
FLAG_READINGS = ("tamper", "lvd")
SCALED_READINGS = (*SHORT_READINGS, "energy_wh")
NAMED_READINGS = (*SCALED_READINGS, *FLAG_READINGS)
COLUMNS = frozenset(NAMED_READINGS)

SCALE = 100
"""Columns hold readings in hundredths, whole; what is finer or larger stands beside them in full."""

SHORT_MAX, LONG_MAX = 2**15 - 1, 2**53
"""The most hundredths that a column of `SHORT_READINGS` and that of `energy_wh` takes, up or down."""

CODES = {Mode.ENABLED: b"e", Mode.DISABLED: b"d", Mode.OFFLINE_DISABLED: b"o"}

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = struct.pack("!h", -1)
FIELDS = 12 + len(NAMED_READINGS)

_NAMES = struct.Struct("!hiqiqiqiiihiqiqiqic").pack
_WITHOUT_TS = struct.Struct("!hiqiqiiiihiqiqiqic").pack
_INT8 = struct.Struct("!iq").pack
_SHORT = struct.Struct("!ih").pack
_BOOLS = {None: NULL, False: b"\0\0\0\1\0", True: b"\0\0\0\1\1"}
_NO_ENERGY_NO_FLAGS = NULL * (1 + len(FLAG_READINGS))
_TEXT = struct.Struct("!i").pack
_told_by_shorts = frozenset(SHORT_READINGS).issuperset
# What came at one moment, and what units say of one second, bears the same object.
_microseconds = lru_cache(maxsize=4096)(microseconds)


class _Shorts(dict[float | None, bytes]):
    """How readings stand in a column of `SHORT_READINGS`, remembered: never more than it can hold.

    `KeyError` for a reading that it does not tell in full.
    """

    def __missing__(self, value: float) -> bytes:
        number = _hundredths(value, SHORT_MAX)
        if number is None or number / SCALE != value:
            raise KeyError(value)
        self[value] = packed = _SHORT(2, number)
        return packed


_short = _Shorts({None: NULL}).__getitem__

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
    arrived, at = _microseconds(received), _microseconds(placed)
    code = CODES[mode]
    names = (
        _WITHOUT_TS(FIELDS, 8, at, 8, arrived, -1, 4, unit_id, 2, life, 8, boot, 8, seq, 8, epoch, 1, code)
        if ts is None or at != arrived  # then `at` is the unit's own time
        else _NAMES(FIELDS, 8, at, 8, arrived, 8, ts, 4, unit_id, 2, life, 8, boot, 8, seq, 8, epoch, 1, code)
    )
    measured, further = _measured(readings)
    return (
        names
        + _BOOLS[output]
        + (NULL if fw is None else _text(fw.encode()))
        + (_extra(further, fields) if further or fields else NULL)
        + measured
    )


def _measured(readings: Mapping[str, float | bool]) -> tuple[bytes, Mapping[str, float | bool]]:
    """Pack the named readings; gives beside them those that their columns do not tell in full."""
    try:
        packed = b"".join(map(_short, map(readings.get, SHORT_READINGS)))
        if _told_by_shorts(readings):
            return packed + _NO_ENERGY_NO_FLAGS, {}
    except KeyError:
        shorts = (_hundredths(readings.get(name), SHORT_MAX) for name in SHORT_READINGS)
        packed = b"".join(NULL if number is None else _SHORT(2, number) for number in shorts)
    energy = _hundredths(readings.get("energy_wh"), LONG_MAX)
    packed += NULL if energy is None else _INT8(8, energy)
    packed += b"".join(_BOOLS[readings.get(name)] for name in FLAG_READINGS)  # type: ignore[index]
    return packed, {name: value for name, value in readings.items() if not _told(name, value)}


def _hundredths(value: float | None, most: int) -> int | None:
    """Give what a column holds of a reading; None when that is nothing."""
    if value is None or not -most <= value * SCALE <= most:
        return None
    return round(value * SCALE)


def _told(name: str, value: float) -> bool:
    """Whether a column tells this reading in full."""
    if name in FLAG_READINGS:
        return True
    most = LONG_MAX if name == "energy_wh" else SHORT_MAX
    number = _hundredths(value, most) if name in COLUMNS else None
    return number is not None and number / SCALE == value


def _extra(further: Mapping[str, float | bool], fields: Mapping[str, Any]) -> bytes:
    extra = {name: part for name, part in (("readings", further), ("fields", fields)) if part}
    return _text(b"\x01" + to_json(extra))


def _text(encoded: bytes) -> bytes:
    return _TEXT(len(encoded)) + encoded
