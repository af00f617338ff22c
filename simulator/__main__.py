"""`python -m simulator`: run a fleet of simulated units, list them for the registry, play scenarios."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.live import Live

from protocol.identity import Imei
from runtime import logs
from runtime.entry import leaves
from runtime.errors import Conflict, HeliographError
from runtime.services import pause, together
from runtime.settings import Broker, Keys, Operator, read
from simulator import roster as rosters
from simulator import scenario
from simulator.backend import Backend
from simulator.casting import ROSTER_SEED, ROSTER_UNITS
from simulator.faults import Fault
from simulator.fleet import Fleet
from simulator.ledger import Ledger, Truth
from simulator.link import Endpoint
from simulator.memory import Memories
from simulator.numbers import finite
from simulator.plan import LONGEST_INTERVAL_S, Faults, Plan, Tally
from simulator.playbill import Teller, faults_table, invariants_table, scenarios_table
from simulator.scenario import Scenario
from simulator.stage import Outcome, Place, play

KEY_GENERATION = 1
CANNOT_BE_PLAYED = 2
_OTHER_FILES = 100  # descriptors beside one socket per unit
_LIVE_S, _LOG_S = 0.5, 5.0

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Stand in for real units.")
log = structlog.get_logger()

Units = Annotated[int, typer.Option(min=1, max=rosters.LARGEST_FLEET, help="how many units")]
Seed = Annotated[int, typer.Option(help="the same seed gives the same fleet, weather and faults")]


def _rate(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        min=0.0, max=1.0, callback=finite, help=f"probability that {what}"
    )
    return option


class TooFewDescriptors(Conflict):
    """The system allows this process too few open files for such a fleet."""


@app.command()
def roster(
    units: Units,
    seed: Seed = 1,
    entity: Annotated[int | None, typer.Option(help="entity id of every unit")] = None,
    interval: Annotated[int, typer.Option(min=1, help="seconds between heartbeats")] = 900,
) -> None:
    """Print the fleet as CSV for `python -m registry import`."""
    print(rosters.table(units, seed, interval_s=interval, entity_id=entity), end="")


@app.command()
def fleet(  # noqa: PLR0913 - each is an option of the command line
    *,
    units: Units,
    interval: Annotated[
        float,
        typer.Option(
            min=0.01, max=LONGEST_INTERVAL_S, callback=finite, help="seconds between heartbeats of a unit"
        ),
    ],
    seed: Seed = 1,
    ledger: Annotated[Path | None, typer.Option(help="append the ground truth here, as JSON lines")] = None,
    state: Annotated[Path | None, typer.Option(help="what the units remember from run to run")] = None,
    duration: Annotated[
        float | None, typer.Option(min=0.0, callback=finite, help="seconds, then stop politely")
    ] = None,
    reboot: Annotated[float, _rate("a unit reboots after a heartbeat")] = 0.0,
    away: Annotated[float, _rate("a unit loses its network after a heartbeat")] = 0.0,
    duplicate: Annotated[float, _rate("a heartbeat is published twice")] = 0.0,
    lose: Annotated[float, _rate("a heartbeat is counted and never published")] = 0.0,
    refuse: Annotated[float, _rate("a mode command is refused as `hardware`")] = 0.0,
    mishandle: Annotated[float, _rate("a mode command is mishandled, see `faults`")] = 0.0,
    wake: Annotated[
        bool, typer.Option("--wake/--stay", help="connect for each heartbeat, or stay connected")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the final counts as JSON")] = False,
) -> None:
    """Run units until told to stop; exit code 1 if none of them could ever connect."""
    logs.configure("simulator")
    faults = Faults(
        reboot=reboot, away=away, duplicate=duplicate, lose=lose, refuse=refuse, mishandle=mishandle
    )
    plan = Plan(units=units, interval_s=interval, seed=seed, faults=faults, wake=wake)
    with _told_to_people():
        _allow_sockets(units)
        tally = asyncio.run(_run(plan, ledger, state, duration))
    print(json.dumps(asdict(tally)) if as_json else _line(tally))
    if not tally.ever_connected:
        raise typer.Exit(1)


@app.command()
def run(
    names: Annotated[
        list[str] | None, typer.Argument(help="scenarios by name, or paths of files of your own")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="play all that come with the simulator")] = False,
    listing: Annotated[bool, typer.Option("--list", help="list scenarios and invariants")] = False,
    roster: Annotated[
        Path | None, typer.Option(help="CSV of enrolled units to play with; else that of the seed")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the roster")] = ROSTER_SEED,
    patience: Annotated[
        float, typer.Option(min=1.0, callback=finite, help="seconds that each step may take")
    ] = 60.0,
    ledger: Annotated[Path | None, typer.Option(help="append the ground truth here, as JSON lines")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print what came of it as JSON")] = False,
) -> None:
    """Play scenarios against a running system: exit 0, or 1 with the invariant that is broken.

    Exit 2 when one cannot be played: the system is away, a token is missing, no unit is at rest.
    """
    if listing:
        return _list(as_json=as_json)
    if not names and not every:
        raise typer.BadParameter("Name a scenario, or --all; --list lists them.")
    logs.configure("simulator")
    teller = Teller(Console(stderr=True))
    with _told_to_people(CANNOT_BE_PLAYED), Truth(ledger) as truth:
        scenarios = [*map(scenario.named, names or ()), *(scenario.catalogue() if every else ())]
        place = _place(rosters.read(roster) if roster else rosters.imeis(ROSTER_UNITS, seed), patience, truth)
        outcomes = [_play(each, place, teller) for each in scenarios]
    if as_json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], ensure_ascii=False))
    raise typer.Exit(0 if all(outcome.holds for outcome in outcomes) else 1)


@app.command()
def faults(*, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List what can go wrong with commands, as scenarios name it."""
    if as_json:
        print(json.dumps([{"fault": each, "span": each.span, "meaning": each.meaning} for each in Fault]))
    else:
        Console().print(faults_table())


