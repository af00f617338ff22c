"""`python -m tests.nemesis [R1 R7.cut …]`: try what is promised, print the table, write bench/faults.json.

Exits 1 when anything was lost, doubled or violated, or could not be tried.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, NoReturn

import structlog
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from runtime import clock, logs
from runtime.entry import enter
from tests.nemesis import report
from tests.nemesis.promises import PROMISES
from tests.nemesis.rows import CannotTry, Row, Size, Tell

REFRESHES = 2  # per second: the watcher is not to disturb what is watched
WIDTH = 160  # characters of a table that no terminal bounds
SEED = 20261122

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
log = structlog.get_logger()


@app.command()
def main(
    only: Annotated[list[str] | None, typer.Argument(help="R21, or a part as R21.wal; default all")] = None,
    *,
    seed: Annotated[int, typer.Option(help="of every random choice")] = SEED,
    size: Annotated[Size, typer.Option(help="short as in `make test`, or full")] = Size.FULL,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Try what docs/reliability.md promises."""
    logs.configure("nemesis")
    logging.getLogger().setLevel(logging.WARNING)  # what the servers' set-up tells is no news here
    signal.signal(signal.SIGTERM, leave)
    before = report.circumstances(clock.now())
    rows: list[Row] = []
    without: dict[str, str] = {}
    document: dict[str, Any] = {}
    for name, found in tried(chosen(only or []), seed, size):
        if isinstance(found, Row):
            rows.append(found)
            document = report.keep({name: report.entry(found, size)}, before)
        else:
            without[name] = found
            document = report.keep({name: {"instead": found}}, before)
    if as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(report.table(rows, without))
    if without or not all(row.holds for row in rows):
        raise typer.Exit(1)


def leave(signum: int, _frame: object) -> NoReturn:
    """End what was started, and then this."""
    raise SystemExit(128 + signum)


def chosen(only: Sequence[str]) -> list[str]:
    """Pick promises by number, or by number and part; all when none is named."""
    found = [name for name in PROMISES if not only or name in only or name.partition(".")[0] in only]
    unknown = [word for word in only if not any(word in {name, name.partition(".")[0]} for name in found)]
    if unknown:
        raise typer.BadParameter(f"no promise is called {unknown[0]}; there are {', '.join(PROMISES)}")
    return found


def tried(names: Sequence[str], seed: int, size: Size) -> Iterator[tuple[str, Row | str]]:
    """Try one after the other; gives what was found, or what there is instead."""
    with telling() as tell:
        for name in names:
            tell(f"{name}: begins")
            yield name, attempt(name, seed, size, partial(_tell_of, name, tell))


def attempt(name: str, seed: int, size: Size, tell: Tell) -> Row | str:
    """Try one; whatever goes wrong with the trial costs this row alone, and is told in its place."""
    try:
        return PROMISES[name](seed, size, tell)
    except CannotTry as lacking:
        return f"not tried: {lacking}"
    except Exception as error:
        log.exception("trial_broke_off", promise=name)
        return f"broke off: {type(error).__name__}: {error}".splitlines()[0]


def _tell_of(name: str, tell: Tell, what: str) -> None:
    tell(f"{name}: {what}")


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
