"""`python -m deploy.local`: the whole system on this machine, with or without a simulated fleet."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.local import demo as demonstration
from deploy.local import surroundings, theatre
from deploy.local.account import Account, servers_account
from deploy.local.demo import INTERRUPTED, Options
from deploy.local.folder import Folder, open_folder, state_path
from deploy.local.gateways import MOST
from deploy.local.progress import Progress, Stopped
from deploy.local.tenancy import AlreadyRunning, Tenancy, sole
from runtime import clock
from runtime.entry import enter
from runtime.errors import HeliographError
from simulator import scenario
from simulator.numbers import finite
from simulator.plan import LONGEST_INTERVAL_S

RUNNING_ALREADY = 3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

Gateways = Annotated[int, typer.Option(min=1, max=MOST, help="gateways that share the partitions")]
Work = Callable[[Folder, Account, Tenancy, Progress], int]


@app.command()
def up(gateways: Gateways = 1) -> None:
    """Run everything but a fleet, until Ctrl-C."""
    _run(partial(demonstration.serve, gateways))


@app.command()
def demo(
    units: Annotated[int, typer.Option(min=1, help="simulated units")] = 50,
    gateways: Gateways = 1,
    interval: Annotated[
        float,
        typer.Option(
            min=0.05, max=LONGEST_INTERVAL_S, callback=finite, help="seconds between a unit's heartbeats"
        ),
    ] = 5.0,
    duration: Annotated[
        float | None,
        typer.Option(min=1.0, callback=finite, help="seconds from the first heartbeat, then compare and end"),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="write the comparison here, when the duration is over")
    ] = None,
) -> None:
    """Run everything with a simulated fleet, and order one command of each kind.

    With a duration: exit 0 only when every heartbeat that was acknowledged to the fleet is stored,
    none else is, and every kind of command was confirmed.
    """
    if json is not None:
        _expect_comparison(json, duration)
    options = Options(
        units=units,
        gateways=gateways,
        interval_s=interval,
        duration_s=duration,
        json=json,
        began=clock.now(),
    )
    _run(partial(demonstration.show, options))


@app.command()
def scenarios(
    names: Annotated[list[str] | None, typer.Argument(help="by name, or paths of files; else all")] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="print what came of it as JSON")] = False,
) -> None:
    """Play the simulator's scenarios against a system of their own, which is gone afterwards.

    Exit 0 when every invariant holds, 1 with the name of one that does not, 2 when one cannot be played.
    """
    try:
        for name in names or ():
            scenario.named(name)
    except HeliographError as error:  # before anything is started for it
        raise typer.BadParameter(error.message) from error
    given = [Path(name).absolute() if name.endswith(".toml") else name for name in names or ()]
    words = [*(given or ["--all"]), *(["--json"] if json else [])]
    with tempfile.TemporaryDirectory(prefix="heliograph-", dir="/tmp") as home:
        _run(partial(theatre.play, words), Path(home), Console(stderr=True))


def _expect_comparison(file: Path, duration: float | None) -> None:
    """Refuse, before anything is started for it, a file that would not be written."""
    if duration is None:
        raise typer.BadParameter("Without --duration nothing is compared.", param_hint="--json")
    try:
        file.open("a", encoding="utf-8").close()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--json") from error


def _run(work: Work, path: Path | None = None, console: Console | None = None) -> None:
    surroundings.leave()
    progress = Progress(console or Console())
    account = servers_account()
    folder = open_folder(path or state_path(), account)
    with progress.heeding_signals():
        try:
            with sole(folder) as tenancy:
                code = work(folder, account, tenancy, progress)
            progress.say("Everything has ended.")
        except AlreadyRunning as running:
            progress.say(running.message)
            code = RUNNING_ALREADY
        except Stopped:
            progress.say("Stopped.")
            code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    enter(app)
