"""What follows from a report that is not in accord with what is wanted: a drift, and the wish sent again.

Enables go by themselves. What takes power away goes by itself while the unit's epochs make sense;
where they went back or ahead it may be another unit, another home, or a database of yesterday: then
a person decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from prometheus_client import Counter

from commands import drift, policy
from commands.docket import Command, Docket, Ordering, Origin
from commands.drift import Finding, Noted
from commands.intent import Cause, Intent
from commands.ledger import next_epoch
from commands.policy import ADOPTED_EPOCH_MAX, Wish
from protocol.messages import CommandKind, Mode
from registry.lifecycle import Lifecycle
from runtime.settings import Commands
from storage.arrays import int4s, int8s
from storage.sql import Connection, execute, load, rows

BY = "heliograph"
"""Who orders what follows from wishes that were given up, and closes what came to accord."""

DRIFTS = Counter("heliograph_drifts_total", "contradictions between units and wishes that began", ["cause"])
GIVEN_UP = Counter("heliograph_drifts_given_up_total", "contradictions that wait for a person")

SQL = load(__file__)
log = structlog.get_logger()


class Word(NamedTuple):
    """What a unit says of itself: in a report, or (`refused`) in an ack that did not obey."""

    unit_id: int
    epoch: int
    mode: Mode
    live: bool
    refused: bool
    evidence: dict[str, Any]


async def reconcile(
    conn: Connection,
    book: Docket,
    words: Iterable[Word],
    intents: Mapping[int, Intent],
    settings: Commands,
) -> None:
    """Hold the units' words against what is wanted; intents and commands of these units are locked.

    What a unit reports above the last epoch that was given is adopted, so that no epoch is used twice.
    """
    by_unit = {word.unit_id: word for word in words if word.unit_id in intents}
    busy = {command.unit_id for command in book.all() if _keeps_back(command, intents)}
    causes = {unit_id: _cause(word, intents[unit_id]) for unit_id, word in by_unit.items()}
    findings = [
        _finding(by_unit[unit_id], cause, intents[unit_id])
        for unit_id, cause in causes.items()
        if cause and (cause.needs_person or unit_id not in busy)
    ]
    agreed = [unit_id for unit_id, cause in causes.items() if cause is None and by_unit[unit_id].live]
    if agreed := [unit_id for unit_id in agreed if intents[unit_id].drifted]:
        await drift.agree(conn, agreed, actor=BY)
    if findings:
        await _adopt(conn, by_unit.values(), intents)
        noted = await drift.note(conn, findings, memory_s=settings.command_drift_memory_s)
        fitness = await _fitness(conn, findings)
        await _answer(conn, book, findings, noted, intents, fitness, busy=busy, settings=settings)
        await drift.flag(conn, {finding.unit_id for finding in findings})


def _keeps_back(command: Command, intents: Mapping[int, Intent]) -> bool:
    """Whether no wish is sent again while this command is open; what waits for approval stops no enable."""
    if command.wishes:
        return True
    waits = command.open and command.mode is not None
    return waits and command.unit_id in intents and intents[command.unit_id].desired is not Mode.ENABLED


def _cause(word: Word, intent: Intent) -> Cause | None:
    """Give why a word is not in accord; what waited on its way says nothing of now, but of epochs."""
    if word.refused:
        return _unwilling(word, intent)
    cause = intent.contradicted(epoch=word.epoch, mode=word.mode)
    return cause if word.live or cause in {Cause.EPOCH_AHEAD, Cause.EPOCH_ABSURD} else None


def _unwilling(word: Word, intent: Intent) -> Cause | None:
    """Give why a wish was refused; who is ahead of us is not switched off without a person's word."""
    if intent.desired is None:
        return None
    ahead = word.epoch > intent.given and intent.desired is not Mode.ENABLED
    return Cause.EPOCH_AHEAD if ahead else Cause.NOT_OBEYED


def _finding(word: Word, cause: Cause, intent: Intent) -> Finding:
    return Finding(
        unit_id=word.unit_id,
        cause=cause,
        desired=intent.desired,
        reported_mode=word.mode,
        reported_epoch=word.epoch,
        evidence=word.evidence
        | {
            "given": intent.given,
            "adopted": intent.epoch,
            "proven": intent.proven,
            "floor": intent.floor,
        },
    )


