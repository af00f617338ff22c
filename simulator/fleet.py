"""All simulated units of one process: made from the plan, tended while they live, sent home politely."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from protocol.signing import password, unit_key
from runtime.services import pause
from simulator.battery import Battery
from simulator.dice import chance
from simulator.ledger import Ledger
from simulator.link import Endpoint
from simulator.memory import Memories, Memory
from simulator.plan import Plan, Tally
from simulator.rogue import Rogue
from simulator.roster import imeis
from simulator.station import Field, Station
from simulator.unit import Unit
from simulator.weather import Sky

GOODBYE_S = 5.0  # for the last PUBACKs and the presence offline,
GOODBYE_PER_UNIT_S = 0.001  # and more for a large fleet: 10,000 goodbyes take six seconds by themselves
_CONNECTING = 100  # units at the same time: as many as a listening socket's queue commonly holds
_TICK_S = 1.0
_SLICES = 5  # a link is tended every so many ticks

log = structlog.get_logger()


class Fleet:
    """A fleet that lives while `serve` runs."""

    def __init__(
        self, plan: Plan, endpoint: Endpoint, master: bytes, *, ledger: Ledger, memories: Memories
    ) -> None:
        self.tally = Tally(plan.units)
        self._failure: Exception | None = None
        self._ledger = ledger
        self._memories = memories
        field = Field(
            plan=plan,
            endpoint=endpoint,
            ledger=ledger,
            memories=memories,
            tally=self.tally,
            opening=asyncio.Semaphore(_CONNECTING),
        )
        self.stations = [
            Rogue(_unit(memory, plan, master), password(master, memory.imei), field)
            for memory in memories.start(imeis(plan.units, plan.seed))
        ]

    async def serve(self, stop: asyncio.Event) -> None:
        """Let every unit live until stop is asked, then end all connections within a bounded time."""
        asyncio.get_running_loop().set_exception_handler(self._callback_failed)
        try:
            async with asyncio.TaskGroup() as group:
                lives = [group.create_task(station.live()) for station in self.stations]
                tick = 0
                while not (await pause(stop, _TICK_S) or self._failure):
                    tick += 1
                    self._tend(self.stations[tick % _SLICES :: _SLICES])
                for life in lives:
                    life.cancel()
        finally:
            await self._end()
        if self._failure:
            raise self._failure

    def _tend(self, stations: Sequence[Station]) -> None:
        self._ledger.flush()
        for station in stations:
            station.tend()

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the fleet when a timer or socket fails: a unit that fell silent would look like a lost one."""
        loop.default_exception_handler(context)
        self._failure = context.get("exception") or self._failure

    async def _end(self) -> None:
        goodbyes = [asyncio.create_task(station.goodbye()) for station in self.stations]
        if goodbyes:
            patience = GOODBYE_S + GOODBYE_PER_UNIT_S * len(goodbyes)
            _, late = await asyncio.wait(goodbyes, timeout=patience)
            for each in late:
                each.cancel()
            await asyncio.gather(*goodbyes, return_exceptions=True)
            if late:
                log.warning("goodbyes_cut", units=len(late), after_s=patience)
        for station in self.stations:
            station.abandon()
        self._ledger.flush()
        self._memories.rewrite()


def _unit(memory: Memory, plan: Plan, master: bytes) -> Unit:
    if memory.charge is None:
        memory.charge = 0.4 + 0.55 * chance(plan.seed, memory.imei, "charge")
    battery = Battery(sky=Sky(plan.seed, memory.imei), charge=memory.charge, energy_wh=memory.energy_wh)
    return Unit(memory, unit_key(master, memory.imei), battery, interval_s=plan.interval_s)
