"""`python -m commands`: what the engineer on call decides about commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer

from commands import restored
from commands.restored import TakenBack
from registry.audit import Deed
from registry.permissions import shell
from registry.terminal import AsJson, Record, run
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

    Cancels plans that disable and offline-disables under way; each is told in a line once it is, to be
    ordered again by somebody who knows. Units that are to be off are not switched off again without a
    person's word. Safe to repeat.
    """

    async def work() -> None:
        counts = {"plans": 0, "commands": 0, "doubted": 0}
        deed = Deed(by=shell(), now=clock.now(), reason=reason)
        async with open_pool(read(Database)) as pool:
            async for step in restored.take_back(pool, deed):
                for record in _told(step):
                    _say(record, as_json=as_json)
                counts["plans"] += len(step.plans)
                counts["commands"] += len(step.commands)
                counts["doubted"] += step.doubted
        _say(counts, as_json=as_json)

    run(work(), as_json=as_json)


def _told(step: TakenBack) -> Iterator[Record]:
    for plan_id in step.plans:
        yield {"plan": str(plan_id)}
    for serial_number, command in step.commands:
        yield {
            "unit": serial_number,
            "command": str(command.id),
            "after_s": command.after_s,
            "state": str(command.state),
            "ordered_by": command.ordered_by,
            "ordered_at": command.ordered_at.isoformat(timespec="seconds"),
            "reason": command.reason,
        }


def _say(record: Record, *, as_json: bool) -> None:
    """Print one line."""
    typer.echo(
        json.dumps(record, ensure_ascii=False)
        if as_json
        else "  ".join(f"{name} {value}" for name, value in record.items())
    )


if __name__ == "__main__":
    enter(app)
