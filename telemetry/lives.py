"""The lives of a unit's memory, numbered in the order in which they were first heard.

A unit draws a new random `life` when its memory of `boot` is lost; the number itself has no
order, so heartbeats and statuses carry the ordinal. A number whose unit lost its memory without
drawing a new one stands for several lives: the newest of them counts, those before are over. The
caller holds the unit's status lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from storage.arrays import int4s, int8s
from storage.sql import Connection, execute, load, row, rows
from telemetry import status
from telemetry.status import Standing

MOST = 1_000
"""So many lives of a unit are told apart: who draws more draws one with every message."""

UNCOUNTED = 0
"""The ordinal of a life beyond those that are told apart."""

SQL = load(__file__)


class Life(NamedTuple):
    """A life as the unit calls it."""

    unit_id: int
    life: int


class Began(NamedTuple):
    """A life with its ordinal, and when it was first heard or begun."""

    ordinal: int
    life: int
    first_heard_at: datetime


class Ordinals:
    """The ordinals of the lives that a batch speaks of: most are those of the units' newest reports."""

    def __init__(self, standings: Mapping[int, Standing]) -> None:
        self._standings = standings
        self._others: Mapping[Life, int] = {}
        self.complete = True
        """Whether every life that was spoken of has its ordinal."""

    async def learn(self, conn: Connection, spoken: Iterable[Life], *, now: datetime) -> None:
        """Look up, or give, the ordinals of lives that are not those of newest reports."""
        # In the order of their arrival: that is the order of lives.
        unknown = dict.fromkeys(
            life for life in spoken if self._standings[life.unit_id].reported_life != life.life
        )
        if unknown:
            self._others = await ordinals(conn, unknown, now=now)
            self.complete = len(self._others) == len(unknown)

    def of(self, unit_id: int, life: int) -> int:
        """Give the ordinal of a life that was spoken of; `UNCOUNTED` when its unit has had too many."""
        standing = self._standings[unit_id]
        if standing.reported_life == life and standing.life is not None:
            return standing.life
        return self._others.get(Life(unit_id, life), UNCOUNTED)


async def ordinals(conn: Connection, lives: Iterable[Life], *, now: datetime) -> dict[Life, int]:
    """Give the ordinal of each life; one not heard before gets its unit's next, while there are any."""
    wanted = list(dict.fromkeys(lives))
    known = await _known(conn, wanted)
    new = [life for life in wanted if life not in known]
    if new:
        await _add(conn, new, now=now)
        known |= await _known(conn, new)
    return known


async def begin_anew(conn: Connection, lives: Collection[Life], *, now: datetime) -> None:
    """Begin a later life of the same number for each of these; the units have room for them."""
    await _add(conn, lives, now=now)
    await status.end_life(conn, lives)


async def counts(conn: Connection, unit_ids: Sequence[int]) -> dict[int, int]:
    """Tell how many lives each unit has had; the next ordinal is one more."""
    found = await rows(
        conn, lambda row: (row["unit_id"], row["ordinal"]), SQL.counts, unit_ids=int4s(unit_ids)
    )
    return dict(found)


async def latest(conn: Connection, unit_id: int, ordinal: int) -> Began | None:
    """Give the newest life that bears the same number as one of the unit's."""
    return await row(conn, lambda found: Began(**found), SQL.latest, unit_id=unit_id, ordinal=ordinal)


async def _add(conn: Connection, lives: Collection[Life], *, now: datetime) -> None:
    await execute(
        conn,
        SQL.add,
        unit_ids=int4s([life.unit_id for life in lives]),
        lives=int8s([life.life for life in lives]),
        most=MOST,
        now=now,
    )


async def _known(conn: Connection, lives: list[Life]) -> dict[Life, int]:
    found = await rows(
        conn,
        lambda row: (Life(row["unit_id"], row["life"]), row["ordinal"]),
        SQL.known,
        unit_ids=int4s([life.unit_id for life in lives]),
        lives=int8s([life.life for life in lives]),
    )
    return dict(found)
