"""Where units contradict what is wanted of them: kept with evidence, closed by accord or by people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg.rows import DictRow

from commands.intent import Cause
from protocol.identity import Imei, SerialNumber
from protocol.messages import Mode
from registry import audit
from registry.audit import Deed
from registry.permissions import Level, Scope, listed
from runtime.errors import NotFound
from storage.arrays import int4s, int8s, jsonbs, texts
from storage.sql import Connection, execute, load, row, rows

SQL = load(__file__)


class DriftNotFound(NotFound):
    """There is no such drift."""


class Resolution(StrEnum):
    """How a drift ended."""

    IN_ACCORD = "in_accord"
    """The unit's own report agrees again."""

    SENT_AGAIN = "sent_again"
    """Somebody ordered what was wanted once more."""

    ACCEPTED = "accepted"
    """Somebody made the wish what the unit reports."""

    DISMISSED = "dismissed"
    """Somebody looked, and nothing is to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A report that is not in accord, as it came."""

    unit_id: int
    cause: Cause
    desired: Mode | None
    reported_mode: Mode
    reported_epoch: int
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What stands of a finding: how often the wish was sent for it, and whether that was given up."""

    id: int
    sendings: int
    gave_up: bool
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One contradiction, open or closed; `seen_at` is its newest evidence's time."""

    id: int
    unit_id: int
    imei: Imei
    serial_number: SerialNumber
    cause: Cause
    opened_at: datetime
    seen_at: datetime
    desired: Mode | None
    reported_mode: Mode
    reported_epoch: int
    evidence: dict[str, Any]
    sendings: int
    gave_up_at: datetime | None
    closed_at: datetime | None
    closed_by: str | None
    resolution: Resolution | None
    reason: str | None

    @classmethod
    def from_row(cls, row: DictRow) -> Drift:
        """Build from a row of `drift`."""
        desired, resolution = row["desired"], row["resolution"]
        typed = {
            "imei": Imei(row["imei"]),
            "serial_number": SerialNumber(row["serial_number"]),
            "cause": Cause(row["cause"]),
            "desired": None if desired is None else Mode(desired),
            "reported_mode": Mode(row["reported_mode"]),
            "resolution": None if resolution is None else Resolution(resolution),
        }
        return cls(**row | typed)


async def note(
    conn: Connection, findings: Sequence[Finding], *, memory_s: float
) -> dict[tuple[int, Cause], Noted]:
    """Write findings down, each once while it is open; the units' intents are locked.

    What came to accord less than `memory_s` seconds ago and begins again goes on: it was not over.
    """
    names = {
        "unit_ids": int4s([finding.unit_id for finding in findings]),
        "causes": texts([finding.cause for finding in findings]),
        "desired": texts([finding.desired for finding in findings]),
    }
    await execute(conn, SQL.reopen, **names, memory_s=memory_s)
    found = await rows(
        conn,
        lambda row: ((row.pop("unit_id"), Cause(row.pop("cause"))), Noted(**row)),
        SQL.note,
        **names,
        modes=texts([finding.reported_mode for finding in findings]),
        epochs=int8s([finding.reported_epoch for finding in findings]),
        evidence=jsonbs([finding.evidence for finding in findings]),
    )
    return dict(found)


async def count(conn: Connection, *, sent: Collection[int], given_up: Collection[int]) -> None:
    """Write down for which drifts the wish was sent once more, and which are a person's from now on."""
    await execute(conn, SQL.count, sent=[*sent], given_up=[*given_up])


async def flag(conn: Connection, unit_ids: Iterable[int]) -> None:
    """Let the intents of units, which are locked, tell whether a drift is open that accord ends."""
    await execute(conn, SQL.flag, unit_ids=int4s(sorted(unit_ids)), causes=_self_ending())


async def agree(conn: Connection, unit_ids: Iterable[int], *, actor: str) -> None:
    """Close what accord ends of units whose reports agree again; their intents are locked."""
    agreed = int4s(sorted(unit_ids))
    await execute(conn, SQL.agree, unit_ids=agreed, causes=_self_ending(), by=actor)
    await execute(conn, SQL.flag, unit_ids=agreed, causes=_self_ending())


async def open_page(
    conn: Connection,
    *,
    scope: Scope,
    limit: int,
    after: int = 0,
    cause: Cause | None = None,
    given_up: bool | None = None,
) -> list[Drift]:
    """List open drifts of a scope, oldest first, behind the one of id `after`."""
    return await rows(
        conn,
        Drift.from_row,
        SQL.open_page,
        scope=listed(scope),
        limit=limit,
        after=after,
        cause=cause,
        given_up=given_up,
    )


async def of_unit(conn: Connection, unit_id: int, *, limit: int, before: int | None = None) -> list[Drift]:
    """List a unit's drifts, closed ones too, newest first."""
    return await rows(conn, Drift.from_row, SQL.of_unit, unit_id=unit_id, limit=limit, before=before)


async def by_id(conn: Connection, number: int, *, scope: Scope) -> Drift:
    """Give one; raises `DriftNotFound` also for one outside the scope."""
    found = await row(conn, Drift.from_row, SQL.by_id, id=number, scope=listed(scope))
    if found is None:
        raise DriftNotFound(f"There is no drift {number}.", id=number)
    return found


async def in_order(conn: Connection, ids: Iterable[int]) -> list[int]:
    """Give ids in the order in which their units are locked by everybody; those that are not there last."""
    wanted = sorted(set(ids))
    there = await known(conn, wanted)
    return there + [number for number in wanted if number not in there]


async def known(conn: Connection, ids: Iterable[int]) -> list[int]:
    """Give those of the ids that are drifts, whoever's, in the order of their units."""
    return await rows(conn, lambda row: int(row["id"]), SQL.in_order, ids=int8s(ids))


async def close(conn: Connection, drift: Drift, resolution: Resolution, deed: Deed) -> Drift:
    """Close a drift for a reason; one that is closed already stays as it is.

    Takes the technical level; what is sent because of it is an order of its own.
    """
    deed.by.require(Level.TECHNICAL)
    deed.require_reason()
    await execute(conn, SQL.lock_intent, unit_id=drift.unit_id)
    told = {"by": deed.by.email, "resolution": resolution, "reason": deed.reason}
    if await execute(conn, SQL.close, id=drift.id, **told):
        await flag(conn, [drift.unit_id])
        after = {"drift": drift.id, "cause": drift.cause, "resolution": resolution}
        after |= {"serial_number": drift.serial_number}
        await audit.write(conn, deed, "drift_resolved", "unit", drift.unit_id, after=after)
    return await by_id(conn, drift.id, scope=deed.by.scope)


def _self_ending() -> list[str]:
    return [str(cause) for cause in Cause if not cause.needs_person]
