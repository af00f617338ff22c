"""Forward migrations: numbered SQL files, each applied once, in order, and never changed afterwards.

A file `NNNN_name.sql` serves every engine; a pair `NNNN_name.plain.sql` and
`NNNN_name.timescale.sql` serves one each. Each runs in a transaction of its own unless its first
line says `-- outside transaction`. A lock admits one migrator at a time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
from psycopg.rows import DictRow, dict_row

from runtime.errors import Conflict, Forbidden, Invalid
from runtime.settings import Database
from storage import engine
from storage.errors import DatabaseUnavailable, MigrationChanged, SchemaTooNew
from storage.pool import CONNECT_S, reason
from storage.sql import Connection, execute, load, rows

FOLDER = Path(__file__).with_name("migrations")
GRANTS = Path(__file__).with_name("grants.sql")
OUTSIDE = "-- outside transaction"

SQL = load(__file__)
log = structlog.get_logger()

_NAME = re.compile(r"(?P<number>\d{4})_(?P<title>[a-z0-9_]+)(?:\.(?P<engine>plain|timescale))?\.sql")


class EngineNotServed(Conflict):
    """This release does not run on this engine."""


class MayNotMigrate(Forbidden):
    """This role may not migrate."""


class BadMigration(Invalid):
    """The folder of migrations is not in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def outside_transaction(self) -> bool:
        """Whether the server refuses to run it inside a transaction."""
        return self.text.startswith(OUTSIDE)


def migrations(for_engine: engine.Engine, folder: Path = FOLDER) -> list[Migration]:
    """Give the steps for one engine in order; raises `EngineNotServed` and `BadMigration`."""
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise BadMigration("A migration is named NNNN_name[.engine].sql.", file=path.name)
        if name["engine"] in {None, for_engine}:
            found.append(
                Migration(
                    number=int(name["number"]), name=name["title"], text=path.read_text(encoding="utf-8")
                )
            )
    numbers = [migration.number for migration in found]
    if lacking := {int(path.name[:4]) for path in folder.glob("*.sql")} - set(numbers):
        raise EngineNotServed(
            f"This release does not run on {for_engine}: migration {min(lacking):04} has no form for it.",
            engine=str(for_engine),
        )
    if numbers != list(range(1, len(numbers) + 1)):
        raise BadMigration(
            f"The migrations of the {for_engine} engine are not numbered 1, 2, 3 …", numbers=numbers
        )
    return found


async def migrate(settings: Database, folder: Path = FOLDER) -> list[Migration]:
    """Bring the schema to this release and give what was applied now.

    Connects as the owner. Raises `MigrationChanged`, `SchemaTooNew`, `WrongEngine`, `EngineNotServed`,
    `MayNotMigrate`, `DatabaseUnavailable`; a step that fails leaves everything before it applied and
    itself not.
    """
    try:
        async with _owner(settings) as conn:
            await execute(conn, SQL.lock)
            await execute(conn, SQL.create_books)
            steps = migrations(await engine.present(conn), folder)
            await engine.choose(conn)
            pending = steps[len(await _applied(conn, steps)) :]
            for step in pending:
                await _apply(conn, step)
            await conn.execute(GRANTS.read_bytes())
            return pending
    except psycopg.errors.InsufficientPrivilege as error:
        raise MayNotMigrate(
            "Only the schema's owner migrates: set HELIOGRAPH_DATABASE_OWNER_URL.", why=reason(error)
        ) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise DatabaseUnavailable(
            "The server takes no writes: it stands by for another, or is set to read only. "
            "Name the one that does in HELIOGRAPH_DATABASE_OWNER_URL.",
            why=reason(error),
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseUnavailable("The database could not be migrated.", why=reason(error)) from error


async def pending(conn: Connection) -> list[Migration]:
    """Tell which steps a database lacks that this release needs."""
    steps = migrations(await engine.chosen(conn) or engine.Engine.PLAIN)
    return steps[len(await _applied(conn, steps)) :]


@asynccontextmanager
async def _owner(settings: Database) -> AsyncIterator[Connection]:
    conn: psycopg.AsyncConnection[DictRow] = await psycopg.AsyncConnection.connect(
        settings.owner_url,
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=CONNECT_S,
        options="-c timezone=UTC",
    )
    async with conn:
        yield conn


async def _applied(conn: Connection, steps: list[Migration]) -> list[tuple[int, str]]:
    """Read the book of applied steps and hold it against the files."""
    book = await rows(conn, lambda step: (step["number"], step["checksum"]), SQL.applied)
    if len(book) > len(steps):
        raise SchemaTooNew(
            "The database is newer than this release; install the newer release.",
            database=len(book),
            release=len(steps),
        )
    for (number, checksum), step in zip(book, steps, strict=False):
        if checksum != step.checksum:
            raise MigrationChanged(
                f"Migration {number:04} ({step.name}) was changed after it had been applied; add a new one.",
                number=number,
            )
    return book


async def _apply(conn: Connection, step: Migration) -> None:
    if step.outside_transaction:
        await conn.execute(step.text.encode())
        await execute(conn, SQL.record, number=step.number, name=step.name, checksum=step.checksum)
    else:
        async with conn.transaction():
            await conn.execute(step.text.encode())
            await execute(conn, SQL.record, number=step.number, name=step.name, checksum=step.checksum)
    log.info("migration_applied", number=step.number, name=step.name)
