"""Chance without order: a draw belongs to its names, so a seed gives the same fleet whatever happens when."""

from __future__ import annotations

from hashlib import blake2b

_BITS = 53  # as many as a float holds: the draw never rounds up to 1


def chance(*names: object) -> float:
    """Draw the number in [0, 1) that these names have for ever."""
    digest = blake2b("|".join(map(str, names)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> (64 - _BITS)) / (1 << _BITS)
