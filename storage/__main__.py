"""`python -m storage migrate`: bring the database's schema to this release."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from runtime import logs
from runtime.entry import enter
from runtime.settings import Database, read
from storage.catalogue import describe
from storage.migrate import migrate as bring_forward

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


if __name__ == "__main__":
    enter(app)
