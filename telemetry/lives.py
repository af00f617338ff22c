"""The lives of a unit's memory, numbered in the order in which they were first heard.

A unit draws a new random `life` when its memory of `boot` is lost; the number itself has no
order, so heartbeats and statuses carry the ordinal. The caller holds the unit's status lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from storage.arrays import int4s, int8s
from storage.sql import Connection, execute, load, rows
from telemetry.status import Standing

SQL = load(__file__)


class Life(NamedTuple):
    """A life as the unit calls it."""

    unit_id: int
    life: int


class Ordinals:
    """The ordinals of the lives that a batch speaks of: most are those of the units' newest reports."""

    def __init__(self, standings: Mapping[int, Standing]) -> None:
        self._standings = standings
        self._others: Mapping[Life, int] = {}

    async def learn(self, conn: Connection, spoken: Iterable[Life], *, now: datetime) -> None:
        """Look up, or give, the ordinals of lives that are not those of newest reports."""
        # In the order of their arrival: that is the order of lives.
        unknown = dict.fromkeys(
            life for life in spoken if self._standings[life.unit_id].reported_life != life.life
        )
        if unknown:
            self._others = await ordinals(conn, unknown, now=now)

    def of(self, unit_id: int, life: int) -> int:
        """Give the ordinal of a life that was spoken of."""
        standing = self._standings[unit_id]
        if standing.reported_life == life and standing.life is not None:
            return standing.life
        return self._others[Life(unit_id, life)]


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
