"""Which entity held a unit, and when; the open row says the same as the unit itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from registry import audit, entities
from registry.audit import Deed
from registry.units import Unit
from runtime.errors import Conflict
from storage.sql import Connection, execute, load, rows, value

SQL = load(__file__)


class HeldAlready(Conflict):
    """The unit belongs to this entity already."""


class ReassignedTooEarly(Conflict):
    """The unit came to its present entity after the moment given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One stretch of time in which an entity held a unit; open while it still does."""

    entity_id: int
    entity_name: str
    started_at: datetime
    ended_at: datetime | None


async def reassign(conn: Connection, unit: Unit, entity_id: int, deed: Deed) -> None:
    """Give a unit to another entity from the deed's moment on.

    Raises `EntityNotFound`, `HeldAlready`, `ReassignedTooEarly`.
    """
    deed.require_reason()
    await entities.require(conn, {entity_id}, scope=deed.by.scope)
    # The unit's row is locked first, so that of two calls at once the second sees the first one's dates.
    before = await value(conn, SQL.give, unit_id=unit.id, entity_id=entity_id)
    if before is None:
        raise HeldAlready(f"{unit.serial_number} belongs to entity {entity_id} already.", entity_id=entity_id)
    if not await execute(conn, SQL.turn, unit_id=unit.id, entity_id=entity_id, now=deed.now):
        raise ReassignedTooEarly(
            f"{unit.serial_number} came to entity {before} later than that; the past cannot be given away.",
            entity_id=before,
        )
    await audit.write(
        conn,
        deed,
        "unit_reassigned",
        "unit",
        unit.id,
        before={"entity_id": before},
        after={"entity_id": entity_id},
    )


async def entity_at(conn: Connection, unit_id: int, when: datetime) -> int | None:
    """Tell which entity held a unit at a moment; None before it was enrolled."""
    held: int | None = await value(conn, SQL.entity_at, unit_id=unit_id, at=when)
    return held


async def history(conn: Connection, unit_id: int) -> list[Holding]:
    """Give every entity that held a unit, oldest first."""
    return await rows(conn, _holding, SQL.history, unit_id=unit_id)


def _holding(found: DictRow) -> Holding:
    return Holding(**found)
