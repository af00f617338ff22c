"""The fleet's ground truth, read from the ledgers that the simulator leaves in the folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from deploy.local.comparison import Key


def acknowledged(ledger: Path) -> set[Key]:
    """Name the heartbeats that were acknowledged to the fleet in one run."""
    return set(_keys(ledger, "heartbeats_acked"))


def published(ledgers: Path) -> set[Key]:
    """Name every heartbeat that was ever published by the fleets of this folder."""
    return {key for ledger in ledgers.glob("*.jsonl") for key in _keys(ledger, "heartbeats_sent")}


def _keys(ledger: Path, event: str) -> Iterator[Key]:
    with ledger.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return  # a fleet that was killed left half a line
            entry = json.loads(line)
            if entry["event"] == event:
                yield from ((entry["imei"], entry["life"], boot, seq) for boot, seq in entry["keys"])
