"""What simulated units remember without power, and the file in which a fleet leaves it for its next run.

The file is a journal: one JSON line per change, the last line of a unit counts. No key is in it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from protocol.identity import Imei
from protocol.messages import Mode
from runtime.errors import Invalid


class UnreadableState(Invalid):
    """The fleet's state file cannot be read."""


@dataclass(slots=True, kw_only=True)
class Memory:
    """One unit's lasting memory: wire.md 3.2 step 4, and its meters."""

    imei: Imei
    life: int
    boot: int = 0
    epoch: int = 0
    mode: Mode = Mode.ENABLED
    after_s: int = 0
    power: bool = True  # what the load switch was last set to; only an enable sets it again
    contact_at: float = 0.0  # seconds since 1970: the last PUBACK of a heartbeat, or the arming
    charge: float | None = None
    energy_wh: float = 0.0

    def forget(self) -> None:
        """Be as new, but for the meters: what wire.md forbids a factory reset to do."""
        self.life, self.boot, self.epoch = new_life(), 0, 0
        self.mode, self.after_s, self.power = Mode.ENABLED, 0, True


class Memories:
    """The memories of a fleet; without a file every run is a first run with new lives."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = _read(path) if path and path.exists() else {}
        self._journal: TextIO | None = None

    def start(self, imeis: Iterable[Imei]) -> list[Memory]:
        """Count one more boot for each of these units and write that down before any of them speaks."""
        memories = [self._known.setdefault(imei, Memory(imei=imei, life=new_life())) for imei in imeis]
        for memory in memories:
            memory.boot += 1
        self.rewrite()
        return memories

    def keep(self, memory: Memory) -> None:
        """Write one unit's change before the unit acts on it."""
        if self._journal:
            self._journal.write(_line(memory))
            self._journal.flush()

    def rewrite(self) -> None:
        """Replace the journal by one line per unit."""
        if self._path is None:
            return
        self.close()
        fresh = self._path.with_name(f"{self._path.name}.new")
        with fresh.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, self._known.values()))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._journal = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Let go of the file."""
        if self._journal:
            self._journal.close()
            self._journal = None


def new_life() -> int:
    """Draw the number that tells a new memory from an older one."""
    return secrets.randbits(32) or 1


def _line(memory: Memory) -> str:
    return json.dumps(asdict(memory), separators=(",", ":")) + "\n"


def _read(path: Path) -> dict[Imei, Memory]:
    known: dict[Imei, Memory] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UnreadableState(f"{path} is not UTF-8, so no fleet has left it; name another file.") from None
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):  # a line that a kill cut short was never acted on
            memory = _memory(path, line)
            known[memory.imei] = memory
    return known


def _memory(path: Path, line: str) -> Memory:
    try:
        fields: dict[str, Any] = json.loads(line)
        return Memory(**fields | {"imei": Imei(fields["imei"]), "mode": Mode(fields["mode"])})
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableState(f"{path} holds a line that is no unit's memory.", line=line[:80]) from error
