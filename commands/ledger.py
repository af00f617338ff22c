"""Every command that was ever ordered: how one is made, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from commands import docket, policy
from commands.docket import Command, Docket, Ordering, Origin
from commands.intent import Intent
from commands.policy import ADOPTED_EPOCH_MAX, UINT32, Wish
from commands.states import State
from protocol.messages import Mode
from registry import audit
from registry.audit import Deed
from registry.permissions import Level
from registry.units import Unit
from runtime.errors import Conflict, Forbidden, NotFound
from runtime.settings import Commands
from storage.sql import Connection, at_once, execute, load, row, rows

CODES = {"e": Mode.ENABLED, "d": Mode.DISABLED, "o": Mode.OFFLINE_DISABLED}

SQL = load(__file__)


class CommandNotFound(NotFound):
    """There is no such command."""


class EpochsExhausted(Conflict):
    """This unit's epochs are used up; it needs a factory reset and a new enrolment."""


class ChangedHands(Conflict):
    """The unit came to another entity while something was ordered of it."""


class CommandEnded(Conflict):
    """The command has reached its end."""


class NothingToApprove(Conflict):
    """The command does not wait for approval."""


class SecondPersonNeeded(Forbidden):
    """Who ordered it cannot be the one to approve it."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What an order came to: a new command, or the one that carries out the same wish already."""

    command: Command
    new: bool


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


async def order(
    conn: Connection,
    unit: Unit,
    wish: Wish,
    deed: Deed,
    settings: Commands,
    *,
    again: bool = False,
) -> Ordered:
    """Queue a command for a unit, or give the one that carries out the same wish already.

    A mode command gets the next epoch and supersedes an open one. Where two units are suspected
    under one IMEI, an offline-disable waits for a second person first: it might reach another home.
    What is wanted already and is to be said `again` may be so: a unit that is dark is told to be dark.
    `unit` is read in this transaction: for whose it then was the command is meant. Raises `Forbidden`
    below the needed level, `BadText` without a reason, `ChangedHands`, and `policy`'s conflicts.
    Writes audit, also of a wish that is carried out already, and wakes the dispatchers with the commit.
    """
    deed.by.require(policy.needed_level(wish))
    deed.require_reason()
    stand = await _stand(conn, unit.id, actor=deed.by.email)
    stand.require_holding(unit)
    policy.check_unit(wish, unit)
    if wish.mode is Mode.ENABLED:
        await execute(conn, SQL.ask_to_enable, unit_id=unit.id)
    if wish.mode is not None and (existing := await _carried_out(conn, stand, wish)):
        if existing.wishes:  # the newest word is this: what waits for approval is not
            _supersede(stand.book, existing.id, waiting_only=True)
            await stand.book.write(conn)
        await _tell_order(conn, deed, unit, existing, new=False)
        return Ordered(existing, new=False)
    if not (again and stand.reported is wish.mode is stand.intent.desired):
        policy.check_status(wish, unit, reported=stand.reported, pending=stand.pending)
    awaits = wish.disables and stand.suspected_clone
    ordering = Ordering(
        by=deed.by.email, reason=deed.reason, now=stand.book.now, life=policy.life(wish, settings)
    )
    epoch = 0 if awaits or wish.mode is None else stand.next_epoch()
    command = Command.new(
        unit.id, wish, ordering, held_since=unit.held_since, epoch=epoch, awaits_approval=awaits
    )
    if wish.mode is not None:
        _supersede(stand.book, command.id, waiting_only=awaits)
    stand.book.enter(command, evidence={"reason": deed.reason})
    await stand.book.write(conn)
    await _tell_order(conn, deed, unit, command, new=True)
    return Ordered(command, new=True)


