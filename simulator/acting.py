"""How the steps of a scenario are done: to the units at once, at the API as a person, or by waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from protocol.identity import Imei
from runtime import clock
from simulator.backend import Backend, Json, Refused
from simulator.casting import Unplayable
from simulator.faults import Fault
from simulator.invariants import FINAL
from simulator.ledger import Truth
from simulator.rogue import Rogue
from simulator.scenario import Decide, Drift, Find, Hear, Look, Mend, Order, Resolve, Step, Strike, Wait

LOOK_S = 0.1
LAST = FINAL - {"expired"}
"""States that no command leaves; expired is left when evidence comes late."""

T = TypeVar("T")


class InVain(Exception):
    """What a step was to bring about did not come."""


@dataclass(slots=True, kw_only=True)
class Acting:
    """What the steps of one run work on."""

    reason: str
    """Of every order."""

    backend: Backend
    approver: Backend | None
    patience_s: float
    ledger: Truth
    units: dict[str, Rogue]
    clones: dict[str, Rogue]
    before: dict[str, set[str]] = field(default_factory=dict)
    """The commands of each unit that are none of this run."""

    began: int = 0
    """How much of the ledger is none of this run."""

    named: dict[str, Json] = field(default_factory=dict)

    def imei(self, unit: str) -> Imei:
        """Name a unit as the API does."""
        return self.units[unit].unit.memory.imei

    def did(self, unit: str) -> list[Json]:
        """Tell what a unit did in this run, and its clone with it."""
        imei = self.imei(unit)
        return [line for line in self.ledger.lines[self.began :] if line["imei"] == imei]

    async def do(self, step: Step) -> None:
        """Do one step; `InVain` when it does not come true."""
        try:
            await self._do(step)
        except Refused as refused:
            raise InVain(refused.message) from refused

    async def order(self, unit: str, wish: Json) -> tuple[int, Json]:
        """Order a command, whatever the answer."""
        return await self.backend.order(self.imei(unit), wish, reason=self.reason)

    async def until(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """Look again and again, until there is something; `InVain` when patience is over."""
        end = time.monotonic() + self.patience_s
        while not (found := await look()):
            if time.monotonic() > end:
                raise InVain(f"not within {self.patience_s:g} s")
            await asyncio.sleep(LOOK_S)
        return found

    async def _do(self, step: Step) -> None:
        match step:
            case Strike():
                self._stations(step.fault)[step.unit].strike(step.fault, step.times)
            case Mend():
                self._stations(step.fault)[step.unit].mend(step.fault)
            case Order():
                await self._order(step)
            case Decide():
                await self._decide(step)
            case Resolve():
                await self._resolve(step)
            case _:
                await self._wait(step)

    def _stations(self, fault: Fault) -> dict[str, Rogue]:
        return self.clones if fault is Fault.CLONED else self.units

    async def _order(self, step: Order) -> None:
        try:
            status, self.named[step.command] = await self.order(step.unit, step.body())
        except Refused as refused:
            if refused.status != step.answer:
                raise
        else:
            if status != step.answer:
                raise InVain(f"the API answered {status}")

    async def _decide(self, step: Decide) -> None:
        who = self.approver if step.do == "approve" else self.backend
        if who is None:
            raise Unplayable(NOBODY_APPROVES)
        await who.decide(step.do, self.named[step.command]["id"], reason=self.reason)

    async def _resolve(self, step: Resolve) -> None:
        drift = await self._open_drift(step.unit, [step.cause])
        if drift is None:
            raise InVain("no such drift is open")
        await self.backend.resolve(drift["id"], step.decision, reason=self.reason)

    async def _wait(self, step: Find | Wait | Hear | Look | Drift) -> None:
        match step:
            case Find():
                self.named[step.command] = await self.until(lambda: self._further(step))
            case Wait():
                await self._reach(step)
            case Hear():
                enough = self._acked(step.unit) + step.heartbeats
                await self.until(lambda: _true(self._acked(step.unit) >= enough))
            case Look():
                await self.until(lambda: self._shows(step))
            case Drift():
                await self.until(lambda: self._open_drift(step.unit, step.cause, gave_up=step.gave_up))

    async def _reach(self, step: Wait) -> None:
        command_id = self.named[step.command]["id"]
        if "expired" in step.state:
            self._refuse_to_wait(step)

        async def there() -> bool:
            state = (await self.backend.command(command_id))["state"]
            if state in LAST and state not in step.state:
                raise InVain(f"it is {state}")
            return state in step.state

        await self.until(there)

    def _refuse_to_wait(self, step: Wait) -> None:
        ends = datetime.fromisoformat(self.named[step.command]["expires_at"])
        left_s = (ends - clock.now()).total_seconds()
        if left_s > self.patience_s:
            raise Unplayable(
                f"{step.command} expires in {left_s:.0f} s, and --patience is {self.patience_s:g} s."
                " Start the backend with the settings of simulator/scenarios/settings.env."
            )

    async def _further(self, step: Find) -> Json | None:
        known = self.before[step.unit] | {command["id"] for command in self.named.values()}
        newest_first = await self.backend.commands(self.imei(step.unit))
        return next(
            (each for each in newest_first if each["id"] not in known and each["mode"] == step.wish), None
        )

    async def _shows(self, step: Look) -> bool:
        shown = await self.backend.unit(self.imei(step.unit))
        return all(_matches(_at(shown, key), value) for key, value in step.shows.items())

    async def _open_drift(self, unit: str, causes: Sequence[str], *, gave_up: bool = False) -> Json | None:
        for drift in await self.backend.drifts(self.imei(unit)):
            is_open = drift["cause"] in causes and drift["closed_at"] is None
            if is_open and (drift["gave_up_at"] or not gave_up):
                return drift
        return None

    def _acked(self, unit: str) -> int:
        return sum(line["event"] == "heartbeats_acked" for line in self.did(unit))


NOBODY_APPROVES = (
    "It needs a second person: put the API token of another administrator into HELIOGRAPH_APPROVER_TOKEN."
)


async def _true(there: bool) -> bool:  # noqa: FBT001 - a look like the others, without asking anybody
    return there


def _at(shown: Any, key: str) -> Any:
    """Find what a dotted key names; nothing below what is null."""
    for part in key.split("."):
        if shown is None:
            return None
        if not isinstance(shown, dict) or part not in shown:
            raise InVain(f"the API shows no {key}")
        shown = shown[part]
    return shown


def _matches(found: Any, wanted: Any) -> bool:
    return bool(wanted in found if isinstance(found, list) else found == wanted)
