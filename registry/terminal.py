"""How a command of this room runs and answers: one transaction, one answer, one line when it fails."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from registry.audit import Deed
from registry.permissions import shell
from runtime import clock
from runtime.errors import HeliographError, Unavailable
from runtime.settings import Database, read
from storage.pool import open_pool
from storage.sql import Connection


class Numbered(Protocol):
    """A row that has an id."""

    @property
    def id(self) -> int:
        """Give the row's id."""


PIPE_WIDTH = 240  # characters of a table that no terminal bounds

T = TypeVar("T")
N = TypeVar("N", bound=Numbered)
Record = Mapping[str, object]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why; the audit keeps it.")]


def transact(work: Callable[[Connection, Deed], Awaitable[T]], *, as_json: bool, reason: str = "") -> T:
    """Do work in one transaction, as whoever sits at this terminal."""

    async def done() -> T:
        deed = Deed(by=shell(), now=clock.now(), reason=reason)
        async with open_pool(read(Database)) as pool, pool.transaction() as conn:
            return await work(conn, deed)

    return run(done(), as_json=as_json)


def run(work: Coroutine[Any, Any, T], *, as_json: bool) -> T:
    """Run to the end; when that fails, say so in one line and exit with 1."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # each vain attempt; the last is told here
    try:
        return asyncio.run(work)
    except Unavailable as unavailable:
        error: HeliographError = unavailable
        error.message += " Check that it runs and that HELIOGRAPH_DATABASE_URL names it."
    except HeliographError as failed:
        error = failed
    if as_json:
        tell({**error.facts, "error": type(error).__name__, "message": error.message}, as_json=True)
    else:
        typer.echo(f"error: {error.message}", err=True)
    raise typer.Exit(1)


async def whole(page: Callable[[int], Awaitable[list[N]]]) -> list[N]:
    """Gather a list whose pages go on behind an id."""
    found: list[N] = []
    while more := await page(found[-1].id if found else 0):
        found += more
    return found


def tell(answer: Record, *, as_json: bool) -> None:
    """Print one record."""
    if as_json:
        _print_json(answer)
        return
    width = max(map(len, answer))
    for name, value in answer.items():
        typer.echo(f"{name:{width}}  {_written(value)}")


def tell_all(answers: Sequence[Record], *, as_json: bool) -> None:
    """Print a table of records."""
    if as_json:
        _print_json(answers)
    elif not answers:
        typer.echo("none")
    else:
        table = Table(*answers[0])
        for answer in answers:
            table.add_row(*(Text(_written(value), overflow="fold") for value in answer.values()))
        console = Console()
        if not console.is_terminal:
            console.width = PIPE_WIDTH
        console.print(table)


def _print_json(answer: object) -> None:
    typer.echo(json.dumps(answer, default=_plain, ensure_ascii=False))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _written(value: object) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case _:
            return str(value)
