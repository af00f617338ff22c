"""Which heartbeats were ever heard, so that a heartbeat counts once and a missing one shows.

A healthy unit's heartbeats follow one another: they are kept as its run, two numbers in its status.
What does not follow is odd, be it a hole, a new boot or something older: it ends the run, which is
then written into bits, 1,024 sequence numbers of one (unit, life, boot) to a row. The caller holds
the lock on the unit's status row, so that nobody else writes these rows meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from storage.arrays import byteas, int2s, int4s, int8s
from storage.sql import Connection, execute, load, tuples
from telemetry.heartbeats import Heartbeat
from telemetry.status import Run, Standing

BLOCK_BITS = 1024
BLOCK_BYTES = BLOCK_BITS // 8

SQL = load(__file__)


class Block(NamedTuple):
    """The name of 1,024 bits; `life` is the ordinal of the unit's life."""

    unit_id: int
    life: int
    boot: int
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """For each heartbeat, in order, whether it is heard for the first time; and what it does to runs.

    `grown` are runs that went on, with the number they reach now. `ended` are those of units of
    which something was odd: they begin anew, empty, behind the newest that was heard.
    """

    first: list[bool]
    grown: dict[int, int]
    ended: list[Run]


async def hear(conn: Connection, standings: Mapping[int, Standing], beats: Sequence[Heartbeat]) -> Heard:
    """Tell what is new among heartbeats, and write down the bits of what is odd.

    The runs are the caller's to write.
    """
    first: list[bool] = []
    grown: dict[int, int] = {}
    odd: set[int] = set()
    for beat in beats:
        unit_id, seq, standing = beat.unit_id, beat.seq, standings[beat.unit_id]
        last = grown.get(unit_id, standing.run_last)
        if last is None or beat.boot != standing.run_boot or beat.life != standing.run_life:
            odd.add(unit_id)
        elif seq == last + 1:
            grown[unit_id] = seq
            first.append(True)
            continue
        elif not standing.run_first <= seq <= last:  # type: ignore[operator]  # a run is whole or absent
            odd.add(unit_id)
        first.append(False)
    if not odd:
        return Heard(first=first, grown=grown, ended=[])
    places = [place for place, beat in enumerate(beats) if beat.unit_id in odd]
    questionable = [beats[place] for place in places]
    for place, new in zip(places, await _settle(conn, standings, odd, questionable), strict=True):
        first[place] = new
    return Heard(
        first=first,
        grown={unit_id: last for unit_id, last in grown.items() if unit_id not in odd},
        ended=list(_ended(standings, questionable)),
    )


async def known(
    conn: Connection, standings: Mapping[int, Standing], beats: Sequence[Heartbeat]
) -> list[bool]:
    """Tell which heartbeats were heard before, in order."""
    places = [_place(beat) for beat in beats]
    heard = await _read(conn, {block for block, _ in places})
    return [
        bool(heard.get(block, 0) & bit) or _in_run(standings[beat.unit_id].run, beat)
        for beat, (block, bit) in zip(beats, places, strict=True)
    ]


async def _settle(
    conn: Connection, standings: Mapping[int, Standing], odd: Collection[int], beats: Sequence[Heartbeat]
) -> list[bool]:
    """Write the runs of these units and their heartbeats into bits; tell which of these are new."""
    runs = dict(_bits(standings[unit_id].run for unit_id in odd))
    places = [_place(beat) for beat in beats]
    before = await _read(conn, {block for block, _ in places} | runs.keys())
    heard = before | {block: before.get(block, 0) | bits for block, bits in runs.items()}
    first: list[bool] = []
    for block, bit in places:
        bits = heard.get(block, 0)
        first.append(not bits & bit)
        heard[block] = bits | bit
    await _write(conn, {block: bits for block, bits in heard.items() if before.get(block) != bits})
    return first


def _in_run(run: Run | None, beat: Heartbeat) -> bool:
    return run is not None and (run.life, run.boot) == beat.order[:2] and run.first <= beat.seq <= run.last


def _place(beat: Heartbeat) -> tuple[Block, int]:
    """Give the block that a heartbeat is in, and its bit."""
    return Block(beat.unit_id, beat.life, beat.boot, beat.seq // BLOCK_BITS), 1 << beat.seq % BLOCK_BITS


def _bits(runs: Iterable[Run | None]) -> Iterator[tuple[Block, int]]:
    """Give the blocks that runs fill, with their bits."""
    for run in runs:
        if run is None or run.first > run.last:
            continue
        for block in range(run.first // BLOCK_BITS, run.last // BLOCK_BITS + 1):
            low = max(run.first - block * BLOCK_BITS, 0)
            high = min(run.last - block * BLOCK_BITS, BLOCK_BITS - 1)
            yield Block(run.unit_id, run.life, run.boot, block), (1 << high + 1) - (1 << low)


def _ended(standings: Mapping[int, Standing], beats: Iterable[Heartbeat]) -> Iterator[Run]:
    """Give each unit an empty run behind the newest that was ever heard of it."""
    newest: dict[int, tuple[int, int, int]] = {}
    for beat in beats:
        order = (beat.life, beat.boot, beat.seq)
        newest[beat.unit_id] = max(order, newest.get(beat.unit_id, order))
    for unit_id, order in newest.items():
        run = standings[unit_id].run
        life, boot, last = order if run is None else max(order, (run.life, run.boot, run.last))
        yield Run(unit_id, life, boot, last + 1, last)


async def _read(conn: Connection, blocks: Iterable[Block]) -> dict[Block, int]:
    wanted = sorted(blocks)
    found = await tuples(
        conn,
        SQL.read,
        unit_ids=int4s([block.unit_id for block in wanted]),
        lives=int2s([block.life for block in wanted]),
        boots=int8s([block.boot for block in wanted]),
        blocks=int4s([block.block for block in wanted]),
    )
    return {Block(*block): int.from_bytes(heard, "little") for *block, heard in found}


async def _write(conn: Connection, heard: dict[Block, int]) -> None:
    changed = sorted(heard)
    await execute(
        conn,
        SQL.write,
        unit_ids=int4s([block.unit_id for block in changed]),
        lives=int2s([block.life for block in changed]),
        boots=int8s([block.boot for block in changed]),
        blocks=int4s([block.block for block in changed]),
        heard=byteas([heard[block].to_bytes(BLOCK_BYTES, "little") for block in changed]),
    )
