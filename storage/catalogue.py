"""The schema as the catalogues tell it, sorted and without versions, to be compared with `schema.sql`."""

from __future__ import annotations

import psycopg

from runtime.settings import Database
from storage.pool import CONNECT_S
from storage.sql import load

SQL = load(__file__)


async def describe(settings: Database) -> str:
    """Write the schema down: domains, tables with columns and constraints, indexes, views and functions.

    Partitions are left out: they come and go with the days.
    """
    conn = await psycopg.AsyncConnection.connect(
        settings.owner_url, connect_timeout=CONNECT_S, options="-c timezone=UTC -c search_path=public"
    )
    async with conn:
        parts = []
        for query in (SQL.domains, SQL.tables, SQL.indexes, SQL.views, SQL.functions, SQL.triggers):
            found = await (await conn.execute(query)).fetchall()
            parts += [line for (line,) in found]
    return "\n".join(parts) + "\n"
