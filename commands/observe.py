"""What units' words mean for their commands: acks, reports and contacts, in the heartbeat's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from commands import docket
from commands.docket import Command, Docket
from commands.intent import Intent
from commands.reconcile import Word, reconcile
from commands.states import MOVES, State
from protocol.messages import Ack, AckResult, CommandKind, Mode
from runtime.settings import Commands
from storage.arrays import int4s, int8s, texts, uuids
from storage.sql import Connection, execute, load, rows

BAD_UNIT_CLOCK = "bad_unit_clock"
NO_END = frozenset({"stale_epoch", BAD_UNIT_CLOCK})
"""Reasons of a unit that do not end the wish: docket.sql :derive knows them too."""

REFUSAL_CHARS = 200
"""So much of a unit's reason is shown; all of it stands in the evidence."""

SQL = load(__file__)


class AckVerdict(StrEnum):
    """What an ack turned out to be."""

    NEWS = "news"
    REPEATED = "repeated"
    UNKNOWN = "unknown"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """An ack and the unit that sent it."""

    unit_id: int
    ack: Ack


class Reported(NamedTuple):
    """A unit's newest report: its epoch and mode, which heartbeat said so, and whether it came `live`."""

    unit_id: int
    epoch: int
    mode: Mode
    boot: int
    seq: int
    received_at: datetime
    live: bool = True


async def observe(
    conn: Connection,
    *,
    acks: Sequence[Acked],
    reports: Sequence[Reported],
    listening: Iterable[int],
    actor: str,
    settings: Commands,
) -> list[AckVerdict]:
    """Move the commands that these words concern; give a verdict for each ack, in order.

    `listening` are the units that spoke just now: what waits for them becomes due at once. The
    caller holds the locks on the units' status rows.
    """
    spoke = frozenset(listening)
    intents = await _concerned(conn, acks, reports, spoke)
    if not intents and not acks:
        return []
    book = await docket.lock(
        conn,
        SQL.lock,
        actor=actor,
        acked=uuids([acked.ack.command_id for acked in acks]),
        units=int4s(intents),
        reporting=int4s([report.unit_id for report in reports]),
        epochs=int8s([report.epoch for report in reports]),
    )
    waits = await _evidence_waits(conn, acks, settings) if acks else {}
    verdicts = [judge_ack(book, acked, waits.get(acked.unit_id, timedelta())) for acked in acks]
    judge_reports(book, reports)
    if hurry(book, spoke, settings):
        docket.wake(conn)
    await book.write(conn)
    if intents:
        words = [_reported(report) for report in reports] + _unwilling(book, acks, verdicts)
        await reconcile(conn, book, words, await _locked(conn, sorted(intents)), settings)
    return verdicts


async def _concerned(
    conn: Connection, acks: Sequence[Acked], reports: Sequence[Reported], spoke: frozenset[int]
) -> dict[int, Intent]:
    """Lock the intents of the units whose words may change anything; of most units none do."""
    answering = {acked.unit_id for acked in acks}
    found = await rows(
        conn,
        lambda row: int(row["unit_id"]),
        SQL.concerned,
        units=int4s(sorted(spoke | answering | {report.unit_id for report in reports})),
        reporting=int4s([report.unit_id for report in reports]),
        epochs=int8s([report.epoch for report in reports]),
        modes=texts([report.mode for report in reports]),
    )
    if not found:
        return {}
    intents = await _locked(conn, found)
    if len(intents) < len(found):
        await execute(conn, SQL.make_intents, unit_ids=int4s(found))
        intents = await _locked(conn, found)
    return intents


async def _locked(conn: Connection, unit_ids: Sequence[int]) -> dict[int, Intent]:
    found = await rows(conn, Intent.from_row, SQL.lock_intents, unit_ids=int4s(unit_ids))
    return {intent.unit_id: intent for intent in found}


def judge_ack(book: Docket, acked: Acked, wait: timedelta) -> AckVerdict:
    """Take an ack in; it never moves a command of another unit, nor one that has reached its end.

    `wait` is for how long the heartbeat that proves it is awaited.
    """
    ack = acked.ack
    command = book.get(ack.command_id)
    if command is None:
        return AckVerdict.UNKNOWN
    if command.unit_id != acked.unit_id:
        return AckVerdict.FOREIGN
    refused = ack.result is AckResult.REFUSED
    to = State.REFUSED if refused else _applied(command)
    if command.attempt == 0 or to not in MOVES[command.state]:
        if command.state is to or (command.state is State.CONFIRMED and not refused):
            return AckVerdict.REPEATED
        return _note_late(book, command, "late_ack", _told(ack))
    if refused:
        book.move(command, to, "unit_refused", evidence=_told(ack), refusal=_refusal(command, ack, book.now))
    else:
        book.move(command, to, "unit_applied", evidence=_told(ack), due_at=book.now + wait)
    return AckVerdict.NEWS


