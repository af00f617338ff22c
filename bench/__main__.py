"""`python -m bench [ONLY…]`: measure, print the table, write bench/results.json.

Exits 1 when something was lost or stored twice, or a figure is below what must hold; a goal that
is not reached yet is told and fails nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import ingest, plan, profile, scale, shares, storage
from bench.figures import Figure
from bench.report import circumstances, document, table
from runtime import clock, logs
from runtime.entry import enter

RESULTS = Path(__file__).with_name("results.json")
REFRESHES = 2  # per second: the watcher is not to disturb what is watched
WIDTH = 160  # characters of a table that no terminal bounds


class Group(StrEnum):
    """Figures that are measured together."""

    INGEST = "ingest"
    PLAN = "plan"
    PROFILE = "profile"
    SCALE = "scale"
    STORAGE = "storage"


async def _profile(runs: int, tell: ingest.Tell) -> list[Figure]:
    """Tell where a heartbeat's time goes: process by process, then step by step inside the gateway."""
    return [*await shares.measure(runs, tell), *await profile.measure(runs, tell)]


MEASURES: dict[Group, Callable[[int, ingest.Tell], Awaitable[list[Figure]]]] = {
    Group.INGEST: ingest.measure,
    Group.PLAN: plan.measure,
    Group.PROFILE: _profile,
    Group.SCALE: scale.measure,
    Group.STORAGE: storage.measure,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[list[Group] | None, typer.Argument(help="groups to run; default all")] = None,
    *,
    runs: Annotated[int, typer.Option(min=1, help="rounds; the median counts")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure how fast this machine is with Heliograph."""
    logs.configure("bench")
    logging.getLogger().setLevel(logging.WARNING)  # what the servers' set-up tells is no news here
    before = circumstances(clock.now())
    try:
        figures = asyncio.run(measure(only or list(Group), runs))
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    found = json.dumps(document(figures, before, known), indent=2, ensure_ascii=False)
    RESULTS.write_text(found + "\n", encoding="utf-8")
    if as_json:
        print(found)
    else:
        console = Console(width=None if sys.stdout.isatty() else WIDTH)
        console.print(table(figures))
    if not all(figure.acceptable for figure in figures):
        raise typer.Exit(1)


async def measure(groups: list[Group], runs: int) -> list[Figure]:
    """Run groups one after the other, with a line that says what is going on; SIGTERM ends all."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run made it
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=REFRESHES) as progress:
        line = progress.add_task("")

        def tell(what: str) -> None:
            progress.update(line, description=what)
            if not sys.stderr.isatty():
                print(what, file=sys.stderr)

        return [figure for group in groups for figure in await MEASURES[group](runs, tell)]


if __name__ == "__main__":
    enter(app)
