"""What somebody should look at: what a unit's own counters say against it, until a person has resolved it.

At most one of a kind is open for a unit; the same again counts up, with the newest evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from psycopg.rows import DictRow

from protocol.identity import Imei, SerialNumber
from registry import audit
from registry.audit import Deed
from registry.permissions import Level, Scope, listed
from runtime.errors import NotFound
from storage.arrays import int4s, int8s, jsonbs, texts
from storage.sql import Connection, execute, load, row, rows

SQL = load(__file__)


class AlertNotFound(NotFound):
    """There is no such alert."""


class Kind(StrEnum):
    """What is wrong."""

    MEMORY_LOST = "memory_lost"
    """The unit counts its boots anew without having drawn a new life: a later life was begun for it."""

    TWO_UNITS = "two_units"
    """Two lines of heartbeats are heard in turn under one IMEI: two units, or one that was copied."""

    COUNTER_JUMP = "counter_jump"
    """Boots or numbers leap further than a unit can count; what leaps is a dead letter."""

    TOO_MANY_LIVES = "too_many_lives"
    """The unit drew more lives than are told apart; what it says under further ones is a dead letter."""


class Finding(NamedTuple):
    """Something about to be an alert; `evidence` in a form that JSON can carry."""

    unit_id: int
    kind: Kind
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert; open until it was resolved, by whom and why."""

    id: int
    unit_id: int
    imei: Imei
    serial_number: SerialNumber
    kind: Kind
    raised_at: datetime
    last_at: datetime
    times: int
    evidence: dict[str, Any]
    resolved_at: datetime | None
    resolved_by: str | None
    resolved_because: str | None

    @classmethod
    def from_row(cls, found: DictRow) -> Alert:
        """Build from a row of `unit_alert` with its unit's names."""
        names = {"imei": Imei(found["imei"]), "serial_number": SerialNumber(found["serial_number"])}
        return cls(**{**found, **names, "kind": Kind(found["kind"])})


async def raise_all(conn: Connection, findings: Iterable[Finding], *, now: datetime) -> Counter[Kind]:
    """Raise alerts or count them up, in one order everywhere; tell how many of each kind were raised."""
    by_name: dict[tuple[int, Kind], list[Finding]] = {}
    for finding in findings:
        by_name.setdefault((finding.unit_id, finding.kind), []).append(finding)
    if not by_name:
        return Counter()
    found = await rows(
        conn,
        lambda row: (Kind(row["kind"]), row["fresh"]),
        SQL.raise_all,
        now=now,
        unit_ids=int4s([unit_id for unit_id, _ in by_name]),
        kinds=texts([kind for _, kind in by_name]),
        times=int8s([len(same) for same in by_name.values()]),
        evidence=jsonbs([same[-1].evidence for same in by_name.values()]),
    )
    return Counter(kind for kind, fresh in found if fresh)


async def open_page(
    conn: Connection, *, scope: Scope, limit: int, before: int | None = None, kind: Kind | None = None
) -> list[Alert]:
    """List open alerts of a scope, newest first; `before` is the id of the last one of the page before."""
    return await rows(
        conn, Alert.from_row, SQL.open_page, scope=listed(scope), limit=limit, before=before, kind=kind
    )


async def of_unit(conn: Connection, unit_id: int, *, limit: int, before: int | None = None) -> list[Alert]:
    """List a unit's alerts, resolved ones too, newest first."""
    return await rows(conn, Alert.from_row, SQL.of_unit, unit_id=unit_id, limit=limit, before=before)


async def resolve(conn: Connection, number: int, deed: Deed, *, scope: Scope) -> Alert:
    """Close an alert, for a reason; one that is resolved already stays as it is.

    Takes the technical level. Raises `AlertNotFound` also for an alert outside the scope.
    """
    deed.by.require(Level.TECHNICAL)
    deed.require_reason()
    found = await row(conn, Alert.from_row, SQL.lock, id=number, scope=listed(scope))
    if found is None:
        raise AlertNotFound(f"There is no alert {number}.", id=number)
    if found.resolved_at is None:
        await execute(conn, SQL.resolve, id=number, now=deed.now, by=deed.by.email, because=deed.reason)
        after = {"alert": number, "kind": found.kind}
        await audit.write(conn, deed, "alert_resolved", "unit", found.unit_id, after=after)
        found = await row(conn, Alert.from_row, SQL.lock, id=number, scope=listed(scope)) or found
    return found


async def open_kinds(conn: Connection, unit_ids: Sequence[int]) -> dict[int, list[Kind]]:
    """Tell which kinds of alert are open for units; those without one are left out."""
    found = await rows(
        conn,
        lambda row: (row["unit_id"], [Kind(kind) for kind in row["kinds"]]),
        SQL.open_kinds,
        unit_ids=int4s(unit_ids),
    )
    return dict(found)
