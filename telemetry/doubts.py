"""Live heartbeats that are older than the newest of their unit: a memory that was lost, or two units in turn.

A unit that speaks now speaks of now. So a live heartbeat of an older boot or life, or under a number
that said something else before, means that the unit counts anew, or that another unit counts beside
it. Which of the two is told by what comes between: nothing of the newest, and the older boot is
where the unit is; the newest as well, and there are two. What may have waited at the broker proves
nothing, and neither does a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from json import loads
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from storage.arrays import int2s, int4s, int8s, texts, timestamps
from storage.sql import Connection, execute, load, tuples
from telemetry.heartbeats import Heartbeat

NEEDED = 3
"""So many live heartbeats of rising number in an older boot, none of the newest between, begin a new life."""

TURNS = 2
"""An older boot that is gone back to so often, with the newest heard between, is another unit's."""

WINDOW = timedelta(days=7)
"""What lies further apart has nothing to do with each other."""

SQL = load(__file__)

Order = tuple[int, int, int]
"""How new a heartbeat is: life (the ordinal), boot, seq."""


class Held(NamedTuple):
    """A heartbeat that may turn out to be of a new life; `stored` where it counts in the older one meanwhile.

    It does not when its number was heard before: then it is kept here, and nowhere else.
    """

    beat: Heartbeat
    stored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What is held against a unit.

    `last` is the newest of the older heartbeats, `against` what was the unit's newest then, `turns`
    how often an older boot was gone back to, `held` those since the newest last advanced.
    """

    last: Order
    against: Order
    turns: int
    heard_at: datetime
    held: tuple[Held, ...]

    def lapsed(self, at: datetime) -> bool:
        """Whether it lies so far back that it has nothing to do with a moment any more."""
        return at - self.heard_at > WINDOW

    def goes_on_with(self, order: Order, newest: Order) -> bool:
        """Whether a heartbeat goes on where one of the two boots was that are held against each other.

        Once it is settled, the older boot is where the unit is, and it may lose its memory there again: going
        back to it counts only if the other boot was heard meanwhile, in the life that has begun since.
        """
        settled = self.last > self.against
        heard = newest[1] == self.against[1] and newest[2] > self.against[2]
        lines = (self.against,) if settled and not heard else (self.last, self.against)
        return any(one[:2] == order[:2] and one[2] < order[2] for one in lines)


_HELD = TypeAdapter(tuple[Held, ...])


def weigh(before: Doubt | None, held: Held, newest: Order) -> Doubt:
    """Take one more live heartbeat that is older than the newest into account."""
    order, at = held.beat.order, held.beat.received_at
    if before is not None and order == before.last:
        return before
    if before is None or before.lapsed(at) or not before.goes_on_with(order, newest):
        return Doubt(last=order, against=newest, turns=1, heard_at=at, held=(held,))
    if newest > before.against:
        turns = before.turns + 1
        return Doubt(last=order, against=newest, turns=turns, heard_at=at, held=(held,))
    # Enough of them end the doubt, unless something else forbids it: then the last ones are kept.
    return replace(before, last=order, heard_at=at, held=(*before.held[1 - NEEDED :], held))


def settled(doubt: Doubt, order: Order) -> Doubt:
    """Give what is left of a doubt when a new life has begun with that heartbeat.

    What was the newest until then is remembered: if it is heard again, there are two.
    """
    return replace(doubt, last=order, held=())


async def of_units(conn: Connection, unit_ids: Sequence[int]) -> dict[int, Doubt]:
    """Give the doubts about units."""
    found = await tuples(conn, SQL.of_units, unit_ids=int4s(unit_ids))
    return {row[0]: _doubt(row) for row in found}


async def write(conn: Connection, doubts: Mapping[int, Doubt]) -> None:
    """Write doubts down; the units' status rows are locked."""
    if not doubts:
        return
    told = sorted(doubts.items())
    lives, boots, seqs = zip(*(doubt.last for _, doubt in told), strict=True)
    against_lives, against_boots, against_seqs = zip(*(doubt.against for _, doubt in told), strict=True)
    await execute(
        conn,
        SQL.write,
        unit_ids=int4s([unit_id for unit_id, _ in told]),
        lives=int2s(lives),
        boots=int8s(boots),
        seqs=int8s(seqs),
        against_lives=int2s(against_lives),
        against_boots=int8s(against_boots),
        against_seqs=int8s(against_seqs),
        turns=int4s([doubt.turns for _, doubt in told]),
        heard_ats=timestamps([doubt.heard_at for _, doubt in told]),
        helds=texts([_HELD.dump_json(doubt.held).decode() for _, doubt in told]),
    )


def _doubt(row: tuple[Any, ...]) -> Doubt:
    _, life, boot, seq, against_life, against_boot, against_seq, turns, heard_at, held = row
    return Doubt(
        last=(life, boot, seq),
        against=(against_life, against_boot, against_seq),
        turns=turns,
        heard_at=heard_at,
        # By a parser that follows as deep as what was taken; pydantic's gives up a few levels before.
        held=_HELD.validate_python(loads(held)),
    )
