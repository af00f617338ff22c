"""The commands that a transaction holds locked, and everything that happens to them in it.

Every new command and every move goes through here: it is held against the table of moves, written
to the command, and written down with its evidence as a `command_event`; and what is wanted of the
unit is derived anew (`unit_intent`). Who orders or ends a mode command holds the lock on its unit's
intent before those on its commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import DictRow
from uuid_utils.compat import uuid7

from commands.policy import Wish
from commands.states import FINAL, State, check
from protocol.messages import CommandKind, Mode
from storage.arrays import int4s, int8s, jsonbs, texts, timestamps, uuids
from storage.sql import Connection, at_once, execute, load, pipelined
from storage.wakes import after_commit

SQL = load(__file__)
NOW = SQL.now
"""The statement for the time of a transaction, for who asks more in the same round trip."""


class Origin(StrEnum):
    """Whose wish a command carries out."""

    PERSON = "person"
    INTENT = "intent"
    """An earlier wish, sent once more because the unit's own report contradicts it."""

    PLAN = "plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Who ordered a command, why, when, and for how long it lives; `plan_id` where a plan did."""

    by: str
    reason: str
    now: datetime
    life: timedelta
    origin: Origin = Origin.PERSON
    plan_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command as the ledger knows it.

    `due_at` is when the next step is due: to send it while queued, otherwise to stop waiting.
    `attempt` numbers the sendings; `attempted_at` is the last one's time. `refusal` is the unit's
    reason. `after_s` and `epoch` are 0 where the kind has none; `epoch` also while nobody approved it.
    `plan_id` is the plan's that ordered it. `held_since` is the start of that holding of the unit in
    which it was ordered or approved: in a later one it may reach another's home.
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
    origin: Origin = Origin.PERSON
    plan_id: UUID | None = None
    approved_by: str | None = None
    approved_at: datetime | None = None
    held_since: datetime | None = None

    @classmethod
    def new(
        cls,
        unit_id: int,
        wish: Wish,
        order: Ordering,
        *,
        held_since: datetime,
        epoch: int = 0,
        awaits_approval: bool = False,
        awaits_contact: bool = False,
    ) -> Command:
        """Make a command that nobody knows of yet: due at once, or when a second person or its unit comes."""
        expires_at = order.now + order.life
        return cls(
            id=uuid7(),
            unit_id=unit_id,
            kind=wish.kind,
            mode=wish.mode,
            after_s=wish.after_s,
            epoch=epoch,
            state=State.AWAITING_APPROVAL if awaits_approval else State.QUEUED,
            reason=order.reason,
            ordered_by=order.by,
            ordered_at=order.now,
            expires_at=expires_at,
            due_at=expires_at if awaits_approval or awaits_contact else order.now,
            attempt=0,
            attempted_at=None,
            acknowledged_at=None,
            finished_at=None,
            refusal=None,
            origin=order.origin,
            plan_id=order.plan_id,
            held_since=held_since,
        )

    @classmethod
    def from_row(cls, row: DictRow) -> Command:
        """Build from a row of `command`."""
        mode = row["mode"]
        typed = {
            "kind": CommandKind(row["kind"]),
            "mode": None if mode is None else Mode(mode),
            "state": State(row["state"]),
            "origin": Origin(row["origin"]),
        }
        return cls(**{name: row[name] for name in cls.__slots__} | typed)

    def kept_back(self, *, held_since: datetime, suspected_clone: bool) -> bool:
        """Whether it would take power away from whom it was not meant for.

        Its unit came into other hands, or may be two and no second person has agreed.
        """
        if self.mode is not Mode.OFFLINE_DISABLED or self.state is State.AWAITING_APPROVAL:
            return False
        if self.held_since is None:  # an earlier release made it: which came first tells it
            moved = held_since > (self.approved_at or self.ordered_at)
        else:
            moved = held_since != self.held_since
        return moved or (suspected_clone and self.approved_by is None)

    @property
    def wish(self) -> Wish:
        """What it carries out."""
        return Wish(kind=self.kind, mode=self.mode, after_s=self.after_s)

    @property
    def open(self) -> bool:
        """Whether it is still under way."""
        return self.state not in FINAL

    @property
    def wishes(self) -> bool:
        """Whether it is an open mode command that counts: one that nobody approved yet does not."""
        return self.open and self.mode is not None and self.state is not State.AWAITING_APPROVAL


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
        self._entered: list[UUID] = []
        self._wished: set[int] = set()
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
        if to in FINAL or moved.epoch != command.epoch:
            self._rethink(moved)
        self._note(moved, command.state, event, evidence)
        self._put(moved)
        return moved

    def enter(self, command: Command, *, evidence: dict[str, Any]) -> None:
        """Take in a new command."""
        self._commands[command.id] = command
        self._entered.append(command.id)
        self._rethink(command)
        self._note(command, None, "ordered", evidence)

    def note(self, command: Command, event: str, *, evidence: dict[str, Any]) -> None:
        """Write down what came without moving anything."""
        self._note(command, command.state, event, evidence)

    def change(self, command: Command, **changes: Any) -> None:
        """Change fields that are no news: when the next step is due."""
        self._put(replace(command, **changes))

    async def write(self, conn: Connection) -> None:
        """Write all of it: commands that end before new ones, what happened to them, what is wanted now."""
        async with pipelined(conn):
            await self._write(conn)
        for written in (self._changed, self._entered, self._events, self._wished):
            written.clear()

    async def _write(self, conn: Connection) -> None:
        changed = [
            self._commands[command_id] for command_id in sorted(self._changed.difference(self._entered))
        ]
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
                epochs=int8s([command.epoch for command in changed]),
                expiries=timestamps([command.expires_at for command in changed]),
                approvers=texts([command.approved_by for command in changed]),
                approvals=timestamps([command.approved_at for command in changed]),
                holdings=timestamps([command.held_since for command in changed]),
            )
        if self._entered:
            await self._insert(conn, [self._commands[command_id] for command_id in self._entered])
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
        if self._wished:
            await execute(conn, SQL.derive, unit_ids=sorted(self._wished))

    async def _insert(self, conn: Connection, new: Sequence[Command]) -> None:
        await execute(
            conn,
            SQL.insert,
            ids=uuids([command.id for command in new]),
            unit_ids=int4s([command.unit_id for command in new]),
            kinds=texts([command.kind for command in new]),
            modes=texts([command.mode for command in new]),
            afters=int8s([command.after_s for command in new]),
            epochs=int8s([command.epoch for command in new]),
            states=texts([command.state for command in new]),
            reasons=texts([command.reason for command in new]),
            orderers=texts([command.ordered_by for command in new]),
            orders=timestamps([command.ordered_at for command in new]),
            expiries=timestamps([command.expires_at for command in new]),
            dues=timestamps([command.due_at for command in new]),
            origins=texts([command.origin for command in new]),
            plan_ids=uuids([command.plan_id for command in new]),
            holdings=timestamps([command.held_since for command in new]),
        )
        if any(command.state is State.QUEUED for command in new):
            wake(conn)

    def _rethink(self, command: Command) -> None:
        if command.mode is not None:
            self._wished.add(command.unit_id)

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


def wake(conn: Connection) -> None:
    """Wake the dispatchers when this has committed."""
    after_commit(conn, "command_due")


async def lock(conn: Connection, query: LiteralString, *, actor: str, **params: object) -> Docket:
    """Lock what the query finds, which must be in the order of ids, and give the docket of it."""
    found, [clock] = await at_once(conn, (query, params), (NOW, {}))
    return Docket(map(Command.from_row, found), now=clock["now"], actor=actor)
