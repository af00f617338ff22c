"""What is missing is read from the bits exactly, whatever was lost (R10)."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from telemetry.holes import Hole, between
from telemetry.sequence import BLOCK_BITS, BLOCK_BYTES


def blocks(heard: set[int]) -> list[tuple[int, bytes]]:
    """Write numbers as the gateway does: bit by bit, in blocks that exist once something is heard."""
    bits: dict[int, int] = defaultdict(int)
    for seq in heard:
        bits[seq // BLOCK_BITS] |= 1 << seq % BLOCK_BITS
    return [(block, bits[block].to_bytes(BLOCK_BYTES, "little")) for block in sorted(bits)]


@given(st.sets(st.integers(1, 5_000), min_size=1))
def test_the_holes_are_the_numbers_below_the_newest_that_were_not_heard(heard: set[int]) -> None:
    missing = {number for hole in between(blocks(heard)) for number in range(hole.first, hole.last + 1)}

    assert missing == set(range(1, max(heard))) - heard


@given(st.sets(st.integers(1, 3_000), min_size=1))
def test_holes_rise_and_never_touch(heard: set[int]) -> None:
    found = between(blocks(heard))

    assert all(before.last + 1 < after.first for before, after in pairwise(found))
    assert sum(hole.count for hole in found) == max(heard) - len(heard)


def test_whole_blocks_that_were_never_heard_are_one_hole() -> None:
    """A leap over millions of numbers costs no walk over millions of blocks."""
    assert between(blocks({1, 2**32 - 1})) == [Hole(first=2, last=2**32 - 2)]
