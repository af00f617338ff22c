"""The lives of a unit's memory, numbered in the order in which they were first heard.

A unit draws a new random `life` when its memory of `boot` is lost; the number itself has no
order, so heartbeats and statuses carry the ordinal. The caller holds the unit's status lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from storage.arrays import int4s, int8s
from storage.sql import Connection, execute, load, rows

SQL = load(__file__)


class Life(NamedTuple):
    """A life as the unit calls it."""

    unit_id: int
    life: int


async def ordinals(conn: Connection, lives: Iterable[Life], *, now: datetime) -> dict[Life, int]:
    """Give the ordinal of each life; one not heard before gets its unit's next."""
    wanted = list(dict.fromkeys(lives))
    known = await _known(conn, wanted)
    new = [life for life in wanted if life not in known]
    if new:
        await execute(
            conn,
            SQL.add,
            unit_ids=int4s([life.unit_id for life in new]),
            lives=int8s([life.life for life in new]),
            now=now,
        )
        known |= await _known(conn, new)
    return known


async def _known(conn: Connection, lives: list[Life]) -> dict[Life, int]:
    found = await rows(
        conn,
        lambda row: (Life(row["unit_id"], row["life"]), row["ordinal"]),
        SQL.known,
        unit_ids=int4s([life.unit_id for life in lives]),
        lives=int8s([life.life for life in lives]),
    )
    return dict(found)