async def cancel(conn: Connection, command_id: UUID, deed: Deed) -> Command:
    """Take a command back that is under way; one that is cancelled already stays as it is.

    What was sent may reach its unit all the same: what is wanted of it is then sent once more, under
    a newer epoch. Takes a reason and the technical level; for an enable that was sent the admin
    level. Raises `CommandEnded` after any other end.
    """
    deed.by.require(Level.TECHNICAL)
    deed.require_reason()
    stand, command = await _stand_of(conn, command_id, actor=deed.by.email)
    if command.state is State.CANCELLED:
        return command
    if command.mode is Mode.ENABLED and command.attempt:
        deed.by.require(Level.ADMIN)  # what was wanted before may be darkness, and is sent again
    if not command.open:
        raise CommandEnded(f"This command is {command.state} already.", state=str(command.state))
    cancelled = stand.book.move(command, State.CANCELLED, "cancelled", evidence={"reason": deed.reason})
    await stand.book.write(conn)
    if command.wish.disables:
        await execute(conn, SQL.ask_to_enable, unit_id=command.unit_id)
    await write_down(conn, deed, "cancel_command", command, cancelled)
    return cancelled


async def approve(conn: Connection, unit: Unit, command_id: UUID, deed: Deed, settings: Commands) -> Command:
    """Let a command go that waited for a second person; it gets its epoch now, and its whole life.

    Takes the admin level, a reason, and somebody else than who ordered it (`SecondPersonNeeded`).
    What an order needs is asked again: the unit may stand otherwise by now. `unit` is read in this
    transaction (`ChangedHands`).
    """
    deed.by.require(Level.ADMIN)
    deed.require_reason()
    stand, command = await _stand_of(conn, command_id, actor=deed.by.email)
    if command.state is not State.AWAITING_APPROVAL:
        raise NothingToApprove(f"This command is {command.state}.", state=str(command.state))
    if command.expires_at <= stand.book.now:
        raise NothingToApprove("This command has expired.", state=str(State.EXPIRED))
    by_intent = command.origin is Origin.INTENT  # this time nobody ordered it: the first person is the second
    if command.ordered_by == deed.by.email and (stand.suspected_clone or not by_intent):
        raise SecondPersonNeeded("Who ordered a command cannot approve it: somebody else must.")
    wish = command.wish
    stand.require_holding(unit)
    policy.check_unit(wish, unit)
    if not by_intent:  # that one exists because the unit reports something else
        policy.check_status(wish, unit, reported=stand.reported, pending=stand.pending)
    _supersede(stand.book, command.id)
    approved = stand.book.move(
        command,
        State.QUEUED,
        "approved",
        evidence={"reason": deed.reason},
        epoch=stand.next_epoch(),
        due_at=stand.book.now,
        expires_at=stand.book.now + policy.life(wish, settings),
        approved_by=deed.by.email,
        approved_at=stand.book.now,
        held_since=unit.held_since,
    )
    await stand.book.write(conn)
    docket.wake(conn)
    await write_down(conn, deed, "approve_command", command, approved)
    return approved


async def views(conn: Connection, unit_id: int) -> tuple[Mode | None, Intent]:
    """Give what a unit reported last and what is wanted of it, locked for an order in this transaction."""
    of_unit = {"unit_id": unit_id}
    heard, [intent] = await at_once(conn, (SQL.heard, of_unit), (SQL.lock_intent, of_unit))
    return (_heard(heard[0])[1] if heard else None), Intent.from_row(intent)


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


@dataclass(frozen=True, slots=True)
class _Stand:
    """A unit's intent and open commands, locked, and what it reported last."""

    unit_id: int
    reported: Mode | None
    heard_epoch: int
    suspected_clone: bool
    held_since: datetime
    intent: Intent
    book: Docket

    @property
    def living(self) -> list[Command]:
        """The open commands that may still come to something.

        Nobody may have ended yet those whose life is over; and some are kept back for good.
        """
        return [
            command
            for command in self.book.all()
            if command.expires_at > self.book.now
            and not command.kept_back(held_since=self.held_since, suspected_clone=self.suspected_clone)
        ]

    def require_holding(self, unit: Unit) -> None:
        """Raise `ChangedHands` unless the unit is still whose it was when it was read."""
        if unit.held_since != self.held_since:
            raise ChangedHands(
                "This unit came to another entity just now; look again.", serial_number=unit.serial_number
            )

    @property
    def wished(self) -> Command | None:
        """The open mode command that counts."""
        return next((command for command in self.living if command.wishes), None)

    @property
    def pending(self) -> Mode | None:
        """What it is to become."""
        return self.wished.mode if self.wished else None

    def next_epoch(self) -> int:
        """Give an epoch above all that were given or, credibly, heard: a restored backup re-uses none."""
        return next_epoch(self.intent.epoch, self.heard_epoch, self.unit_id)


