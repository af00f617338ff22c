"""Every command that was ever ordered: how one is made, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from uuid_utils.compat import uuid7

from commands import docket, policy
from commands.docket import Command
from commands.policy import UINT32, Wish
from commands.states import State
from protocol.messages import CommandKind, Mode
from registry import audit
from registry.audit import Deed
from registry.units import Unit
from runtime.errors import Conflict, NotFound
from runtime.settings import Commands
from storage.sql import Connection, execute, load, row, rows, value

ADOPTED_EPOCH_MAX = 2**31
"""A unit that reports a higher epoch than this is not believed."""

CODES = {"e": Mode.ENABLED, "d": Mode.DISABLED, "o": Mode.OFFLINE_DISABLED}

SQL = load(__file__)


class CommandNotFound(NotFound):
    """There is no such command."""


class EpochsExhausted(Conflict):
    """This unit's epochs are used up; it needs a factory reset and a new enrolment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a command, with its evidence; `from_state` is None for the order itself."""

    at: datetime
    event: str
    from_state: State | None
    to_state: State
    attempt: int
    actor: str
    evidence: dict[str, Any]

    @classmethod
    def from_row(cls, row: DictRow) -> Event:
        """Build from a row of `command_event`."""
        before = row["from_state"]
        states = {"from_state": None if before is None else State(before), "to_state": State(row["to_state"])}
        return cls(**row | states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a unit stands between what it was told and what it reports (S1.7-S1.10).

    `changed_at` and `changed_by` are time and e-mail of the newest change of the enable status:
    the order while it is pending, the confirmation after. `od_confirmed` is None before the first report.
    """

    enable_status: str
    changed_at: datetime | None
    changed_by: str | None
    od_confirmed: bool | None
    pending_command: UUID | None

    @classmethod
    def from_row(cls, row: DictRow) -> Standing:
        """Build from reported mode and newest effective mode command."""
        reported = None if row["reported"] is None else CODES[row["reported"]]
        pending = row["state"] is not None and State(row["state"]) is not State.CONFIRMED
        return cls(
            enable_status=policy.enable_status(
                reported=reported, pending=Mode(row["mode"]) if pending else None
            ),
            changed_at=row["ordered_at"] if pending else row["finished_at"],
            changed_by=row["ordered_by"],
            od_confirmed=None if reported is None else reported is Mode.OFFLINE_DISABLED,
            pending_command=row["id"] if pending else None,
        )


async def order(conn: Connection, unit: Unit, wish: Wish, deed: Deed, settings: Commands) -> Command:
    """Queue a command for a unit; a mode command gets the next epoch and supersedes an open one.

    Raises `Forbidden` below the needed level, `BadText` without a reason, and `policy`'s
    conflicts. Writes audit and wakes the dispatchers with the commit.
    """
    deed.by.require(policy.needed_level(wish))
    deed.require_reason()
    heard_epoch, reported = await row(conn, _heard, SQL.heard, unit_id=unit.id) or (0, None)
    given = await value(conn, SQL.lock_intent, unit_id=unit.id)
    book = await docket.lock(conn, SQL.lock_open, actor=deed.by.email, unit_id=unit.id)
    superseded = [old for old in book.all() if old.kind is CommandKind.SET_MODE]
    policy.check(wish, unit, reported=reported, pending=superseded[0].mode if superseded else None)

    command_id = uuid7()
    sets_mode = wish.kind is CommandKind.SET_MODE
    if sets_mode:
        for old in superseded:
            book.move(old, State.SUPERSEDED, "superseded", evidence={"by": str(command_id)})
        await book.write(conn)
    command = Command(
        id=command_id,
        unit_id=unit.id,
        kind=wish.kind,
        mode=wish.mode,
        after_s=wish.after_s,
        epoch=_next_epoch(given, heard_epoch, unit) if sets_mode else 0,
        state=State.QUEUED,
        reason=deed.reason,
        ordered_by=deed.by.email,
        ordered_at=book.now,
        expires_at=book.now + policy.life(wish, settings),
        due_at=book.now,
        attempt=0,
        attempted_at=None,
        acknowledged_at=None,
        finished_at=None,
        refusal=None,
    )
    await _insert(conn, command)
    book.enter(command, evidence={"reason": deed.reason})
    await book.write(conn)
    told = {"command": str(command.id), "kind": wish.kind, "mode": wish.mode, "epoch": command.epoch}
    await audit.write(conn, deed, "order_command", "unit", unit.serial_number, after=told)
    return command


async def of_unit(conn: Connection, unit_id: int, *, limit: int, before: UUID | None = None) -> list[Command]:
    """List a unit's commands, newest first; `before` is the id of the last one of the page before."""
    return await rows(conn, Command.from_row, SQL.of_unit, unit_id=unit_id, limit=limit, before=before)


async def by_id(conn: Connection, command_id: UUID) -> Command:
    """Give one command; raises `CommandNotFound`."""
    command = await row(conn, Command.from_row, SQL.by_id, id=command_id)
    if command is None:
        raise CommandNotFound("There is no command with this id.", id=str(command_id))
    return command


async def events(conn: Connection, command_id: UUID) -> list[Event]:
    """List what happened to a command, oldest first."""
    return await rows(conn, Event.from_row, SQL.events, id=command_id)


async def standings(conn: Connection, unit_ids: Iterable[int]) -> dict[int, Standing]:
    """Tell how each unit stands."""
    found = await rows(
        conn, lambda row: (row["unit_id"], Standing.from_row(row)), SQL.standings, unit_ids=list(unit_ids)
    )
    return dict(found)


def _heard(row: DictRow) -> tuple[int, Mode | None]:
    """Read epoch and mode of a unit's newest report; a unit that only told of its presence has none."""
    return (0, None) if row["mode"] is None else (row["epoch"], CODES[row["mode"]])


def _next_epoch(given: int, heard: int, unit: Unit) -> int:
    """Give an epoch above every one that was given or, credibly, heard: a restored backup re-uses none."""
    epoch = 1 + max(given, heard if heard <= ADOPTED_EPOCH_MAX else 0)
    if epoch > UINT32:
        raise EpochsExhausted("This unit has used up its epochs.", serial_number=unit.serial_number)
    return epoch


async def _insert(conn: Connection, command: Command) -> None:
    await execute(
        conn,
        SQL.insert,
        id=command.id,
        unit_id=command.unit_id,
        kind=str(command.kind),
        mode=command.mode and str(command.mode),
        after_s=command.after_s,
        epoch=command.epoch,
        state=str(command.state),
        reason=command.reason,
        ordered_by=command.ordered_by,
        ordered_at=command.ordered_at,
        expires_at=command.expires_at,
        due_at=command.due_at,
    )
    if command.kind is CommandKind.SET_MODE:
        await execute(
            conn,
            SQL.intend,
            unit_id=command.unit_id,
            epoch=command.epoch,
            desired=command.mode and str(command.mode),
        )
    await execute(conn, SQL.notify)
