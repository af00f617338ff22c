"""A unit that treats commands wrongly, by the catalogue in `simulator.faults`: as told, or by the dice."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from datetime import timedelta

from protocol.messages import Command, CommandKind
from runtime import clock
from simulator.dice import chance
from simulator.faults import MISHANDLINGS, Fault
from simulator.station import Field, Station
from simulator.unit import Unit

MOMENT_S = 1.5
"""How much later a unit acts that acknowledges first: some heartbeats of a scenario's unit fit in between."""

WRONG_BY: Mapping[Fault, timedelta | None] = {
    Fault.CLOCK_AHEAD: timedelta(days=8 * 365),
    Fault.CLOCK_BEHIND: timedelta(days=-8 * 365),
    Fault.CLOCK_UNSET: None,
}

_AT_THE_DOOR = frozenset({Fault.LOST, Fault.TWICE, Fault.OVERTAKEN})


class Rogue(Station):
    """A station whose unit has faults in store, one for each command to come."""

    def __init__(self, unit: Unit, password: str, field: Field) -> None:
        super().__init__(unit, password, field)
        self._coming: deque[Fault] = deque()
        self._held: list[bytes] = []  # at the door, until the next command has come
        self._overdue: Command | None = None  # acknowledged, to be done after the next one

    def strike(self, fault: Fault, times: int = 1) -> None:
        """Let a fault happen: now, from now on, or to so many of the next commands."""
        match fault:
            case Fault.SILENCE:
                self.leave()
            case Fault.BRIDGED_OUTPUT:
                self.unit.bridged = True
            case Fault.CLOCK_AHEAD | Fault.CLOCK_BEHIND | Fault.CLOCK_UNSET:
                self._set_clock(WRONG_BY[fault])
            case Fault.CLONED:  # this is the clone; it has waited for this
                self.come_back()
            case Fault.REBOOT:
                self.reboot()
            case Fault.RESET_KEEPING | Fault.RESET_FORGETTING:
                self.reset(forget=fault is Fault.RESET_FORGETTING)
            case _:
                self._coming.extend([fault] * times)

    def mend(self, fault: Fault) -> None:
        """End a fault that lasts, or take what is left of one out of the store."""
        match fault:
            case Fault.SILENCE:
                self.come_back()
            case Fault.BRIDGED_OUTPUT:
                self.unit.bridged = False
            case Fault.CLOCK_AHEAD | Fault.CLOCK_BEHIND | Fault.CLOCK_UNSET:
                self._set_clock(timedelta())
            case Fault.CLONED:
                self.leave()
            case _:
                self._coming = deque(left for left in self._coming if left is not fault)

    def hear(self, body: bytes) -> None:
        """Take in what the broker delivers, after what happens to it on its last step."""
        fault = self._coming.popleft() if self._coming and self._coming[0] in _AT_THE_DOOR else None
        held, self._held = self._held, []
        match fault:
            case Fault.LOST:
                arriving = []
            case Fault.TWICE:
                arriving, self._held = [body, body], [body]
            case Fault.OVERTAKEN:
                arriving, self._held = [], [body]
            case _:
                arriving = [body]
        for each in (*arriving, *held):
            super().hear(each)

    def handle(self, command: Command) -> None:
        """Treat a command as the fault in store demands, or honestly."""
        match self._next(command):
            case Fault.ACK_BEFORE_ACT:
                self._promise(command)
                self._loop.call_later(MOMENT_S, self._keep_word, command, self._boot)
            case Fault.POWER_LOST_AFTER_ACK:
                self._promise(command).add_done_callback(lambda _: self.reboot())
            case Fault.ACT_WITHOUT_ACK:
                self.obey(command)
                self.report()
            case Fault.LYING_ACK:
                self._promise(command)
                self.report()
            case Fault.REBOOT_BEFORE_ACT:
                self.reboot()
            case Fault.REBOOT_AFTER_ACT:
                self.obey(command)
                self.reboot()
            case Fault.BROKEN_SWITCH:
                self.answer(command, self.obey(command, broken=True))
            case Fault.ACT_OUT_OF_TURN:
                self._promise(command)
                self._overdue = command
                return
            case _:
                super().handle(command)
        if self._overdue:
            self._loop.call_later(MOMENT_S, self._slip, self._overdue)
            self._overdue = None

    def _next(self, command: Command) -> Fault | None:
        """Give what is in store for a mode command; for a fleet's, what the dice say."""
        if command.kind != CommandKind.SET_MODE:
            return None
        if self._coming and self._coming[0] not in _AT_THE_DOOR:
            return self._coming.popleft()
        plan, names = self._field.plan, (command.id, command.attempt)
        if plan.strikes("mishandle", *names):
            return MISHANDLINGS[int(chance(plan.seed, "mishandling", *names) * len(MISHANDLINGS))]
        return None

    def _promise(self, command: Command) -> asyncio.Future[bool]:
        """Acknowledge as if it were done, or refuse as an honest unit would."""
        ack = self.unit.promise(command, clock.now())
        self._field.ledger.command("promised", self.unit.memory, command, result=ack.result)
        return self.acknowledge(ack)

    @property
    def _boot(self) -> tuple[int, int]:
        return self.unit.memory.life, self.unit.memory.boot

    def _set_clock(self, error: timedelta | None) -> None:
        """Let the network tell a wrong time, or none, from the next boot on: a clock is set once in each."""
        self.unit.clock_error = error
        self.reboot()

    def _keep_word(self, command: Command, boot: tuple[int, int]) -> None:
        """Do what was acknowledged, by the rules that hold then, unless power was lost in between."""
        if boot == self._boot:
            self.obey(command)
            self.report()

    def _slip(self, command: Command) -> None:
        """Do what was acknowledged long ago, heedless of what came since."""
        self.unit.apply(command, clock.now())
        self._field.memories.keep(self.unit.memory)
        self._field.ledger.command("applied", self.unit.memory, command, changed=True)
        self.report()
