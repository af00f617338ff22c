"""Units with everything that befalls real ones, and the truth about what each of them applied (R13).

They are the simulator's own unit and connection; what happens between the two is decided here. All
live on one event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, Self

from protocol.codec import decode_command, encode
from protocol.identity import Imei
from protocol.messages import CommandKind, Mode, PresenceState
from protocol.signing import password, unit_key
from protocol.topics import Channel
from runtime import clock
from simulator.battery import Battery
from simulator.link import Endpoint, Link, LoginRefused, NoConnection
from simulator.memory import Memory
from simulator.unit import Unit
from simulator.weather import Sky

INTERVAL_S = 0.5
AGAIN_S = (0.1, 0.8)
"""Between two attempts to connect."""

LOST, TWICE, LATE = 0.05, 0.3, 0.3
"""Of the commands: never heard, heard twice, each hearing held back."""

LATE_S = 2.0
ACK_LOST, OFF_BEFORE_ACK = 0.1, 0.05
REBOOTS, LEAVES, FORGETS = 0.01, 0.02, 0.004
"""After a heartbeat."""

AWAY_S = (1.0, 6.0)
TICK_S = 0.1


class Applied(NamedTuple):
    """A mode command that changed a unit; a life ends when a unit forgets."""

    imei: Imei
    life: int
    epoch: int
    mode: Mode


class Home:
    """One unit and its misfortunes; the mode it was made with is enabled."""

    def __init__(self, imei: Imei, master: bytes, town: Town, dice: random.Random) -> None:
        self.memory = Memory(imei=imei, life=dice.getrandbits(32) or 1, boot=1)
        self._unit = Unit(
            self.memory, unit_key(master, imei), Battery(sky=Sky(1, imei), charge=0.9), interval_s=1
        )
        self._password = password(master, imei)
        self._town = town
        self._dice = dice
        self._link: Link | None = None
        self._waiting: set[asyncio.TimerHandle] = set()
        self.away_until = 0.0
        """By the monotonic clock; while the town is calm nobody is away."""

    @property
    def mode(self) -> Mode:
        """What it does now."""
        return self.memory.mode

    async def live(self) -> None:
        """Be connected and report whenever nothing prevents it, until cancelled."""
        while True:
            away = not self._town.calm and time.monotonic() < self.away_until
            if away:
                self._cut()
            elif self._link is None:
                await self._connect()
            if self._link and self._link.stands:
                self._report()
                self._link.tend()
                self._misfortune()
            if self._link and not self._link.stands:
                self._link = None
            pause_s = (
                INTERVAL_S * self._dice.uniform(0.5, 1.5) if self._link else self._dice.uniform(*AGAIN_S)
            )
            await asyncio.sleep(pause_s)

    async def _connect(self) -> None:
        self._unit.connections += 1
        link = Link(
            self._town.endpoint,
            self.memory.imei,
            self._password,
            will=self._unit.presence(PresenceState.OFFLINE),
            hear=self._hear,
        )
        with suppress(LoginRefused, NoConnection):
            await link.open()
            self._unit.clock_set = True
            self._link = link
            link.publish(Channel.PRESENCE, encode(self._unit.presence(PresenceState.ONLINE)), retain=True)

    def _report(self) -> None:
        if self._link:
            body, _ = self._unit.pack(self._unit.measure(clock.now()))
            self._link.publish(Channel.HEARTBEAT, body)

    def _hear(self, body: bytes) -> None:
        """Hear a command never, once or twice, now or later."""
        if self._town.calm:
            self._obey(body)
        elif self._dice.random() >= LOST:
            for _ in range(1 + (self._dice.random() < TWICE)):
                late_s = self._dice.uniform(0, LATE_S) if self._dice.random() < LATE else 0.0
                loop = asyncio.get_running_loop()
                self._waiting.add(loop.call_later(late_s, self._obey, body))

    def _obey(self, body: bytes) -> None:
        """Do what a command says, and say so, or lose power before that."""
        command, before = decode_command(body), replace(self.memory)
        ack = self._unit.obey(command, clock.now())
        if (before.epoch, before.mode, before.after_s) != (
            self.memory.epoch,
            self.memory.mode,
            self.memory.after_s,
        ):
            self._town.applied.append(
                Applied(self.memory.imei, self.memory.life, self.memory.epoch, self.memory.mode)
            )
        if self._strikes(OFF_BEFORE_ACK):
            self._reboot()
        elif self._link and not self._strikes(ACK_LOST):
            self._link.publish(Channel.ACK, encode(ack))
        if command.kind is CommandKind.SET_MODE:
            self._report()

    def _misfortune(self) -> None:
        if self._strikes(REBOOTS):
            self._reboot()
        elif self._strikes(LEAVES):
            self.away_until = time.monotonic() + self._dice.uniform(*AWAY_S)
        elif self._strikes(FORGETS):
            self._forget()

    def _strikes(self, rate: float) -> bool:
        return not self._town.calm and self._dice.random() < rate

    def _reboot(self) -> None:
        self._cut()
        self._unit.reboot()

    def _forget(self) -> None:
        """Undergo a factory reset that keeps nothing, against the wire contract."""
        for timer in self._waiting:
            timer.cancel()
        memory = self.memory
        memory.life, memory.boot = self._dice.getrandbits(32) or 1, 0
        memory.epoch, memory.mode, memory.after_s, memory.power = 0, Mode.ENABLED, 0, True
        self._town.forgot += 1
        self._reboot()

    def _cut(self) -> None:
        if self._link:
            self._link.drop()
            self._link = None


class Town:
    """All homes, from when it is entered until its end; `calm` when nothing befalls them any more."""

    def __init__(self, endpoint: Endpoint, master: bytes, imeis: Sequence[Imei], dice: random.Random) -> None:
        self.endpoint = endpoint
        self.calm = False
        self.applied: list[Applied] = []
        self.forgot = 0
        self.homes = {imei: Home(imei, master, self, random.Random(dice.random())) for imei in imeis}  # noqa: S311 - seeded, not secret
        self._over = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="town", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failed:
            raise self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the end
            self._failed = error

    async def _serve(self) -> None:
        lives = [asyncio.create_task(home.live()) for home in self.homes.values()]
        while not self._over.is_set() and not any(life.done() for life in lives):
            await asyncio.sleep(TICK_S)
        for life in lives:
            life.cancel()
        found = await asyncio.gather(*lives, return_exceptions=True)
        for error in found:
            if isinstance(error, Exception):
                raise error
