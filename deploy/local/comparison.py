"""What a run must show: every heartbeat the fleet had acknowledged is stored, once, and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

Key = tuple[str, int, int, int]
"""(imei, life, boot, seq): the name of a heartbeat for ever."""

KINDS = ("ping", "offline_disabled", "enabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What both sides say of one run."""

    acknowledged: set[Key]
    """of the fleet: published in this run, and its broker said that it has it"""
    published: set[Key]
    """of the fleet: published ever, acknowledged or not"""
    stored: set[Key]
    """of the database: those of the acknowledged ones that it holds"""
    received: Collection[Key]
    """of the database: every row that came in this run"""
    confirmed: set[str]
    """which of `KINDS` a unit confirmed"""
    duplicates: int
    dead_letters: int
    commands: Mapping[str, int]
    seconds_to_first_heartbeat: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The figures of a run, and in words what is wrong with them."""

    heartbeats_sent: int
    heartbeats_stored: int
    heartbeats_unexpected: int
    heartbeats_doubled: int
    duplicates: int
    dead_letters: int
    commands: Mapping[str, int]
    seconds_to_first_heartbeat: float | None
    differences: tuple[str, ...]


def compare(told: Evidence) -> Comparison:
    """Hold the database against the fleet's ground truth."""
    missing = told.acknowledged - told.stored
    unexpected = set(told.received) - told.published
    doubled = [key for key, times in Counter(told.received).items() if times > 1]
    unconfirmed = [kind for kind in KINDS if kind not in told.confirmed]
    differences = {
        "The fleet had no heartbeat acknowledged.": not told.acknowledged,
        f"{_some(missing)} acknowledged to the fleet, but not stored.": missing,
        f"{_some(unexpected)} stored, but never sent.": unexpected,
        f"{_some(doubled)} stored more than once.": doubled,
        f"No command was confirmed of the kind {', '.join(unconfirmed)}.": unconfirmed,
    }
    return Comparison(
        heartbeats_sent=len(told.acknowledged),
        heartbeats_stored=len(told.acknowledged & told.stored),
        heartbeats_unexpected=len(unexpected),
        heartbeats_doubled=len(doubled),
        duplicates=told.duplicates,
        dead_letters=told.dead_letters,
        commands=told.commands,
        seconds_to_first_heartbeat=told.seconds_to_first_heartbeat,
        differences=tuple(sentence for sentence, wrong in differences.items() if wrong),
    )


def _some(keys: Collection[Key]) -> str:
    """Count heartbeats and name the first."""
    first = min(keys, default=None)
    return f"{len(keys)} heartbeat{'s were' if len(keys) != 1 else ' was'} (first {first})"
