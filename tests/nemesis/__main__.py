"""`python -m tests.nemesis [R1 R7.cut …]`: try what is promised, print the table, write bench/faults.json.

Exits 1 when anything was lost, doubled or violated, or could not be tried.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from runtime import logs
from runtime.entry import enter
from tests.nemesis.promises import PROMISES
from tests.nemesis.rows import Row, Size, Tell

REFRESHES = 2  # per second: the watcher is not to disturb what is watched
SEED = 20261122

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[list[str] | None, typer.Argument(help="R7, or a part as R7.cut; default all")] = None,
    *,
    seed: Annotated[int, typer.Option(help="of every random choice")] = SEED,
    size: Annotated[Size, typer.Option(help="short as in `make test`, or full")] = Size.FULL,
) -> None:
    """Try what docs/reliability.md promises."""
    logs.configure("nemesis")
    logging.getLogger().setLevel(logging.WARNING)
    wanted = chosen(only or [])
    rows = list(tried(wanted, seed, size))
    Console().print(rows)
    if not all(row.holds for row in rows):
        raise typer.Exit(1)


def chosen(only: Sequence[str]) -> list[str]:
    """Pick promises by number, or by number and part; all when none is named."""
    found = [name for name in PROMISES if not only or name in only or name.partition(".")[0] in only]
    unknown = [word for word in only if not any(word in {name, name.partition(".")[0]} for name in found)]
    if unknown:
        raise typer.BadParameter(f"no promise is called {unknown[0]}; there are {', '.join(PROMISES)}")
    return found


def tried(names: Sequence[str], seed: int, size: Size) -> Iterator[Row]:
    """Try one after the other, with a line that says what is going on."""
    with telling() as tell:
        for name in names:

            def named(what: str, name: str = name) -> None:
                tell(f"{name}: {what}")

            named("begins")
            yield PROMISES[name](seed, size, named)


@contextmanager
def telling() -> Iterator[Tell]:
    """Show a line that moves; one line after the other where nobody watches."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=REFRESHES) as progress:
        line = progress.add_task("")

        def tell(what: str) -> None:
            progress.update(line, description=what)
            if not sys.stderr.isatty():
                print(what, file=sys.stderr)

        yield tell


if __name__ == "__main__":
    enter(app)
