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
from typing import Any, NamedTuple, TypeVar

from psycopg import adapters
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from pydantic_core import to_json

T = TypeVar("T")

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
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
    array_oid: int, element_oid: int, pack: Callable[[Any], bytes], fixed: Fixed | None = None
) -> Callable[[Iterable[Any]], Packed]:
    """Make the function for one type; `fixed` where every element has the same size."""
    kind = type(f"Packed{array_oid}", (Packed,), {"__slots__": ()})
    dumper = type(f"Dumper{array_oid}", (Dumper,), {"oid": array_oid, "format": Format.BINARY, "dump": _dump})
    adapters.register_dumper(kind, dumper)

    def column(elements: Iterable[Any]) -> Packed:
        values: Sequence[Any] = elements if isinstance(elements, list) else list(elements)
        if fixed is not None and None not in values:
            packed: Buffer = _spread(fixed.pack_all(values), fixed.size, len(values))
        else:
            packed = b"".join([NULL if value is None else _sized(pack(value)) for value in values])
        whole: Packed = kind(b"".join((_header(element_oid, len(values)), packed)), len(values))
        return whole

    return column


class Fixed(NamedTuple):
    """How elements of `size` bytes each are packed all at once, one behind the other."""

    size: int
    pack_all: Callable[[Sequence[Any]], bytes]


def _numbers(code: str) -> Fixed:
    """Pack what `struct` knows."""
    return Fixed(struct.calcsize(f"!{code}"), lambda values: struct.pack(f"!{len(values)}{code}", *values))


def _spread(packed: bytes, size: int, number: int) -> bytearray:
    """Put its length before each element: byte by byte of all of them, for a step per element costs more."""
    whole = 4 + size
    spread = bytearray(struct.pack("!i", size).ljust(whole, b"\0") * number)
    for place in range(size):
        spread[4 + place :: whole] = packed[place::size]
    return spread


def _sized(item: bytes) -> bytes:
    return len(item).to_bytes(4, "big") + item


def _dump(_dumper: Dumper, packed: Packed) -> Buffer:
    return packed.data


def _header(element_oid: int, length: int) -> bytes:
    if length == 0:
        return struct.pack("!iiI", 0, 0, element_oid)
    return struct.pack("!iiIii", 1, 1, element_oid, length, 1)


def microseconds(moment: datetime) -> int:
    """Give a moment as PostgreSQL counts it: microseconds since 2000."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _moment(moment: datetime) -> bytes:
    return struct.pack("!q", microseconds(moment))


def _moments(moments: Sequence[datetime]) -> bytes:
    # What arrived at one moment stands side by side, and shares it.
    last, count, counts = EPOCH, 0, []
    for moment in moments:
        if moment is not last:
            last, count = moment, microseconds(moment)
        counts.append(count)
    return struct.pack(f"!{len(counts)}q", *counts)


def _characters(values: Sequence[str]) -> bytes:
    packed = bytes(map(ord, values))
    if not packed.isascii():
        raise ValueError("a character of more than one byte")
    return packed


bools = _column(1000, 16, struct.Struct("!?").pack, _numbers("?"))
int2s = _column(1005, 21, struct.Struct("!h").pack, _numbers("h"))
int4s = _column(1007, 23, struct.Struct("!i").pack, _numbers("i"))
int8s = _column(1016, 20, struct.Struct("!q").pack, _numbers("q"))
timestamps = _column(1185, 1184, _moment, Fixed(8, _moments))
chars = _column(1002, 18, str.encode, Fixed(1, _characters))
texts = _column(1009, 25, str.encode)
byteas = _column(1001, 17, bytes)
uuids = _column(
    2951, 2950, lambda uuid: uuid.bytes, Fixed(16, lambda values: b"".join(v.bytes for v in values))
)
jsonbs = _column(3807, 3802, lambda value: b"\x01" + to_json(value))
