"""Days of heartbeats that are over are packed: no spare pages, and an index of full ones.

While a day is written, its table grows by pages in advance and the pages of its index split wherever
a unit's next heartbeat belongs. For plain PostgreSQL; TimescaleDB compresses instead. It runs beside
everything else and stops nobody: what is packed is read and written meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql

from runtime.errors import Conflict, Forbidden, Unavailable
from runtime.settings import Database, Keeping
from storage import dedicated, engine
from storage.engine import Engine
from storage.errors import NotMigrated
from storage.pool import reason
from storage.sql import Connection, load, rows, value

LOCK = "storage pack"
REST = timedelta(days=2)
"""From a day's beginning to its packing: over for a day, so that most late heartbeats are in. As long before
it is dropped it is left alone: who drops it would wait for us, and all who write for him."""

SQL = load(__file__)


class NotTheOwner(Forbidden):
    """This role may not pack."""


class AlreadyPacking(Conflict):
    """Another process packs this database."""


class NotPacked(Unavailable):
    """A day could not be packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """A day that is to be packed: its table, the index in question, and the bytes of it all."""

    name: str
    index: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A day's table that was packed, and its bytes with all indexes before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one run did; `left_overs` are indexes of an interrupted run that it dropped."""

    engine: Engine
    left_overs: Sequence[str] = ()
    packed: Sequence[Packed] = ()


async def pack(
    settings: Database,
    keeping: Keeping,
    *,
    now: datetime,
    track: Callable[[Sequence[Loose]], Iterable[Loose]] = iter,
) -> Done:
    """Pack the days that are over and not packed; safe to repeat, one at a time.

    Connects as the owner, and goes through the days by way of `track`. Raises `NotMigrated`,
    `NotTheOwner`, `AlreadyPacking`, `NotPacked`, `DatabaseUnavailable`; what is packed by then stays so.
    """
    async with dedicated.connection(settings, owner=True) as conn:
        await _admit(conn)
        if await engine.present(conn) is Engine.TIMESCALE:
            return Done(engine=Engine.TIMESCALE)
        left_overs = await rows(conn, lambda found: str(found["name"]), SQL.left_overs)
        for name in left_overs:
            await _alter(conn, SQL.drop, name)
        loose = await rows(
            conn,
            lambda found: Loose(**found),
            SQL.loose,
            first=(now - timedelta(days=keeping.keep_heartbeats_days) + REST).astimezone(UTC).date(),
            last=(now - REST).astimezone(UTC).date(),
        )
        packed = [await _pack(conn, day) for day in track(loose)]
        return Done(engine=Engine.PLAIN, left_overs=left_overs, packed=packed)


async def _admit(conn: Connection) -> None:
    """Make sure that this is the owner, and alone."""
    await conn.execute(SQL.heed)
    owned = await value(conn, SQL.owned)
    if owned is None:
        raise NotMigrated("There are no heartbeats in this database; run `python -m storage migrate`.")
    if not owned:
        raise NotTheOwner(
            "Only the schema's owner packs: set HELIOGRAPH_DATABASE_OWNER_URL, as for `migrate`.",
            role=conn.info.user,
        )
    # Asked for and never waited for: who waits has a snapshot, and rebuilding waits for snapshots in turn.
    if not await dedicated.try_lock(conn, LOCK):
        raise AlreadyPacking("Another process packs this database; let it end, then nothing is left to do.")


async def _pack(conn: Connection, day: Loose) -> Packed:
    await _alter(conn, SQL.vacuum, day.name)
    await _alter(conn, SQL.rebuild, day.index)
    return Packed(name=day.name, before=day.bytes, after=await value(conn, SQL.size, name=day.name))


async def _alter(conn: Connection, statement: LiteralString, name: str) -> None:
    """Run what cannot run inside a transaction, and takes as long as it takes."""
    try:
        await conn.execute(sql.SQL(statement).format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise NotPacked(
            f"{name} could not be packed; run `python -m storage pack` again, which tidies up first.",
            why=reason(error),
        ) from error
