"""A million units registered at once: what the import would write, in three statements.

They are as those that were enrolled one by one, but for the hash of a password that nobody has,
and without a line of audit each.
"""

from __future__ import annotations

import psycopg

from bench.stack import Stack, imei
from deploy.local.postgres import Role
from protocol.identity import Imei
from registry.logins import broker_hash

GIVEN = "CREATE TEMPORARY TABLE given (imei text, serial_number text)"
COPY = "COPY given FROM STDIN"
REGISTER = (
    """
    INSERT INTO unit (imei, serial_number, broker_login)
    SELECT imei, serial_number, %(login)s FROM given
    """,
    """
    INSERT INTO unit_entity (unit_id, entity_id, started_at)
    SELECT id, entity_id, enrolled_at FROM unit JOIN given USING (imei)
    """,
    """
    INSERT INTO lifecycle_change (unit_id, from_state, to_state, changed_at, changed_by, reason)
    SELECT id, 'NON_EXISTANT', lifecycle, enrolled_at, 'bench', 'to be measured'
      FROM unit JOIN given USING (imei)
    """,
)
SETTLE = (
    "VACUUM (ANALYZE) unit",
    "VACUUM (ANALYZE) unit_entity",
    "VACUUM (ANALYZE) lifecycle_change",
    "CHECKPOINT",
)
KNOWN = "SELECT imei, id FROM unit ORDER BY id"


async def register(stack: Stack, number: int) -> dict[Imei, int]:
    """Register so many units and let the database come to rest; gives their row ids."""
    everyone = [imei(place) for place in range(number)]
    async with await psycopg.AsyncConnection.connect(
        stack.database.url(Role.SUPERUSER), autocommit=True
    ) as conn:
        await conn.execute(GIVEN)
        async with conn.cursor() as cursor, cursor.copy(COPY) as copy:
            for place, name in enumerate(everyone):
                await copy.write_row((str(name), f"BENCH-{place:08}"))
        for statement in REGISTER:
            await conn.execute(statement.encode(), {"login": broker_hash("nobody's")})
        for statement in SETTLE:
            await conn.execute(statement.encode())
        known: dict[str, int] = dict(await (await conn.execute(KNOWN)).fetchall())
    return {name: known[name] for name in everyone}
