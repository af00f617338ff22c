"""The ground truth of a simulated fleet: what each unit really did, one JSON line per fact.

`heartbeats_sent` is written before a message is published and `heartbeats_acked` after its PUBACK; both
name every heartbeat in the message, its own first, then its backlog's. Lines are buffered until `flush`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from protocol.messages import Ack, AckResult, Command
from runtime import clock
from simulator.memory import Memory

Key = tuple[int, int]
"""The boot and seq of a heartbeat."""


class Ledger:
    """Appends to a file, or to nothing when there is none."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = path.open("a", encoding="utf-8") if path else None

    def __enter__(self) -> Self:
        """Keep the file open for the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left, whatever happened."""
        if self._file:
            self._file.close()

    def heartbeats(self, what: str, memory: Memory, keys: Iterable[Key]) -> None:
        """Record heartbeats that were `sent`, `acked` or `lost`."""
        self.unit(f"heartbeats_{what}", memory, life=memory.life, keys=list(keys))

    def command(self, what: str, memory: Memory, command: Command, **facts: Any) -> None:
        """Record a command and where the unit stands with it."""
        self.unit(
            f"command_{what}",
            memory,
            life=memory.life,
            command_id=str(command.id),
            attempt=command.attempt,
            kind=command.kind,
            epoch=command.epoch,
            mode=command.mode,
            **facts,
        )

    def answer(self, memory: Memory, command: Command, ack: Ack, *, changed: bool) -> None:
        """Record what the unit did with a command; `changed` is false for one that it had applied before."""
        if ack.result is AckResult.APPLIED:
            self.command("applied", memory, command, changed=changed)
        else:
            self.command("refused", memory, command, reason=ack.reason)

    def unit(self, event: str, memory: Memory, **facts: Any) -> None:
        """Record anything else that happened to a unit."""
        if self._file:
            line = {"event": event, "at": clock.now().isoformat(), "imei": memory.imei, **facts}
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        """Hand the buffered lines to the system."""
        if self._file:
            self._file.flush()


class Truth(Ledger):
    """A ledger that can also be read while it is written."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self.lines: list[dict[str, Any]] = []

    def unit(self, event: str, memory: Memory, **facts: Any) -> None:
        """Record what happened to a unit, and keep it at hand."""
        super().unit(event, memory, **facts)
        self.lines.append({"event": event, "imei": memory.imei, **facts})
