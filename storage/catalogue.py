"""The schema as the catalogues tell it, sorted and without versions, to be compared with `schema.sql`."""

from __future__ import annotations

from runtime.settings import Database
from storage import dedicated
from storage.sql import load

SQL = load(__file__)


async def describe(settings: Database) -> str:
    """Write the schema down: domains, tables with columns and constraints, indexes, views and functions.

    Partitions are left out: they come and go with the days.
    """
    async with dedicated.connection(settings, owner=True) as conn:
        await conn.execute("SET search_path = public")
        parts = []
        for query in (SQL.domains, SQL.tables, SQL.indexes, SQL.views, SQL.functions, SQL.triggers):
            cursor = await conn.execute(query)
            parts += [line for columns in await cursor.fetchall() for line in columns.values()]
    return "\n".join(parts) + "\n"
