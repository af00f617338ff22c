"""Ordering the same of many units at once: what `ledger.order` does for one, in a dozen statements.

Each unit is judged anew under its locks: what a dry run saw may be hours old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from commands import docket, policy, selection
from commands.docket import Command, Docket, Ordering, Origin
from commands.ledger import EpochsExhausted, next_epoch
from commands.policy import Wish
from commands.selection import Exclusion, Facts
from commands.states import State
from registry.permissions import Scope
from runtime.settings import Commands
from storage.arrays import int4s
from storage.sql import Connection, execute, load, tuples

SQL = load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """On whose word a plan orders, why, and within which scope; the word is as old as `since`."""

    plan_id: UUID
    since: datetime
    by: str
    reason: str
    scope: Scope


async def order_all(
    conn: Connection, unit_ids: Sequence[int], wish: Wish, mandate: Mandate, settings: Commands
) -> dict[int, UUID | Exclusion]:
    """Queue a mode command for each unit that is still fit; tell of each unit which command, or why none.

    Locks statuses, intents and open commands, each in the order of ids; gives the next epochs and
    supersedes what is open. The audit is the plan's.
    """
    units = int4s(sorted(unit_ids))
    await selection.one_by_one(conn)
    heard = await tuples(conn, SQL.heard, unit_ids=units, contact_s=settings.command_contact_s)
    await execute(conn, SQL.make_intents, unit_ids=units)
    await execute(conn, SQL.lock_intents, unit_ids=units)
    book = await docket.lock(conn, SQL.lock_open, actor=mandate.by, unit_ids=units)
    found = await selection.facts(conn, sorted(unit_ids), mandate.scope)
    verdicts = {unit_id: _judge(wish, found.get(unit_id)) for unit_id in unit_ids}
    if wish.disables:
        verdicts |= await _changed_since(conn, verdicts, mandate)
    order = Ordering(
        by=mandate.by,
        reason=mandate.reason,
        now=book.now,
        life=policy.life(wish, settings),
        origin=Origin.PLAN,
        plan_id=mandate.plan_id,
    )
    # Who is away is waited for, as if a dispatcher had looked: that would be as much work again. A unit that
    # was never heard has no status to lock: its first contact may be under way, so a dispatcher looks.
    away = {unit_id for unit_id, may_listen in heard if not may_listen}
    made = [
        Command.new(
            unit_id,
            wish,
            order,
            held_since=found[unit_id].held_since,
            epoch=verdict,
            awaits_contact=unit_id in away,
        )
        for unit_id, verdict in verdicts.items()
        if isinstance(verdict, int)
    ]
    _supersede(book, {command.unit_id: command.id for command in made})
    for command in made:
        book.enter(command, evidence={"reason": mandate.reason, "plan": str(mandate.plan_id)})
    await book.write(conn)
    excluded = {unit_id: verdict for unit_id, verdict in verdicts.items() if isinstance(verdict, Exclusion)}
    return excluded | {command.unit_id: command.id for command in made}


async def _changed_since(
    conn: Connection, verdicts: Mapping[int, int | Exclusion], mandate: Mandate
) -> dict[int, Exclusion]:
    """Give those of the units that are fit which people wanted to be enabled since, or gave to others."""
    fit = int4s([unit_id for unit_id, verdict in verdicts.items() if not isinstance(verdict, Exclusion)])
    enabled = await tuples(conn, SQL.enabled_since, unit_ids=fit, since=mandate.since)
    moved = await tuples(conn, SQL.changed_hands, unit_ids=fit, plan_id=mandate.plan_id)
    return {unit_id: Exclusion.ENABLED_SINCE for (unit_id,) in enabled} | {
        unit_id: Exclusion.CHANGED_HANDS for (unit_id,) in moved
    }


def _judge(wish: Wish, unit: Facts | None) -> int | Exclusion:
    """Give the epoch of the command to be, or why there is to be none."""
    if unit is None:
        return Exclusion.UNKNOWN
    if refused := selection.judge(wish, unit):
        return refused
    try:
        return next_epoch(unit.given_epoch, unit.heard_epoch, unit.unit_id)
    except EpochsExhausted:
        return Exclusion.EPOCHS_EXHAUSTED


def _supersede(book: Docket, newer: dict[int, UUID]) -> None:
    """Let newer commands, by unit, take the place of open mode commands, approved or not."""
    for old in book.all():
        if old.mode is not None and old.unit_id in newer:
            book.move(old, State.SUPERSEDED, "superseded", evidence={"by": str(newer[old.unit_id])})
