"""Which heartbeats were ever heard: a bit each, so that a heartbeat counts once and a missing one shows.

A row holds the bits of 1,024 sequence numbers of one (unit, life, boot). The caller holds the
lock on the unit's status row, so that nobody else writes these rows meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from storage.arrays import byteas, int2s, int4s, int8s
from storage.sql import Connection, execute, load, tuples

BLOCK_BITS = 1024
BLOCK_BYTES = BLOCK_BITS // 8

SQL = load(__file__)


class Key(NamedTuple):
    """The name of a heartbeat for ever; `life` is the ordinal of the unit's life."""

    unit_id: int
    life: int
    boot: int
    seq: int


class _Block(NamedTuple):
    unit_id: int
    life: int
    boot: int
    block: int


async def hear(conn: Connection, keys: Iterable[Key]) -> list[bool]:
    """Mark heartbeats as heard; for each, in order, tell whether it is heard for the first time."""
    places = [
        (_Block(key.unit_id, key.life, key.boot, key.seq // BLOCK_BITS), key.seq % BLOCK_BITS) for key in keys
    ]
    known = await _read(conn, {block for block, _ in places})
    heard = dict(known)
    first: list[bool] = []
    for block, bit in places:
        bits = heard.get(block, 0)
        first.append(not bits >> bit & 1)
        heard[block] = bits | 1 << bit
    await _write(conn, {block: bits for block, bits in heard.items() if known.get(block) != bits})
    return first


async def _read(conn: Connection, blocks: set[_Block]) -> dict[_Block, int]:
    wanted = sorted(blocks)
    found = await tuples(
        conn,
        SQL.read,
        unit_ids=int4s([block.unit_id for block in wanted]),
        lives=int2s([block.life for block in wanted]),
        boots=int8s([block.boot for block in wanted]),
        blocks=int4s([block.block for block in wanted]),
    )
    return {_Block(*block): int.from_bytes(heard, "little") for *block, heard in found}


async def _write(conn: Connection, heard: dict[_Block, int]) -> None:
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
