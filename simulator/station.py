"""One unit at its place: its connection, its rhythm and its misfortunes, on the asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import structlog

from protocol.codec import decode_command, encode
from protocol.messages import Ack, AckResult, BacklogEntry, Command, CommandKind, PresenceState
from protocol.reasons import Unreadable
from protocol.topics import Channel
from runtime import clock
from simulator.dice import chance
from simulator.ledger import Key, Ledger
from simulator.link import Endpoint, Link, LoginRefused, NoConnection
from simulator.memory import Memories
from simulator.plan import Plan, Tally
from simulator.unit import Unit, key

LISTENING_S = 10.0  # after the last PUBACK of a heartbeat and after every command: wire.md 1
_LONGEST_WAIT_S = 300
_LAST_DOUBLING = 9  # 2^9 s is beyond the longest wait

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What the stations of a fleet share."""

    plan: Plan
    endpoint: Endpoint
    ledger: Ledger
    memories: Memories
    tally: Tally
    opening: asyncio.Semaphore  # how many may connect at the same time


class Station:
    """Drives one unit."""

    def __init__(self, unit: Unit, password: str, field: Field) -> None:
        self.unit = unit
        self._password = password
        self._field = field
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = asyncio.Event()  # a report is wanted; with --wake only
        self._away_until = self._listening_until = 0.0  # by the loop's clock
        self._network = (
            asyncio.Event()
        )  # is there; else the unit is silent until somebody lets it `come_back`
        self._network.set()
        self._tried: set[Key] = set()  # published, without a PUBACK yet
        self._known_refused = self._known_connected = self._stopping = False

    async def live(self) -> None:
        """Report in rhythm and be connected whenever nothing prevents it, until cancelled."""
        plan = self._field.plan
        self._set_timer(self._loop.time() + plan.interval_s * self._draw("phase"))
        failures, wait = 0, 0.0
        while True:
            await asyncio.sleep(wait)
            await self._network.wait()
            if plan.wake:
                await self._due.wait()
                self._due.clear()
            try:
                link = await self._connect()
            except (LoginRefused, NoConnection) as error:
                self._told(error)
                failures += 1
                if plan.wake:
                    self.report()
            else:
                failures = 0
                await self._stay(link)
            wait = max(0.0, self._away_until - self._loop.time()) + self._backoff(failures)

    def tend(self) -> None:
        """Keep the connection alive."""
        if self._link:
            self._link.tend()

    async def goodbye(self) -> None:
        """Stop reporting, see the last messages through and leave politely."""
        self._stopping = True
        if self._timer:
            self._timer.cancel()
        if link := self._link:
            if link.stands:
                await self._part(link)
            self._gone(link)

    def abandon(self) -> None:
        """Cut what `goodbye` could not end in time; what was never published is lost now."""
        if self._link:
            self._link.drop()
            self._gone(self._link)
        self._lost(each for each in self.unit.backlog if each not in self._tried)

    def hear(self, body: bytes) -> None:
        """Take in what the broker delivers."""
        field, memory = self._field, self.unit.memory
        self._listening_until = self._loop.time() + LISTENING_S
        try:
            command = decode_command(body)
        except Unreadable as error:
            field.ledger.unit("command_unreadable", memory, reason=error.reason)
            return
        field.ledger.command("received", memory, command)
        field.tally.commands_received += 1
        self.handle(command)

    def handle(self, command: Command) -> None:
        """Obey a command: the ack first, after a mode command a heartbeat at once."""
        broken = self._field.plan.strikes("refuse", command.id, command.attempt)
        self.answer(command, self.obey(command, broken=broken))

    def obey(self, command: Command, *, broken: bool = False) -> Ack:
        """Do what a command says, or not, and write it down; give the ack, which is not sent yet."""
        field, memory = self._field, self.unit.memory
        before = memory.epoch
        ack = self.unit.obey(command, clock.now(), broken=broken)
        field.memories.keep(memory)
        field.ledger.answer(memory, command, ack, changed=memory.epoch != before)
        field.tally.commands_applied += ack.result is AckResult.APPLIED
        field.tally.commands_refused += ack.result is AckResult.REFUSED
        return ack

    def answer(self, command: Command, ack: Ack) -> None:
        """Send an ack, and the heartbeat that proves it."""
        self.acknowledge(ack)
        if ack.result is AckResult.APPLIED and command.kind == CommandKind.SET_MODE:
            self.report()

    def acknowledge(self, ack: Ack) -> asyncio.Future[bool]:
        """Send an ack if there is a connection; the future ends as a publish does."""
        if self._link:
            return self._link.publish(Channel.ACK, encode(ack))
        unsent: asyncio.Future[bool] = self._loop.create_future()
        unsent.set_result(False)
        return unsent

    def report(self) -> None:
        """Make a heartbeat, and let happen to it and to the unit what the dice say."""
        if self._stopping:
            return
        plan, own = self._field.plan, self.unit.measure(clock.now())
        names = (self.unit.memory.imei, self.unit.memory.life, *key(own))
        if plan.strikes("lose", *names):
            self._lost([key(own)])
        elif self._link and self._link.stands:
            self._send(self._link, own, copies=2 if plan.strikes("duplicate", *names) else 1)
        else:
            self._keep_back([own])
        if plan.strikes("reboot", *names):
            self.reboot()
        elif plan.strikes("away", *names):
            self._stray()

    def reboot(self) -> None:
        """Lose power and start again."""
        self._cut()
        self.unit.reboot()
        self._restarted()

    def reset(self, *, forget: bool) -> None:
        """Undergo a factory reset; a bad one forgets mode and epoch."""
        self._cut()
        self._lost(each for each in self.unit.backlog if each not in self._tried)
        self._tried.clear()
        self.unit.reset(forget=forget)
        self._field.ledger.unit("reset", self.unit.memory, life=self.unit.memory.life, forgot=forget)
        self._restarted()

    def leave(self) -> None:
        """Lose the network until `come_back`."""
        self._network.clear()
        self._cut()
        self._field.ledger.unit("left", self.unit.memory)

    def come_back(self) -> None:
        """Have the network again."""
        self._network.set()

    def _restarted(self) -> None:
        self._field.memories.keep(self.unit.memory)
        self._field.tally.reboots += 1
        self._field.ledger.unit("rebooted", self.unit.memory, boot=self.unit.memory.boot)

    async def _connect(self) -> Link:
        """Connect, subscribe, say online; what waited for this is sent at once."""
        field, unit = self._field, self.unit
        async with field.opening:
            unit.connections += 1
            self._link = link = Link(
                field.endpoint,
                unit.memory.imei,
                self._password,
                will=unit.presence(PresenceState.OFFLINE),
                hear=self.hear,
            )
            await link.open()
        unit.clock_set = unit.clock_error is not None
        field.tally.connected += 1
        field.tally.ever_connected += not self._known_connected
        self._known_connected = True
        field.ledger.unit("connected", unit.memory, boot=unit.memory.boot, conn=unit.connections)
        link.publish(Channel.PRESENCE, encode(unit.presence(PresenceState.ONLINE)), retain=True)
        if field.plan.wake or unit.backlog:
            self.report()
        return link

    async def _stay(self, link: Link) -> None:
        """Be connected until the connection ends, or with --wake until nothing is to be expected."""
        if self._field.plan.wake:
            self._listening_until = self._loop.time() + LISTENING_S
            while link.stands and (rest := self._listening_until - self._loop.time()) > 0:
                await asyncio.wait([link.lost], timeout=rest)
            if link.stands:
                await self._part(link)
        else:
            await asyncio.wait([link.lost])
        self._gone(link)

    async def _part(self, link: Link) -> None:
        await link.settled()
        link.publish(Channel.PRESENCE, encode(self.unit.presence(PresenceState.OFFLINE)), retain=True)
        await link.settled()
        await link.close()

    def _gone(self, link: Link) -> None:
        self._link = None
        if link.opened:
            self._field.tally.connected -= 1
            why = link.lost.result() if link.lost.done() else "cut"
            self._field.ledger.unit("disconnected", self.unit.memory, why=why)

    def _beat(self, due: float) -> None:
        self._set_timer(max(due + self._field.plan.interval_s, self._loop.time()))
        if self._field.plan.wake and self._link is None:
            self._due.set()
        else:
            self.report()

    def _set_timer(self, due: float) -> None:
        self._timer = self._loop.call_at(due, self._beat, due)

    def _send(self, link: Link, own: BacklogEntry, *, copies: int) -> None:
        body, entries = self.unit.pack(own)
        keys = [key(entry) for entry in entries]
        self._tried.update(keys)
        for _ in range(copies):
            self._field.ledger.heartbeats("sent", self.unit.memory, keys)
            self._field.tally.heartbeats_sent += 1
            link.publish(Channel.HEARTBEAT, body).add_done_callback(partial(self._settle, entries))

    def _settle(self, entries: list[BacklogEntry], published: asyncio.Future[bool]) -> None:
        """Forget what the broker has; keep the rest for the next message."""
        if not published.result():
            self._keep_back(entry for entry in entries if key(entry) in self._tried)
            return
        keys = [key(entry) for entry in entries]
        self._field.ledger.heartbeats("acked", self.unit.memory, keys)
        self._field.tally.heartbeats_acked += 1
        self._tried.difference_update(keys)
        for each in keys:
            self.unit.backlog.pop(each, None)
        self.unit.contact(clock.now())
        self._listening_until = self._loop.time() + LISTENING_S
        if self.unit.backlog and self._link and self._link.stands:
            self.report()

    def _keep_back(self, entries: Iterable[BacklogEntry]) -> None:
        forgotten = self.unit.keep_back(entries)
        self._lost(each for each in forgotten if each not in self._tried)
        self._tried.difference_update(forgotten)

    def _lost(self, keys: Iterable[Key]) -> None:
        if lost := list(keys):
            self._field.ledger.heartbeats("lost", self.unit.memory, lost)
            self._field.tally.heartbeats_lost += len(lost)

    def _stray(self) -> None:
        away_s = self._field.plan.interval_s * (2 + 3 * self._draw("away"))
        self._away_until = self._loop.time() + away_s
        self._cut()
        self._field.ledger.unit("left", self.unit.memory, away_s=round(away_s, 3))

    def _cut(self) -> None:
        if self._link:
            self._link.drop()

    def _told(self, error: LoginRefused | NoConnection) -> None:
        """Say once per unit that its login is refused, and once per fleet that the broker does not answer."""
        self._link = None
        tally = self._field.tally
        if isinstance(error, NoConnection):
            if not tally.connects_failed:
                log.warning("broker_unreachable", **error.facts)
            tally.connects_failed += 1
        elif not self._known_refused:
            self._known_refused = True
            tally.login_refused += 1
            log.warning("login_refused", **error.facts)
            self._field.ledger.unit("login_refused", self.unit.memory, reason=error.facts["reason"])

    def _backoff(self, failures: int) -> float:
        longest = min(_LONGEST_WAIT_S, 1 << min(failures, _LAST_DOUBLING))
        return longest * self._draw("wait", failures, self.unit.connections)

    def _draw(self, *names: object) -> float:
        memory = self.unit.memory
        return chance(self._field.plan.seed, memory.imei, memory.boot, self.unit.seq, *names)
