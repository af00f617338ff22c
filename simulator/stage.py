"""Where scenarios are played: finds units that are at rest, lets the steps happen, holds the invariants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from protocol.identity import Imei
from protocol.messages import Mode
from runtime import clock
from simulator import invariants
from simulator.backend import Backend, Json, Refused
from simulator.casting import NotReady, Remembered, at_rest
from simulator.faults import Fault
from simulator.fleet import Fleet
from simulator.invariants import FINAL, MENDED_BY_TIME, Evidence
from simulator.ledger import Truth
from simulator.link import Endpoint
from simulator.memory import Memory, new_life
from simulator.plan import Plan
from simulator.rogue import Rogue
from simulator.scenario import (
    Decide,
    Drift,
    Find,
    Hear,
    Look,
    Mend,
    Order,
    Resolve,
    Scenario,
    Step,
    Strike,
    Wait,
)

LOOK_S = 0.1
EXPECTATION = "steps_come_true"
"""The name under which a step that waited in vain is told, beside the invariants."""


class InVain(Exception):
    """What a step waited for did not come."""


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


class Stage:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario, place: Place, tell: Callable[[str], None]) -> None:
        self._scenario = scenario
        self._place = place
        self._tell = tell
        self._units: dict[str, Rogue] = {}
        self._clones: dict[str, Rogue] = {}
        self._before: dict[str, set[str]] = {}  # commands that are none of this run
        self._named: dict[str, Json] = {}
        self._began = 0  # in the ledger
        self._outcome = Outcome(scenario=scenario.name)

    async def play(self) -> Outcome:
        """Play it to its end; `NotReady` when it cannot begin."""
        if self._scenario.needs_second_person and self._place.approver is None:
            raise NotReady(
                f"{self._scenario.name} needs a second person: put the API token of another administrator"
                " into HELIOGRAPH_APPROVER_TOKEN."
            )
        began = time.monotonic()
        fleet, stop = await self._cast(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.serve(stop))
            try:
                await self._prepare()
                await self._act()
                self._outcome.broken |= await self._judge()
            finally:
                stop.set()
        self._outcome.seconds = round(time.monotonic() - began, 1)
        return self._outcome

    async def _cast(self) -> Fleet:
        """Give every part of the scenario to a unit; a clone is a second station of the same identity."""
        names = self._scenario.units
        memories = await at_rest(self._place.backend, self._place.roster, len(names))
        originals = dict(zip(names, memories, strict=True))
        clones = {
            name: Memory(imei=originals[name].imei, life=new_life(), boot=1) for name in self._scenario.cloned
        }
        plan = Plan(units=len(names) + len(clones), interval_s=self._scenario.interval_s, seed=1)
        fleet = Fleet(
            plan,
            self._place.endpoint,
            self._place.master,
            ledger=self._place.ledger,
            memories=Remembered([*originals.values(), *clones.values()]),
        )
        self._units = dict(zip(names, fleet.stations, strict=False))
        self._clones = dict(zip(clones, fleet.stations[len(names) :], strict=True))
        for clone in self._clones.values():
            clone.leave()
        return fleet

    async def _prepare(self) -> None:
        """Wait until every unit is heard, and enabled."""
        for name, station in self._units.items():
            memory = station.unit.memory
            try:
                await self._until(f"{name} ({memory.imei}) is heard", self._heard, station)
                shown = await self._place.backend.unit(memory.imei)
                if shown["enable_status"] != Mode.ENABLED:
                    await self._order(station, {"kind": "set_mode", "mode": "enabled"})
                    await self._until(f"{name} ({memory.imei}) is enabled", self._is_enabled, station)
            except InVain as vain:
                raise NotReady(f"Cannot begin: in vain waited until {vain}.") from vain
            self._began = len(self._place.ledger.lines)
            self._before[name] = {each["id"] for each in await self._place.backend.commands(memory.imei)}

    async def _act(self) -> None:
        """Do the steps; the first that comes to nothing is the last."""
        for number, step in enumerate(self._scenario.steps, 1):
            self._tell(f"{number}. {step}")
            try:
                await self._do(step)
            except InVain as vain:
                self._outcome.broken[EXPECTATION] = f"step {number}, {step}: {vain}"
                return
            self._outcome.steps.append(str(step))

    async def _do(self, step: Step) -> None:  # noqa: C901 - one arm for each kind of step
        match step:
            case Order(unit=unit, command=command):
                await self._ordered(step, self._units[unit], command)
            case Find(unit=unit):
                self._named[step.command] = await self._until(str(step), self._found, step, unit)
            case Wait():
                await self._await_state(step)
            case Decide():
                await self._decide(step)
            case Strike(fault=Fault.CLONED, unit=unit):
                self._clones[unit].strike(step.fault)
            case Strike(unit=unit):
                self._units[unit].strike(step.fault, step.times)
            case Mend(fault=Fault.CLONED, unit=unit):
                self._clones[unit].mend(step.fault)
            case Mend(unit=unit):
                self._units[unit].mend(step.fault)
            case Hear(unit=unit):
                enough = self._acked(unit) + step.heartbeats
                await self._until(str(step), self._has_acked, unit, enough)
            case Look(unit=unit):
                await self._until(str(step), self._shows, step, unit)
            case Drift(unit=unit):
                await self._until(str(step), self._drifted, step.cause, unit, step.gave_up)
            case Resolve():
                await self._resolve(step)

    async def _ordered(self, step: Order, station: Rogue, command: str) -> None:
        try:
            status, self._named[command] = await self._order(station, step.body())
        except Refused as refused:
            if refused.status != step.answer:
                raise InVain(refused.message) from refused
        else:
            if status != step.answer:
                raise InVain(f"the API answered {status}")

    async def _order(self, station: Rogue, wish: dict[str, object]) -> tuple[int, Json]:
        return await self._place.backend.order(station.unit.memory.imei, wish, reason=self._reason)

    async def _await_state(self, step: Wait) -> None:
        if "expired" in step.state:
            self._refuse_to_wait(step, self._named[step.command])

        async def there() -> bool:
            command = await self._place.backend.command(self._named[step.command]["id"])
            if command["state"] in step.state:
                return True
            if command["state"] in FINAL - {"expired"}:  # which late evidence may end once more
                raise InVain(f"it is {command['state']}")
            return False

        await self._until(str(step), there)

    def _refuse_to_wait(self, step: Wait, command: Json) -> None:
        left_s = (datetime.fromisoformat(command["expires_at"]) - clock.now()).total_seconds()
        if left_s > self._place.patience_s:
            raise NotReady(
                f"{step.command} expires in {left_s:.0f} s, and --patience is {self._place.patience_s:g} s."
                " Start the backend with the settings of simulator/scenarios/settings.env."
            )

    async def _decide(self, step: Decide) -> None:
        who = self._place.approver if step.do == "approve" else self._place.backend
        if who is None:
            raise NotReady("There is nobody to approve.")
        command_id = self._named[step.command]["id"]
        try:
            await who.decide(step.do, command_id, reason=self._reason)
        except Refused as refused:
            raise InVain(refused.message) from refused

    async def _found(self, step: Find, unit: str) -> Json | None:
        known = self._before[unit] | {command["id"] for command in self._named.values()}
        for command in await self._place.backend.commands(self._imei(unit)):
            if command["id"] not in known and command["mode"] == step.wish:
                return command
        return None

    async def _shows(self, step: Look, unit: str) -> bool:
        shown = await self._place.backend.unit(self._imei(unit))
        return all(_matches(_at(shown, key), value) for key, value in step.shows.items())

    async def _drifted(self, causes: Sequence[str], unit: str, gave_up: bool) -> Json | None:  # noqa: FBT001
        """Give an open drift of these causes."""
        for drift in await self._place.backend.drifts(self._imei(unit)):
            is_open = drift["cause"] in causes and drift["closed_at"] is None
            if is_open and (drift["gave_up_at"] or not gave_up):
                return drift
        return None

    async def _resolve(self, step: Resolve) -> None:
        drift = await self._drifted([step.cause], step.unit, gave_up=False)
        if drift is None:
            raise InVain("no such drift is open")
        try:
            await self._place.backend.resolve(drift["id"], step.decision, reason=self._reason)
        except Refused as refused:
            raise InVain(refused.message) from refused

    @property
    def _reason(self) -> str:
        return f"scenario {self._scenario.name}"

    async def _judge(self) -> dict[str, str]:
        """Hold the invariants; for what time can mend, as long as patience lasts."""
        self._tell("invariants")
        end = time.monotonic() + self._place.patience_s
        while True:
            told = [await self._evidence(name) for name in self._units]
            broken = invariants.broken(told, self._scenario.unheld)
            if not MENDED_BY_TIME.issuperset(broken) or not broken or time.monotonic() > end:
                return broken
            await asyncio.sleep(LOOK_S)

    async def _evidence(self, name: str) -> Evidence:
        backend, station = self._place.backend, self._units[name]
        memory = station.unit.memory
        shown = await backend.unit(memory.imei)
        fresh = [
            each["id"]
            for each in reversed(await backend.commands(memory.imei))
            if each["id"] not in self._before[name]
        ]
        return Evidence(
            unit=name,
            shown=shown,
            commands=[await backend.command(command_id) for command_id in fresh],
            drifts=await backend.drifts(memory.imei),
            ledger=[line for line in self._ledger if line["imei"] == memory.imei],
            mode=memory.mode,
            output=station.unit.output,
            battery_low=station.unit.battery_low,
        )

    async def _heard(self, station: Rogue) -> bool:
        memory = station.unit.memory
        shown = (await self._place.backend.unit(memory.imei))["reported"]
        return bool(shown and shown["boot"] == memory.boot)

    async def _is_enabled(self, station: Rogue) -> bool:
        shown = await self._place.backend.unit(station.unit.memory.imei)
        return bool(shown["enable_status"] == Mode.ENABLED)

    async def _has_acked(self, unit: str, heartbeats: int) -> bool:
        return self._acked(unit) >= heartbeats

    def _acked(self, unit: str) -> int:
        imei = self._imei(unit)
        return sum(line["event"] == "heartbeats_acked" and line["imei"] == imei for line in self._ledger)

    @property
    def _ledger(self) -> list[Json]:
        """What the units of this run did."""
        return self._place.ledger.lines[self._began :]

    def _imei(self, unit: str) -> Imei:
        return self._units[unit].unit.memory.imei

    async def _until(self, what: str, look: Callable[..., Awaitable[Any]], *names: object) -> Any:
        """Look again and again, until there is something; `InVain` when patience is over."""
        end = time.monotonic() + self._place.patience_s
        while not (found := await look(*names)):
            if time.monotonic() > end:
                raise InVain(f"{what}: not within {self._place.patience_s:g} s")
            await asyncio.sleep(LOOK_S)
        return found


def _at(shown: Any, key: str) -> Any:
    for part in key.split("."):
        shown = shown[part]
    return shown


def _matches(found: Any, wanted: Any) -> bool:
    return bool(wanted in found if isinstance(found, list) else found == wanted)
