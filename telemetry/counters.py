"""The newest numbers of a unit, by which those that come next are measured: none may leap, none be too old.

A leap is measured from the newest known: of the life for a boot, of the boot for a number, whose
first is measured from 0. The first boot of a life is taken as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from protocol.reasons import Reason
from storage.arrays import int2s, int4s, int8s
from storage.sql import Connection, load, tuples
from telemetry.heartbeats import Heartbeat
from telemetry.sequence import BLOCK_BITS
from telemetry.status import Standing

BOOT_LEAP = 100_000
"""So many starts above the newest of its life a boot is believed."""

SEQ_LEAP = 1_000_000
"""So many heartbeats above the newest of its boot a number is believed."""

SQL = load(__file__)


class Line(NamedTuple):
    """A boot of a unit, in which numbers rise; `life` is the ordinal."""

    life: int
    boot: int


class Flaw(NamedTuple):
    """Why a heartbeat's numbers are not believed, and the field that is at fault."""

    reason: Reason
    field: str
    detail: str


@dataclass(slots=True)
class Counters:
    """What is known of one unit: its newest boot of each life, its newest number of each boot.

    `past` is the newest boot that is only summed up; what is not newer is too old.
    """

    boots: dict[int, int] = field(default_factory=dict)
    seqs: dict[Line, int] = field(default_factory=dict)
    past: Line | None = None

    def flaw(self, beat: Heartbeat) -> Flaw | None:
        """Tell why a heartbeat's numbers are not believed; None for sound ones."""
        if self.past is not None and line(beat) <= self.past:
            return Flaw(Reason.TOO_OLD, "boot", f"Boots up to {self.past.boot} are only summed up.")
        newest = self.boots.get(beat.life)
        if newest is not None and beat.boot > newest + BOOT_LEAP:
            return Flaw(Reason.COUNTER_JUMP, "boot", f"The newest boot of its life is {newest}.")
        last = self.seqs.get(line(beat), 0)
        if beat.seq > last + SEQ_LEAP:
            return Flaw(Reason.COUNTER_JUMP, "seq", f"The newest of its boot is {last}.")
        return None

    def take(self, life: int, boot: int, seq: int) -> None:
        """Measure by these numbers what comes next."""
        self.boots[life] = max(boot, self.boots.get(life, boot))
        self.seqs[Line(life, boot)] = max(seq, self.seqs.get(Line(life, boot), 0))


def line(beat: Heartbeat) -> Line:
    """Give the boot that a heartbeat is of."""
    return Line(beat.life, beat.boot)


async def of_units(
    conn: Connection, standings: Mapping[int, Standing], beats: Mapping[int, Collection[Heartbeat]]
) -> dict[int, Counters]:
    """Give what these heartbeats, by unit, are measured by; asks for what the standings do not tell."""
    known = {unit_id: _standing(standings[unit_id]) for unit_id in beats}
    asked = {
        (unit_id, *line(beat))
        for unit_id, group in beats.items()
        for beat in group
        if _asks(known[unit_id], standings[unit_id], beat)
    }
    if asked:
        await _learn(conn, known, sorted(asked))
    return known


def _standing(standing: Standing) -> Counters:
    counters = Counters()
    if standing.life is not None and standing.boot is not None and standing.seq is not None:
        counters.take(standing.life, standing.boot, standing.seq)
    if run := standing.run:
        counters.take(run.life, run.boot, run.last)
    return counters


def _asks(counters: Counters, standing: Standing, beat: Heartbeat) -> bool:
    """Whether more must be known to judge a heartbeat: it is older than the newest, or would leap from it."""
    if standing.life is None or beat.life > standing.life:
        return False  # nothing was ever heard of that life
    return line(beat) < (standing.life, standing.boot) or counters.flaw(beat) is not None


async def _learn(
    conn: Connection, known: Mapping[int, Counters], asked: Iterable[tuple[int, int, int]]
) -> None:
    unit_ids, lives, boots = zip(*asked, strict=True)
    found = await tuples(conn, SQL.newest, unit_ids=int4s(unit_ids), lives=int2s(lives), boots=int8s(boots))
    for unit_id, life, boot, newest_boot, block, heard in found:
        counters = known[unit_id]
        if newest_boot is not None:
            counters.take(life, newest_boot, 0)
        if block is not None:
            last = block * BLOCK_BITS + int.from_bytes(heard, "little").bit_length() - 1
            counters.take(life, boot, last)
    for unit_id, life, boot in await tuples(conn, SQL.past, unit_ids=int4s(set(unit_ids))):
        known[unit_id].past = Line(life, boot)
        known[unit_id].take(life, boot, 0)
