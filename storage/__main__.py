"""`python -m storage`: bring the database's schema to this release, and pack days of heartbeats."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress

from runtime import clock, logs
from runtime.entry import enter
from runtime.settings import Database, Keeping, read
from storage.catalogue import describe
from storage.engine import Engine
from storage.migrate import migrate as bring_forward
from storage.pack import Done
from storage.pack import pack as pack_days

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def migrate(*, as_json: Json = False) -> None:
    """Apply what is pending; safe to repeat, one at a time."""
    logs.configure("storage")
    done = asyncio.run(bring_forward(read(Database)))
    names = [f"{step.number:04}_{step.name}" for step in done]
    print(json.dumps({"applied": names}) if as_json else "\n".join(names) or "nothing to do")


@app.command()
def schema() -> None:
    """Print the schema as the catalogues tell it; `storage/schema.sql` is this."""
    print(asyncio.run(describe(read(Database))), end="")


@app.command()
def pack(*, as_json: Json = False) -> None:
    """Pack days of heartbeats that are over; safe to repeat, one at a time, beside everything else."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        done = asyncio.run(
            pack_days(
                read(Database),
                read(Keeping),
                now=clock.now(),
                track=lambda loose: progress.track(loose, description="packing"),
            )
        )
    print(json.dumps(asdict(done)) if as_json else "\n".join(_told(done)))


def _told(done: Done) -> Iterator[str]:
    """Write what was done for people."""
    if done.engine is Engine.TIMESCALE:
        yield "nothing to do: TimescaleDB compresses heartbeats"
    elif not (done.packed or done.left_overs):
        yield "nothing to do"
    for name in done.left_overs:
        yield f"{name}  dropped: an earlier run was interrupted"
    for day in done.packed:
        yield f"{day.name}  {decimal(day.before)} → {decimal(day.after)}"


if __name__ == "__main__":
    enter(app)
