"""`python -m commands`: what the engineer on call decides about commands."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from commands import restored
from commands.restored import TakenBack
from registry.audit import Deed
from registry.permissions import shell
from registry.terminal import AsJson, Record, run, tell_all
from runtime import clock
from runtime.entry import enter
from runtime.settings import Database, read
from storage.pool import open_pool

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Decide about commands."""


@app.command("restored")
def take_back(
    *, reason: Annotated[str, typer.Option(help="Why; the audit keeps it.")], as_json: AsJson = False
) -> None:
    """After a backup was restored, before gateways start: take back all that would still switch off.

    Cancels plans that disable and offline-disables under way, and lists those, to be ordered again by
    somebody who knows. Safe to repeat.
    """

    async def work() -> TakenBack:
        deed = Deed(by=shell(), now=clock.now(), reason=reason)
        columns = (SpinnerColumn(), TextColumn("{task.description}"))
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
            task = progress.add_task("taking back")
            async with open_pool(read(Database)) as pool:
                return await restored.take_back(
                    pool, deed, lambda done: progress.update(task, description=_counted(done))
                )

    done = run(work(), as_json=as_json)
    if as_json:
        typer.echo(json.dumps({"plans": [str(plan) for plan in done.plans], "commands": _told(done)}))
        return
    typer.echo(f"{_counted(done)}.")
    if done.commands:
        tell_all(_told(done), as_json=False)


def _counted(done: TakenBack) -> str:
    return f"{len(done.plans)} plans and {len(done.commands)} offline-disables taken back"


def _told(done: TakenBack) -> list[Record]:
    return [
        {
            "unit": serial_number,
            "command": str(command.id),
            "after_s": command.after_s,
            "state": str(command.state),
            "ordered_by": command.ordered_by,
            "ordered_at": command.ordered_at.isoformat(timespec="seconds"),
            "reason": command.reason,
        }
        for serial_number, command in done.commands
    ]


if __name__ == "__main__":
    enter(app)
