"""SQL statements live in .sql files beside the module that uses them; here they are loaded and run.

A file is a row of statements, each headed `-- :name` and one line of purpose. Values travel as
named parameters (`%(name)s`), never inside the text.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import DictRow, tuple_row
from psycopg.sql import Composed

T = TypeVar("T")
LIMITS_TRANSACTIONS = 17_00_00
"""The first version of the server that knows `transaction_timeout`."""

Connection = psycopg.AsyncConnection[DictRow]

_HEADING = re.compile(r"^-- :(\w+)\n", re.MULTILINE)


class Statements:
    """The named statements of one file, as attributes; an unknown name fails at import or first use."""

    def __init__(self, source: Path) -> None:
        parts = _HEADING.split(source.read_text(encoding="utf-8"))
        self._source = source
        self._texts: Mapping[str, LiteralString] = dict(
            zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True)
        )

    def __getattr__(self, name: str) -> LiteralString:
        """Give the text of the statement `name`."""
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"{self._source.name} has no statement named {name}") from None

    def names(self) -> list[str]:
        """Name every statement of the file."""
        return list(self._texts)


def load(module_file: str) -> Statements:
    """Read the .sql file beside a module, which calls this with its own `__file__`."""
    return Statements(Path(module_file).with_suffix(".sql"))


async def rows(
    conn: Connection, from_row: Callable[[DictRow], T], query: LiteralString | Composed, **params: object
) -> list[T]:
    """Run a query and make each row (a dict by column name) into a T."""
    cursor = await conn.execute(query, params)
    return [from_row(found) for found in await cursor.fetchall()]


async def row(
    conn: Connection, from_row: Callable[[DictRow], T], query: LiteralString, **params: object
) -> T | None:
    """Run a query that finds at most one row."""
    cursor = await conn.execute(query, params)
    found = await cursor.fetchone()
    return None if found is None else from_row(found)


@asynccontextmanager
async def pipelined(conn: Connection) -> AsyncIterator[None]:
    """Send the statements of this block without waiting for the answer to each, where that is safe.

    Between two of them the server waits for more, holding locks, and none of its older timeouts runs: not
    for a client that is frozen there. `transaction_timeout` does (`storage.pool` sets it), from PostgreSQL
    17 on; before, each statement waits for its answer.
    """
    if conn.info.server_version < LIMITS_TRANSACTIONS:
        yield
    else:
        async with conn.pipeline():
            yield


async def at_once(
    conn: Connection, *asked: tuple[LiteralString, Mapping[str, object]]
) -> list[list[DictRow]]:
    """Run queries one after the other in a single round trip, and give the rows of each.

    Each sees what those before it locked and wrote; none can be given what another found.
    """
    async with pipelined(conn):
        cursors = [await conn.execute(query, params) for query, params in asked]
    return [await cursor.fetchall() for cursor in cursors]


async def tuples(conn: Connection, query: LiteralString, **params: object) -> list[tuple[Any, ...]]:
    """Run a query whose rows come by the thousand: bare tuples, read in binary form."""
    async with conn.cursor(row_factory=tuple_row, binary=True) as cursor:
        await cursor.execute(query, params)
        return await cursor.fetchall()


async def value(conn: Connection, query: LiteralString, **params: object) -> Any:
    """Run a query and give the first column of its first row, or None when there is none."""
    return await row(conn, lambda columns: next(iter(columns.values())), query, **params)


async def execute(conn: Connection, query: LiteralString, **params: object) -> int:
    """Run a statement and tell how many rows it touched."""
    cursor = await conn.execute(query, params)
    return cursor.rowcount
