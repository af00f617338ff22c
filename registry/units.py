"""Which units exist: IMEI, serial number, entity and state, found by any of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from psycopg.rows import DictRow

from protocol.identity import Imei, SerialNumber
from registry.lifecycle import Lifecycle
from registry.permissions import Scope, listed
from runtime.errors import Invalid, NotFound
from storage.arrays import texts
from storage.sql import Connection, load, row, rows, tuples

SQL = load(__file__)
T = TypeVar("T")


class UnitNotFound(NotFound):
    """There is no such unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One control unit."""

    id: int
    imei: Imei
    serial_number: SerialNumber
    entity_id: int
    entity_name: str
    held_since: datetime
    product_type: str | None
    lifecycle: Lifecycle
    key_generation: int
    expected_interval_s: int
    enrolled_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which units a list is narrowed to."""

    entity_id: int | None = None
    serial_prefix: str = ""
    lifecycle: Lifecycle | None = None


ANY = Filter()


async def by_id(conn: Connection, unit_id: int) -> Unit | None:
    """Give the unit of a row id."""
    return await _one(conn, unit_id=unit_id)


async def by_imei(conn: Connection, imei: Imei) -> Unit | None:
    """Give the unit that carries an IMEI."""
    return await _one(conn, imei=imei)


async def by_serial(conn: Connection, serial_number: SerialNumber) -> Unit | None:
    """Give the unit that carries a serial number."""
    return await _one(conn, serial_number=serial_number)


async def by_identity(conn: Connection, text: str, *, scope: Scope) -> Unit:
    """Give the unit that people call so, by IMEI or serial number, if the scope holds it.

    Raises `UnitNotFound`, also for a text that can be neither and for a unit outside the scope:
    to the asker it is all the same.
    """
    unit = await _one(conn, imei=_name(Imei, text), serial_number=_name(SerialNumber, text))
    if unit is None or not (scope is None or unit.entity_id in scope):
        raise UnitNotFound("There is no unit of this IMEI or serial number.", given=text)
    return unit


async def page(
    conn: Connection, *, scope: Scope, wanted: Filter = ANY, after: str = "", limit: int = 50
) -> list[Unit]:
    """Give units of a scope in the order of their serial numbers, from the one behind `after` on."""
    prefix = wanted.serial_prefix.strip().upper()
    if not f"{prefix}{after}".isprintable():  # no serial number is like that, and PostgreSQL takes no NUL
        return []
    return await rows(
        conn,
        _unit,
        SQL.page,
        scope=listed(scope),
        after=after,
        limit=limit,
        entity_id=wanted.entity_id,
        serial_prefix=prefix,
        lifecycle=wanted.lifecycle,
    )


async def ids_by_imei(conn: Connection, imeis: Iterable[str]) -> dict[str, int]:
    """Tell which of these IMEIs are units of ours; a terminated one still is: its data is not lost."""
    return dict(await tuples(conn, SQL.ids_by_imei, imeis=texts(imeis)))


async def _one(
    conn: Connection,
    *,
    unit_id: int | None = None,
    imei: Imei | None = None,
    serial_number: SerialNumber | None = None,
) -> Unit | None:
    return await row(conn, _unit, SQL.one, unit_id=unit_id, imei=imei, serial_number=serial_number)


def _name(kind: Callable[[str], T], text: str) -> T | None:
    try:
        return kind(text)
    except Invalid:
        return None


def _unit(found: DictRow) -> Unit:
    return Unit(
        id=found["id"],
        imei=Imei(found["imei"]),
        serial_number=SerialNumber(found["serial_number"]),
        entity_id=found["entity_id"],
        entity_name=found["entity_name"],
        held_since=found["held_since"],
        product_type=found["product_type"],
        lifecycle=Lifecycle(found["lifecycle"]),
        key_generation=found["key_generation"],
        expected_interval_s=found["expected_interval_s"],
        enrolled_at=found["enrolled_at"],
    )
