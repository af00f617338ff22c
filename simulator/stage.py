"""Where a scenario is played: units at rest are found, the steps happen, the invariants are held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from protocol.identity import Imei
from protocol.messages import Mode
from simulator import invariants
from simulator.acting import LOOK_S, NOBODY_APPROVES, Acting, InVain
from simulator.backend import Backend
from simulator.casting import Remembered, Unplayable, at_rest
from simulator.fleet import Fleet
from simulator.invariants import MENDED_BY_TIME, Evidence
from simulator.ledger import Truth
from simulator.link import Endpoint
from simulator.memory import Memory, new_life
from simulator.plan import Plan
from simulator.rogue import Rogue
from simulator.scenario import Scenario

STEPS_COME_TRUE = "steps_come_true"
"""The name under which a step that came to nothing is told, beside the invariants."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a scenario; `broken` tells by name what did not hold, and why."""

    scenario: str
    steps: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether everything held."""
        return not self.broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a scenario is played with."""

    backend: Backend
    approver: Backend | None
    endpoint: Endpoint
    master: bytes
    roster: Sequence[Imei]
    patience_s: float
    ledger: Truth


async def play(scenario: Scenario, place: Place, tell: Callable[[str], None]) -> Outcome:
    """Play a scenario to its end; `Unplayable` when it cannot begin."""
    if scenario.needs_second_person and place.approver is None:
        raise Unplayable(f"{scenario.name} cannot be played. {NOBODY_APPROVES}")
    began, stop = time.monotonic(), asyncio.Event()
    outcome = Outcome(scenario=scenario.name)
    fleet, acting = await _cast(scenario, place)
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.serve(stop))
        try:
            await _prepare(acting, fleet)
            await _act(scenario, acting, outcome, tell)
            tell("invariants")
            outcome.broken |= await _judge(scenario, acting)
        finally:
            stop.set()
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


async def _cast(scenario: Scenario, place: Place) -> tuple[Fleet, Acting]:
    """Give every part of a scenario to a unit; a clone is a second station of the same identity."""
    names = scenario.units
    originals = await at_rest(place.backend, place.roster, len(names))
    clones = [
        Memory(imei=memory.imei, life=new_life(), boot=1)
        for name, memory in zip(names, originals, strict=True)
        if name in scenario.cloned
    ]
    fleet = Fleet(
        Plan(units=len(names) + len(clones), interval_s=scenario.interval_s, seed=1),
        place.endpoint,
        place.master,
        ledger=place.ledger,
        memories=Remembered([*originals, *clones]),
    )
    cloned = [name for name in names if name in scenario.cloned]
    acting = Acting(
        reason=f"scenario {scenario.name}",
        backend=place.backend,
        approver=place.approver,
        patience_s=place.patience_s,
        ledger=place.ledger,
        units=dict(zip(names, fleet.stations, strict=False)),
        clones=dict(zip(cloned, fleet.stations[len(names) :], strict=True)),
    )
    for clone in acting.clones.values():
        clone.leave()
    return fleet, acting


async def _prepare(acting: Acting, fleet: Fleet) -> None:
    """Wait until every unit is heard, and enabled; what was until then is none of the run."""
    for name, station in acting.units.items():
        try:
            await acting.until(partial(_heard, acting, station))
            if not await _enabled(acting, name):
                await acting.order(name, {"kind": "set_mode", "mode": "enabled"})
                await acting.until(partial(_enabled, acting, name))
        except InVain as vain:
            raise Unplayable(f"{name} ({acting.imei(name)}) cannot begin. {_likely(fleet)}") from vain
        acting.before[name] = {each["id"] for each in await acting.backend.commands(acting.imei(name))}
    acting.began = len(acting.ledger.lines)


async def _act(scenario: Scenario, acting: Acting, outcome: Outcome, tell: Callable[[str], None]) -> None:
    """Do the steps; one that comes to nothing is the last."""
    for number, step in enumerate(scenario.steps, 1):
        tell(f"{number}. {step}")
        try:
            await acting.do(step)
        except InVain as vain:
            outcome.broken[STEPS_COME_TRUE] = f"step {number}, {step}: {vain}"
            return
        outcome.steps.append(str(step))


async def _judge(scenario: Scenario, acting: Acting) -> dict[str, str]:
    """Hold the invariants; for what time can mend, as long as patience lasts."""
    end = time.monotonic() + acting.patience_s
    while True:
        told = [await _evidence(acting, name) for name in acting.units]
        broken = invariants.broken(told, scenario.unheld)
        if not broken or not MENDED_BY_TIME.issuperset(broken) or time.monotonic() > end:
            return broken
        await asyncio.sleep(LOOK_S)


async def _evidence(acting: Acting, name: str) -> Evidence:
    """Ask the API about a unit, and then its own ledger: what was confirmed must stand there already."""
    backend, imei, unit = acting.backend, acting.imei(name), acting.units[name].unit
    shown = await backend.unit(imei)
    newest_first = [each["id"] for each in await backend.commands(imei)]
    ours = [command_id for command_id in reversed(newest_first) if command_id not in acting.before[name]]
    return Evidence(
        unit=name,
        shown=shown,
        commands=[await backend.command(command_id) for command_id in ours],
        drifts=await backend.drifts(imei),
        ledger=acting.did(name),
        mode=unit.memory.mode,
        output=unit.output,
        battery_low=unit.battery_low,
    )


async def _heard(acting: Acting, station: Rogue) -> bool:
    """Tell whether the API shows a heartbeat of this run."""
    memory = station.unit.memory
    reported = (await acting.backend.unit(memory.imei))["reported"]
    return bool(reported and reported["boot"] == memory.boot)


async def _enabled(acting: Acting, name: str) -> bool:
    shown = await acting.backend.unit(acting.imei(name))
    return bool(shown["enable_status"] == Mode.ENABLED)


def _likely(fleet: Fleet) -> str:
    """Say what keeps a unit away, as far as its side of the broker tells, and what to do."""
    tally = fleet.tally
    if tally.login_refused:
        return (
            "The broker refuses its login: is HELIOGRAPH_MASTER_SECRETS that of the backend, and does the"
            " broker know whom `python -m registry broker-logins` lists?"
        )
    if tally.connects_failed:
        return "The broker does not answer: name it in HELIOGRAPH_BROKER_URL."
    return "It speaks, and the API does not show it as heard and enabled: does a gateway run?"
