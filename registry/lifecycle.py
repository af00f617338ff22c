"""The life of a unit: the nine states as the field publishes them, and the moves between them.

A move that is not in the table is refused, whoever asks. TERMINATED is final; a unit taken back
from a customer goes through repair instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from psycopg.rows import DictRow

from registry import audit
from registry.audit import Deed
from runtime.errors import Conflict
from storage.sql import Connection, execute, load, rows

SQL = load(__file__)


class Lifecycle(StrEnum):
    """Where a unit stands in its life."""

    NON_EXISTANT = "NON_EXISTANT"
    """Before registration; the field's own spelling."""

    STORED = "STORED"
    SHIPPED = "SHIPPED"
    ACTIVATING = "ACTIVATING"
    """Deprecated by the field; only passed through on the way to ACTIVATED."""

    ACTIVATED = "ACTIVATED"
    MONITORED = "MONITORED"
    UNMONITORED = "UNMONITORED"
    IN_REPAIR_SYSTEM = "IN_REPAIR_SYSTEM"
    TERMINATED = "TERMINATED"


_S = Lifecycle
MOVES: Mapping[Lifecycle, frozenset[Lifecycle]] = {
    _S.NON_EXISTANT: frozenset({_S.STORED}),
    _S.STORED: frozenset({_S.SHIPPED, _S.TERMINATED}),
    _S.SHIPPED: frozenset({_S.ACTIVATING, _S.ACTIVATED, _S.IN_REPAIR_SYSTEM, _S.TERMINATED}),
    _S.ACTIVATING: frozenset({_S.ACTIVATED, _S.IN_REPAIR_SYSTEM, _S.TERMINATED}),
    _S.ACTIVATED: frozenset({_S.MONITORED, _S.UNMONITORED, _S.IN_REPAIR_SYSTEM, _S.TERMINATED}),
    _S.MONITORED: frozenset({_S.UNMONITORED, _S.IN_REPAIR_SYSTEM, _S.TERMINATED}),
    _S.UNMONITORED: frozenset({_S.MONITORED, _S.IN_REPAIR_SYSTEM, _S.TERMINATED}),
    _S.IN_REPAIR_SYSTEM: frozenset({_S.ACTIVATED, _S.TERMINATED}),
    _S.TERMINATED: frozenset(),
}


class MoveNotAllowed(Conflict):
    """The unit's lifecycle does not allow this move."""


class MovedMeanwhile(Conflict):
    """The unit was moved by somebody else in the meantime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One move that was made."""

    from_state: Lifecycle
    to_state: Lifecycle
    changed_at: datetime
    changed_by: str
    reason: str


def require_move(before: Lifecycle, to: Lifecycle) -> None:
    """Raise `MoveNotAllowed`, naming both states and what would be possible, unless the table has it."""
    if to not in MOVES[before]:
        possible = sorted(MOVES[before])
        raise MoveNotAllowed(
            f"A unit cannot move from {before} to {to}; from {before} it can go to "
            f"{', '.join(possible) or 'no other state'}.",
            from_state=before,
            to_state=to,
            allowed=possible,
        )


async def move(conn: Connection, unit_id: int, before: Lifecycle, to: Lifecycle, deed: Deed) -> None:
    """Move a unit from the state in which the caller saw it.

    Raises `MoveNotAllowed`, or `MovedMeanwhile` when it stands elsewhere by now.
    """
    deed.require_reason()
    require_move(before, to)
    moved = await execute(
        conn,
        SQL.move,
        unit_id=unit_id,
        before=before,
        to=to,
        now=deed.now,
        by=deed.by.email,
        reason=deed.reason,
    )
    if not moved:
        raise MovedMeanwhile(
            f"The unit is no longer {before}; look at it again before moving it.",
            from_state=before,
            to_state=to,
        )
    await audit.write(
        conn, deed, "unit_moved", "unit", unit_id, before={"lifecycle": before}, after={"lifecycle": to}
    )


async def changes(conn: Connection, unit_id: int) -> list[Change]:
    """Give every move of a unit, oldest first."""
    return await rows(conn, _change, SQL.changes, unit_id=unit_id)


def _change(found: DictRow) -> Change:
    return Change(
        from_state=Lifecycle(found["from_state"]),
        to_state=Lifecycle(found["to_state"]),
        changed_at=found["changed_at"],
        changed_by=found["changed_by"],
        reason=found["reason"],
    )
