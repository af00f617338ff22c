"""Which engine keeps the heartbeats, and that a database never changes its engine unnoticed."""

from __future__ import annotations

from enum import StrEnum

from storage.errors import WrongEngine
from storage.sql import Connection, load, value

SQL = load(__file__)


class Engine(StrEnum):
    """What differs is in migrations named `NNNN_name.<engine>.sql`; everything else is shared."""

    PLAIN = "plain"
    """Daily range partitions of PostgreSQL itself."""

    TIMESCALE = "timescale"
    """A hypertable; the extension must have been created in this database by its administrator."""


async def present(conn: Connection) -> Engine:
    """Tell which engine this database offers."""
    return Engine.TIMESCALE if await value(conn, SQL.has_timescale) else Engine.PLAIN


async def chosen(conn: Connection) -> Engine | None:
    """Tell which engine the first migration chose; None before that."""
    found = await value(conn, SQL.chosen)
    return None if found is None else Engine(found)


async def choose(conn: Connection) -> Engine:
    """Give the engine of this database, choosing it at the first migration.

    Raises `WrongEngine` when the extension came or went since: its tables are of the other form.
    """
    offered = await present(conn)
    kept = await value(conn, SQL.choose, engine=offered)
    if kept != offered:
        raise WrongEngine(
            f"The database was set up with the {kept} engine and now offers {offered}.",
            chosen=kept,
            offered=str(offered),
        )
    return offered