def _list(*, as_json: bool) -> None:
    known = scenario.catalogue()
    if as_json:
        print(json.dumps({each.name: each.line for each in known}, ensure_ascii=False))
        return
    Console().print(scenarios_table(known), invariants_table())


def _place(roster: Sequence[Imei], patience_s: float, truth: Truth) -> Place:
    operator = read(Operator)
    return Place(
        backend=Backend.of(operator),
        approver=Backend.second(operator),
        endpoint=Endpoint.of(read(Broker)),
        master=read(Keys).master(KEY_GENERATION),
        roster=roster,
        patience_s=patience_s,
        ledger=truth,
    )


def _play(each: Scenario, place: Place, teller: Teller) -> Outcome:
    with teller.telling(each):
        outcome = asyncio.run(play(each, place, teller))
        if outcome.holds:
            teller.done()
    teller.result(outcome)
    return outcome


async def _run(plan: Plan, ledger: Path | None, state: Path | None, duration: float | None) -> Tally:
    endpoint, master = Endpoint.of(read(Broker)), read(Keys).master(KEY_GENERATION)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if duration is not None:
        loop.call_later(duration, stop.set)
    with Ledger(ledger) as book, closing(Memories(state)) as memories:
        units = Fleet(plan, endpoint, master, ledger=book, memories=memories)
        log.info("fleet_started", units=plan.units, interval_s=plan.interval_s, seed=plan.seed)

        async def watch(stop: asyncio.Event) -> None:
            await _watch(units.tally, stop)

        await together({"fleet": units.serve, "watch": watch}, stop)
    log.info("fleet_stopped", **asdict(units.tally))
    return units.tally


async def _watch(tally: Tally, stop: asyncio.Event) -> None:
    """Show the counts: a line that changes for people, a line every few seconds for logs."""
    if not sys.stderr.isatty():
        while not await pause(stop, _LOG_S):
            log.info("fleet_counted", **asdict(tally))
        return
    with Live(_line(tally), console=Console(stderr=True), auto_refresh=False) as live:
        while not await pause(stop, _LIVE_S):
            live.update(_line(tally), refresh=True)


def _line(tally: Tally) -> str:
    return (
        f"{tally.connected}/{tally.units} units connected · "
        f"heartbeats {tally.heartbeats_sent} sent, {tally.heartbeats_acked} acknowledged, "
        f"{tally.heartbeats_lost} lost · commands {tally.commands_received} received, "
        f"{tally.commands_applied} applied, {tally.commands_refused} refused"
    )


def _allow_sockets(units: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = units + _OTHER_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise TooFewDescriptors(
            f"Raise the limit of open files (ulimit -n) to {wanted} or more, or ask for fewer units.",
            units=units,
            limit=hard,
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@contextmanager
def _told_to_people(code: int = 1) -> Iterator[None]:
    told: list[str] = []
    try:
        yield
    except* HeliographError as errors:
        told = [error.message for error in leaves(errors)]
    except* OSError as errors:  # a file that cannot be read or written; it names itself
        told = [str(error) for error in leaves(errors)]
    if told:
        typer.echo("\n".join(dict.fromkeys(told)), err=True)
        raise typer.Exit(code)


if __name__ == "__main__":
    app()