async def _stand(conn: Connection, unit_id: int, *, actor: str) -> _Stand:
    """Lock what a change of a unit's wishes needs, in the order of everybody."""
    of_unit = {"unit_id": unit_id}
    heard, [intent], opened, [told], [clock] = await at_once(
        conn,
        (SQL.heard, of_unit),
        (SQL.lock_intent, of_unit),
        (SQL.lock_open, of_unit),
        (SQL.told, of_unit),
        (docket.NOW, {}),
    )
    heard_epoch, reported = _heard(heard[0]) if heard else (0, None)
    book = Docket(map(Command.from_row, opened), now=clock["now"], actor=actor)
    return _Stand(
        unit_id=unit_id,
        reported=reported,
        heard_epoch=heard_epoch,
        intent=Intent.from_row(intent),
        book=book,
        **told,
    )


async def _stand_of(conn: Connection, command_id: UUID, *, actor: str) -> tuple[_Stand, Command]:
    """Lock everything of a command's unit, and give the command as it then stands."""
    found = await by_id(conn, command_id)
    stand = await _stand(conn, found.unit_id, actor=actor)
    return stand, stand.book.get(command_id) or await by_id(conn, command_id)


async def _carried_out(conn: Connection, stand: _Stand, wish: Wish) -> Command | None:
    """Give the command that carries this wish out: one under way, or the one by which it holds."""
    under_way = [command for command in stand.living if command.wish == wish]
    if under_way:
        return max(under_way, key=lambda command: command.wishes)
    others = any(command.mode for command in stand.living)
    known = stand.intent.floor <= stand.heard_epoch <= stand.intent.epoch
    if others or stand.reported is not wish.mode or not known:
        return None
    proven = stand.intent.proven
    holding = await row(conn, Command.from_row, SQL.holding, unit_id=stand.unit_id, proven=proven)
    return holding if holding and holding.wish == wish and stand.intent.desired is wish.mode else None


def _supersede(book: Docket, by: UUID, *, waiting_only: bool = False) -> None:
    """Let a newer wish take the place of open ones; a wish that waits for approval, only of such."""
    for old in book.all():
        if old.mode is None or not old.open or old.id == by or (waiting_only and old.wishes):
            continue
        book.move(old, State.SUPERSEDED, "superseded", evidence={"by": str(by)})


async def write_down(conn: Connection, deed: Deed, action: str, before: Command, after: Command) -> None:
    """Put what somebody did to a command into the audit."""
    await audit.write(
        conn,
        deed,
        action,
        "command",
        before.id,
        before={"state": before.state},
        after={"state": after.state, "epoch": after.epoch},
    )


async def _tell_order(conn: Connection, deed: Deed, unit: Unit, command: Command, *, new: bool) -> None:
    """Put an order into the audit, and whether it made the command that carries it out."""
    told = {
        "serial_number": unit.serial_number,
        "command": str(command.id),
        "kind": command.kind,
        "mode": command.mode,
        "after_s": command.after_s,
        "epoch": command.epoch,
        "new": new,
    }
    await audit.write(conn, deed, "order_command", "unit", unit.id, after=told)


def _heard(row: DictRow) -> tuple[int, Mode | None]:
    """Read epoch and mode of a unit's newest report; a unit that only told of its presence has none."""
    return (0, None) if row["mode"] is None else (row["epoch"], CODES[row["mode"]])


def next_epoch(given: int, heard: int, unit_id: int) -> int:
    """Give the epoch after the last given and, if credible, the last heard; raises `EpochsExhausted`."""
    epoch = 1 + max(given, heard if heard <= ADOPTED_EPOCH_MAX else 0)
    if epoch > UINT32:
        raise EpochsExhausted("This unit has used up its epochs.", unit_id=unit_id)
    return epoch