def judge_reports(book: Docket, reports: Iterable[Reported]) -> None:
    """Confirm what the units themselves report, whether or not an ack was heard."""
    by_unit = {report.unit_id: report for report in reports}
    for command in book.all():
        report = by_unit.get(command.unit_id)
        if report is None or command.attempt == 0 or command.kind is not CommandKind.SET_MODE:
            continue
        if (command.epoch, command.mode) != (report.epoch, report.mode):
            continue
        if State.CONFIRMED in MOVES[command.state]:
            book.move(command, State.CONFIRMED, "unit_reported", evidence=_proof(report))
        elif command.state is not State.CONFIRMED:
            _note_late(book, command, "late_report", _proof(report))


def hurry(book: Docket, listening: frozenset[int], settings: Commands) -> bool:
    """Make due what waits for units that listen now, a pause after its last attempt; tell if any did."""
    pause = timedelta(seconds=settings.command_pause_s)
    hurried = False
    for command in book.all():
        if command.state is not State.QUEUED or command.unit_id not in listening:
            continue
        earliest = book.now if command.attempted_at is None else command.attempted_at + pause
        due_at = max(book.now, earliest)
        if due_at < command.due_at:
            book.change(command, due_at=due_at)
            hurried = True
    return hurried


def _note_late(book: Docket, command: Command, event: str, evidence: dict[str, Any]) -> AckVerdict:
    """Write down once that a unit did what nobody waits for any more."""
    if command.acknowledged_at is not None:
        return AckVerdict.REPEATED
    book.note(command, event, evidence=evidence)
    book.change(command, acknowledged_at=book.now)
    return AckVerdict.NEWS


def _refusal(command: Command, ack: Ack, now: datetime) -> str:
    """Give the unit's reason; one that calls a living command expired has a wrong clock."""
    if ack.reason == "expired" and now < command.expires_at:
        return BAD_UNIT_CLOCK
    return (ack.reason or "not told")[:REFUSAL_CHARS]


def _reported(report: Reported) -> Word:
    return Word(
        report.unit_id, report.epoch, report.mode, report.live, refused=False, evidence=_proof(report)
    )


def _unwilling(book: Docket, acks: Sequence[Acked], verdicts: Sequence[AckVerdict]) -> list[Word]:
    """Give the acks that refused just now for a reason that is no end of the wish."""
    words = []
    for acked, verdict in zip(acks, verdicts, strict=True):
        command = book.get(acked.ack.command_id)
        if verdict is AckVerdict.NEWS and command and command.refusal in NO_END and command.mode is not None:
            told = _told(acked.ack) | {"command": str(command.id)}
            ack = acked.ack
            words.append(Word(acked.unit_id, ack.epoch, ack.mode, live=True, refused=True, evidence=told))
    return words


def _proof(report: Reported) -> dict[str, Any]:
    return {
        "epoch": report.epoch,
        "mode": str(report.mode),
        "boot": report.boot,
        "seq": report.seq,
        "received_at": report.received_at.isoformat(),
    }


async def _evidence_waits(
    conn: Connection, acks: Sequence[Acked], settings: Commands
) -> dict[int, timedelta]:
    """Tell how long each unit may take to prove what it says that it did."""
    factor = settings.command_evidence_intervals
    found = await rows(
        conn,
        lambda row: (row["unit_id"], timedelta(seconds=factor * row["expected_interval_s"])),
        SQL.intervals,
        unit_ids=[acked.unit_id for acked in acks],
    )
    return dict(found)


def _applied(command: Command) -> State:
    """Give where an applied ack leads: a ping is done with it, a mode needs the heartbeat as evidence."""
    return State.CONFIRMED if command.kind is CommandKind.PING else State.ACKNOWLEDGED


def _told(ack: Ack) -> dict[str, Any]:
    return ack.model_dump(mode="json", exclude={"v", "command_id"}, exclude_none=True)
