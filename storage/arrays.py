"""Lists as PostgreSQL's binary arrays, for statements that take thousands of rows at once (`unnest`).

The driver adapts a list element by element, through Python; for a batch of 5,000 rows that was
most of the gateway's work. Here a list of one known type is packed in one go. Each function
takes the elements of one column and gives a parameter of that array's type; None is NULL.
`jsonbs` takes any value that JSON can say.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from psycopg import adapters
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from pydantic_core import to_json

T = TypeVar("T")

EPOCH_US = round(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""PostgreSQL counts its microseconds from here."""

NULL = struct.pack("!i", -1)


class Packed:
    """An array in its binary form; its subclasses tell the database's type."""

    __slots__ = ("data", "length")

    def __init__(self, data: bytes, length: int) -> None:
        self.data = data
        self.length = length

    def __len__(self) -> int:
        """Count the elements."""
        return self.length


def _column(
    array_oid: int, element_oid: int, pack: Callable[[Any], bytes], size: int | None = None
) -> Callable[[Iterable[Any]], Packed]:
    """Make the function for one type; `size` in bytes where every element has the same."""
    kind = type(f"Packed{array_oid}", (Packed,), {"__slots__": ()})
    dumper = type(f"Dumper{array_oid}", (Dumper,), {"oid": array_oid, "format": Format.BINARY, "dump": _dump})
    adapters.register_dumper(kind, dumper)
    head = None if size is None else struct.pack("!i", size)

    def column(elements: Iterable[Any]) -> Packed:
        values: Sequence[Any] = elements if isinstance(elements, list) else list(elements)
        if head is not None:
            parts = [NULL if value is None else head + pack(value) for value in values]
        else:
            packed = [None if value is None else pack(value) for value in values]
            parts = [NULL if item is None else len(item).to_bytes(4, "big") + item for item in packed]
        packed_array: Packed = kind(_header(element_oid, len(values)) + b"".join(parts), len(values))
        return packed_array

    return column


def _dump(_dumper: Dumper, packed: Packed) -> Buffer:
    return packed.data


def _header(element_oid: int, length: int) -> bytes:
    if length == 0:
        return struct.pack("!iiI", 0, 0, element_oid)
    return struct.pack("!iiIii", 1, 1, element_oid, length, 1)


def microseconds(moment: datetime) -> int:
    """Give a moment as PostgreSQL counts it: microseconds since 2000.

    A float of seconds tells microseconds apart until the year 2242, and is read fastest.
    """
    return round(moment.timestamp() * 1e6) - EPOCH_US


def _moment(moment: datetime) -> bytes:
    return struct.pack("!q", microseconds(moment))


bools = _column(1000, 16, struct.Struct("!?").pack, 1)
int2s = _column(1005, 21, struct.Struct("!h").pack, 2)
int4s = _column(1007, 23, struct.Struct("!i").pack, 4)
int8s = _column(1016, 20, struct.Struct("!q").pack, 8)
timestamps = _column(1185, 1184, _moment, 8)
chars = _column(1002, 18, str.encode, 1)
texts = _column(1009, 25, str.encode)
byteas = _column(1001, 17, bytes)
uuids = _column(2951, 2950, lambda uuid: uuid.bytes, 16)
jsonbs = _column(3807, 3802, lambda value: b"\x01" + to_json(value))