async def _adopt(conn: Connection, words: Iterable[Word], intents: Mapping[int, Intent]) -> None:
    ahead = [word for word in words if intents[word.unit_id].epoch < word.epoch <= ADOPTED_EPOCH_MAX]
    if ahead:
        await execute(
            conn,
            SQL.adopt,
            unit_ids=int4s([word.unit_id for word in ahead]),
            epochs=int8s([word.epoch for word in ahead]),
        )


class _Fitness(NamedTuple):
    """What a unit's wish is held against before it is sent by itself.

    `doubtful` when a person must see it first, before it is switched off: it may be two, or is somebody
    else's by now.
    """

    lifecycle: Lifecycle
    held_since: datetime
    doubtful: bool

    def admits(self, desired: Mode | None) -> bool:
        """Whether it may be sent: nothing to who is gone, nothing dark to who is in repair."""
        in_repair = self.lifecycle is Lifecycle.IN_REPAIR_SYSTEM
        return self.lifecycle is not Lifecycle.TERMINATED and (desired is Mode.ENABLED or not in_repair)


async def _fitness(conn: Connection, findings: Iterable[Finding]) -> dict[int, _Fitness]:
    found = await rows(
        conn,
        lambda row: (
            int(row["id"]),
            _Fitness(
                Lifecycle(row["lifecycle"]), row["held_since"], bool(row["suspected_clone"] or row["moved"])
            ),
        ),
        SQL.fitness,
        unit_ids=int4s([finding.unit_id for finding in findings]),
    )
    return dict(found)


async def _answer(
    conn: Connection,
    book: Docket,
    findings: Sequence[Finding],
    noted: Mapping[tuple[int, Cause], Noted],
    intents: Mapping[int, Intent],
    fitness: Mapping[int, _Fitness],
    *,
    busy: set[int],
    settings: Commands,
) -> None:
    """Send the wish once more where nothing is under way, until it was sent often enough."""
    sent, given_up = [], []
    for finding in findings:
        found = noted[finding.unit_id, finding.cause]
        if found.fresh:
            DRIFTS.labels(finding.cause).inc()
        fit = fitness[finding.unit_id]
        if finding.desired is None or finding.unit_id in busy or found.gave_up:
            continue
        if not fit.admits(finding.desired):
            continue
        if found.sendings >= settings.command_drift_sendings:
            given_up.append(found.id)
            GIVEN_UP.inc()
            log.warning("drift_given_up", unit_id=finding.unit_id, cause=finding.cause, drift=found.id)
            continue
        intent = intents[finding.unit_id]
        doubted = finding.cause.needs_person or fit.doubtful or intent.doubted
        command = _again(finding, intent, book, settings, held_since=fit.held_since, doubted=doubted)
        book.enter(command, evidence={"drift": found.id, "cause": finding.cause})
        sent.append(found.id)
    await book.write(conn)
    if sent or given_up:
        await drift.count(conn, sent=sent, given_up=given_up)


def _again(
    finding: Finding,
    intent: Intent,
    book: Docket,
    settings: Commands,
    *,
    held_since: datetime,
    doubted: bool,
) -> Command:
    """Make the command that sends a wish once more, under a newer epoch; if `doubted`, only lit by itself."""
    wish = Wish(kind=CommandKind.SET_MODE, mode=intent.desired, after_s=intent.after_s)
    awaits = wish.disables and doubted
    ordering = Ordering(
        by=intent.wished_by or BY,
        reason=f"{finding.cause}: the unit reports {finding.reported_mode}, epoch {finding.reported_epoch}",
        now=book.now,
        life=policy.life(wish, settings),
        origin=Origin.INTENT,
    )
    epoch = 0 if awaits else next_epoch(intent.epoch, finding.reported_epoch, finding.unit_id)
    return Command.new(
        finding.unit_id, wish, ordering, held_since=held_since, epoch=epoch, awaits_approval=awaits
    )
