"""The commands that a transaction holds locked, and everything that happens to them in it.

Every move of every command goes through here: it is held against the table of moves, written to
the command, and written down with its evidence as a `command_event`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import DictRow

from commands.states import FINAL, State, check
from protocol.messages import CommandKind, Mode
from storage.arrays import int4s, jsonbs, texts, timestamps, uuids
from storage.sql import Connection, execute, load, rows, value

SQL = load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command as the ledger knows it.

    `due_at` is when the next step is due: to send it while queued, otherwise to stop waiting.
    `attempt` numbers the sendings; `attempted_at` is the last one's time. `refusal` is the unit's
    reason. `after_s` and `epoch` are 0 where the kind has none.
    """

    id: UUID
    unit_id: int
    kind: CommandKind
    mode: Mode | None
    after_s: int
    epoch: int
    state: State
    reason: str
    ordered_by: str
    ordered_at: datetime
    expires_at: datetime
    due_at: datetime
    attempt: int
    attempted_at: datetime | None
    acknowledged_at: datetime | None
    finished_at: datetime | None
    refusal: str | None

    @classmethod
    def from_row(cls, row: DictRow) -> Command:
        """Build from a row of `command`."""
        mode = row["mode"]
        typed = {
            "kind": CommandKind(row["kind"]),
            "mode": None if mode is None else Mode(mode),
            "state": State(row["state"]),
        }
        return cls(**{name: row[name] for name in cls.__slots__} | typed)

    @property
    def open(self) -> bool:
        """Whether it is still under way."""
        return self.state not in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    command_id: UUID
    event: str
    from_state: State | None
    to_state: State
    attempt: int
    evidence: dict[str, Any]


class Docket:
    """Locked commands by id; `now` is the database's time of this transaction."""

    def __init__(self, commands: Iterable[Command], *, now: datetime, actor: str) -> None:
        self.now = now
        self._actor = actor
        self._commands = {command.id: command for command in commands}
        self._changed: set[UUID] = set()
        self._events: list[_Event] = []

    def all(self) -> list[Command]:
        """Give the commands as they now stand."""
        return list(self._commands.values())

    def get(self, command_id: UUID) -> Command | None:
        """Give a command as it now stands; None when it is not locked here."""
        return self._commands.get(command_id)

    def move(
        self, command: Command, to: State, event: str, *, evidence: dict[str, Any], **changes: Any
    ) -> Command:
        """Move a command, write down why, and give it as it then stands; `changes` are further fields."""
        check(command.state, to)
        if to in FINAL:
            changes["finished_at"] = self.now
        if to is State.ACKNOWLEDGED:
            changes["acknowledged_at"] = self.now
        moved = replace(command, state=to, **changes)
        self._note(moved, command.state, event, evidence)
        self._put(moved)
        return moved

    def enter(self, command: Command, *, evidence: dict[str, Any]) -> None:
        """Take in a command that was just made in this transaction."""
        self._commands[command.id] = command
        self._note(command, None, "ordered", evidence)

    def note(self, command: Command, event: str, *, evidence: dict[str, Any]) -> None:
        """Write down what came without moving anything."""
        self._note(command, command.state, event, evidence)

    def change(self, command: Command, **changes: Any) -> None:
        """Change fields that are no news: when the next step is due."""
        self._put(replace(command, **changes))

    async def write(self, conn: Connection) -> None:
        """Write all of it; commands first, then what happened to them."""
        changed = [self._commands[command_id] for command_id in sorted(self._changed)]
        if changed:
            await execute(
                conn,
                SQL.write,
                ids=uuids([command.id for command in changed]),
                states=texts([command.state for command in changed]),
                due_ats=timestamps([command.due_at for command in changed]),
                attempts=int4s([command.attempt for command in changed]),
                attempted_ats=timestamps([command.attempted_at for command in changed]),
                acknowledged_ats=timestamps([command.acknowledged_at for command in changed]),
                finished_ats=timestamps([command.finished_at for command in changed]),
                refusals=texts([command.refusal for command in changed]),
            )
        if self._events:
            await execute(
                conn,
                SQL.record,
                ids=uuids([event.command_id for event in self._events]),
                events=texts([event.event for event in self._events]),
                from_states=texts([event.from_state for event in self._events]),
                to_states=texts([event.to_state for event in self._events]),
                attempts=int4s([event.attempt for event in self._events]),
                evidences=jsonbs([event.evidence for event in self._events]),
                actor=self._actor,
                now=self.now,
            )
        self._changed.clear()
        self._events.clear()

    def _put(self, command: Command) -> None:
        self._commands[command.id] = command
        self._changed.add(command.id)

    def _note(self, command: Command, before: State | None, event: str, evidence: dict[str, Any]) -> None:
        self._events.append(
            _Event(
                command_id=command.id,
                event=event,
                from_state=before,
                to_state=command.state,
                attempt=command.attempt,
                evidence=evidence,
            )
        )


async def lock(conn: Connection, query: LiteralString, *, actor: str, **params: object) -> Docket:
    """Lock what the query finds, which must be in the order of ids, and give the docket of it."""
    commands = await rows(conn, Command.from_row, query, **params)
    return Docket(commands, now=await value(conn, SQL.now), actor=actor)
