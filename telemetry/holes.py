"""Which heartbeats are missing: numbers that a unit must have given and that were never heard.

Numbers begin at 1 in every boot, and a boot is known up to its newest heard: what a unit sent after
that, or in a boot of which nothing arrived, nobody can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow

from protocol.identity import Imei, SerialNumber
from registry.permissions import Scope, listed
from storage.arrays import int2s, int8s
from storage.sql import Connection, load, row, rows
from telemetry.missing import BOOTS
from telemetry.sequence import BLOCK_BITS

RANGES = 100
"""So many holes of a boot are told, the newest."""

SQL = load(__file__)
_HEARD = re.compile("1+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Missing numbers, both ends included; `since` is when the heartbeat before them stands.

    None when the hole begins the boot, or when that heartbeat is not kept any more.
    """

    first: int
    last: int
    since: datetime | None = None

    @property
    def count(self) -> int:
        """How many are missing here."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """A boot that lacks heartbeats; `holes` are the newest of `all_holes`, in the order of their numbers."""

    life: int
    boot: int
    newest: int
    heard: int
    holes: Sequence[Hole]
    all_holes: int

    @property
    def missing(self) -> int:
        """How many are missing in this boot."""
        return self.newest - self.heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """A unit that lacks heartbeats."""

    imei: Imei
    serial_number: SerialNumber
    missing: int
    boots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Boots that are only summed up, older than those that are told; `boot` is the newest of them."""

    life: int
    boot: int
    boots: int
    heard: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What was missing of many units when it was last counted, and the worst of them first.

    `counted_at` is None, and nothing is missing, before the first count.
    """

    counted_at: datetime | None
    missing: int
    boots: int
    units: int
    worst: Sequence[Lacking]


async def of_unit(conn: Connection, unit_id: int) -> list[Boot]:
    """Tell a unit's newest boots that lack heartbeats, the newest first."""
    found = await rows(conn, _boot, SQL.of_unit, unit_id=unit_id, limit=BOOTS)
    before = [
        (ordinal, boot.boot, hole.first - 1)
        for ordinal, boot in found
        for hole in boot.holes
        if hole.first > 1
    ]
    times = await _times(conn, unit_id, before) if before else {}
    return [_dated(ordinal, boot, times) for ordinal, boot in found]


async def past_of_unit(conn: Connection, unit_id: int) -> Past | None:
    """Tell what a unit lacks in the boots that are only summed up; None while there are none."""
    return await row(conn, lambda found: Past(**found), SQL.past_of_unit, unit_id=unit_id)


async def of_fleet(conn: Connection, scope: Scope, *, limit: int) -> Losses:
    """Give the sums of a scope as last counted, and the units that lack most."""
    within = listed(scope)
    if within is None:
        sums = await row(conn, dict, SQL.fleet)
    else:
        sums = await row(conn, dict, SQL.scope, scope=within)
    assert sums is not None  # noqa: S101 - the migration makes the fleet's row, and sums always are one
    worst = await rows(
        conn,
        lambda found: Lacking(
            imei=Imei(found["imei"]),
            serial_number=SerialNumber(found["serial_number"]),
            missing=found["missing"],
            boots=found["boots"],
        ),
        SQL.worst,
        scope=within,
        limit=limit,
    )
    return Losses(**sums, worst=worst)


def between(blocks: Iterable[tuple[int, bytes]]) -> list[Hole]:
    """Find what is missing between 1 and the newest heard; blocks in rising order, absent ones unheard."""
    holes, awaited = [], 1
    for block, bits in blocks:
        start = block * BLOCK_BITS
        # The lowest bit is the first number: written the other way round, places are numbers.
        told = format(int.from_bytes(bits, "little"), "b")[::-1]
        for run in _HEARD.finditer(told):
            if start + run.start() > awaited:
                holes.append(Hole(first=awaited, last=start + run.start() - 1))
            awaited = start + run.end()
    return holes


def _boot(row: DictRow) -> tuple[int, Boot]:
    """Build a boot, with the ordinal of its life."""
    holes = between(zip(row["blocks"], row["bits"], strict=True))
    return row["ordinal"], Boot(
        life=row["life"],
        boot=row["boot"],
        newest=row["newest"],
        heard=row["heard"],
        holes=holes[-RANGES:],
        all_holes=len(holes),
    )


async def _times(
    conn: Connection, unit_id: int, beats: list[tuple[int, int, int]]
) -> dict[tuple[int, int, int], datetime]:
    lives, boots, seqs = zip(*beats, strict=True)
    found = await rows(
        conn,
        lambda row: ((row["life"], row["boot"], row["seq"]), row["at"]),
        SQL.heard_at,
        unit_id=unit_id,
        lives=int2s(lives),
        boots=int8s(boots),
        seqs=int8s(seqs),
    )
    return dict(found)


def _dated(ordinal: int, boot: Boot, times: dict[tuple[int, int, int], Any]) -> Boot:
    return Boot(
        life=boot.life,
        boot=boot.boot,
        newest=boot.newest,
        heard=boot.heard,
        holes=[
            Hole(first=hole.first, last=hole.last, since=times.get((ordinal, boot.boot, hole.first - 1)))
            for hole in boot.holes
        ],
        all_holes=boot.all_holes,
    )
