"""The record of who did what, to which object, why and from where; written with the deed itself.

Rows are only ever added. Passwords, tokens and keys never stand in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from registry import wording
from registry.permissions import Caller
from storage.sql import Connection, execute, load, rows

SQL = load(__file__)

Facts = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Who does something, when and why; what is done stands with the function that takes it."""

    by: Caller
    now: datetime
    reason: str = ""

    def __post_init__(self) -> None:
        if self.reason.strip():
            object.__setattr__(self, "reason", wording.reason(self.reason))

    def require_reason(self) -> None:
        """Raise `BadText` unless a reason is given."""
        wording.reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One deed as it was recorded."""

    id: int
    at: datetime
    actor: str
    action: str
    object_kind: str
    object_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str
    origin: str


async def write(
    conn: Connection,
    deed: Deed,
    action: str,
    object_kind: str,
    object_id: object,
    *,
    before: Facts | None = None,
    after: Facts | None = None,
) -> None:
    """Add a row, in the transaction of the change it tells of."""
    await execute(
        conn,
        SQL.write,
        at=deed.now,
        actor=deed.by.email,
        action=action,
        object_kind=object_kind,
        object_id=str(object_id),
        before=None if before is None else Jsonb(before),
        after=None if after is None else Jsonb(after),
        reason=deed.reason,
        origin=deed.by.origin,
    )


async def of_object(conn: Connection, object_kind: str, object_id: object) -> list[Entry]:
    """Give everything that was done to one object, oldest first."""
    return await rows(conn, _entry, SQL.of_object, object_kind=object_kind, object_id=str(object_id))


def _entry(found: DictRow) -> Entry:
    return Entry(**found)
