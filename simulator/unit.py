"""One simulated unit as a state machine, without socket or clock: what it measures, keeps back and answers.

It follows wire.md sections 1 to 3; the order of refusals is that of 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil

from protocol.codec import MAX_BODY, encode
from protocol.messages import (
    Ack,
    AckResult,
    BacklogEntry,
    Command,
    CommandKind,
    Heartbeat,
    Mode,
    Presence,
    PresenceState,
)
from protocol.signing import verify
from simulator.battery import Battery
from simulator.ledger import Key
from simulator.memory import Memory

KEPT = 1_000  # heartbeats that wait for a connection; the oldest go first
ENTRIES = 500  # of a backlog in one message
FIRMWARE = "2.4.1"


class Refusal(StrEnum):
    """Why a unit does not do what a command says."""

    BAD_MAC = "bad_mac"
    UNSUPPORTED = "unsupported"
    STALE_EPOCH = "stale_epoch"
    EXPIRED = "expired"
    HARDWARE = "hardware"


class Unit:
    """A control unit; `memory` outlives a reboot, all else but the backlog does not."""

    def __init__(self, memory: Memory, key: bytes, battery: Battery, *, interval_s: float) -> None:
        self.memory = memory
        self.seq = 0
        self.connections = 0
        self.clock_set = False  # from the network, in this boot
        self.clock_error: timedelta | None = timedelta()  # of the network's time; None: it tells none
        self.bridged = False  # around the load switch
        self.backlog: dict[Key, BacklogEntry] = {}
        self._key = key
        self._battery = battery
        self._next_s = ceil(interval_s)

    @property
    def output(self) -> bool:
        """Whether the home has power now."""
        return (self.memory.power or self.bridged) and not self._battery.lvd

    @property
    def battery_low(self) -> bool:
        """Whether the battery keeps the output off, whatever was applied."""
        return self._battery.lvd

    def reboot(self) -> None:
        """Start again: a new boot, numbers from one, no clock yet."""
        self.memory.boot += 1
        self.seq = 0
        self.connections = 0
        self.clock_set = False

    def reset(self, *, forget: bool) -> None:
        """Undergo a factory reset: heartbeats kept back are gone; a bad one forgets mode and epoch too."""
        self.backlog.clear()
        if forget:
            self.memory.forget()
        self.reboot()

    def measure(self, now: datetime) -> BacklogEntry:
        """Make the next heartbeat of this boot; it is not sent yet."""
        self._watch_contact(now)
        self._battery.live_until(now, switched_on=self.memory.power or self.bridged)
        self.memory.charge, self.memory.energy_wh = self._battery.charge, self._battery.energy_wh
        self.seq += 1
        return BacklogEntry(
            seq=self.seq,
            boot=self.memory.boot,
            ts=self._ts(now),
            mode=self.memory.mode,
            epoch=self.memory.epoch,
            output=self.output,
            readings=self._battery.readings(now),
        )

    def keep_back(self, entries: Iterable[BacklogEntry]) -> list[Key]:
        """Store heartbeats until there is a connection; names those that had to go to make room."""
        self.backlog.update((key(entry), entry) for entry in entries)
        forgotten = sorted(self.backlog)[: max(0, len(self.backlog) - KEPT)]
        for each in forgotten:
            del self.backlog[each]
        return forgotten

    def pack(self, own: BacklogEntry) -> tuple[bytes, list[BacklogEntry]]:
        """Write a heartbeat with as much backlog, oldest first, as fits; also give all that is in it.

        What is packed has left the backlog; `keep_back` is for what then does not arrive.
        """
        waiting = [self.backlog[each] for each in sorted(self.backlog)]
        taken = waiting[:ENTRIES]
        while len(body := encode(self._heartbeat(own, taken))) > MAX_BODY:
            taken = taken[: (len(taken) - 1) * MAX_BODY // len(body)]
        for entry in taken:
            del self.backlog[key(entry)]
        return body, [own, *taken]

    def contact(self, now: datetime) -> None:
        """Note the PUBACK of a heartbeat: it delays an armed switch-off and never undoes one."""
        self._watch_contact(now)
        self.memory.contact_at = now.timestamp()

    def obey(self, command: Command, now: datetime, *, broken: bool = False) -> Ack:
        """Handle a command; `broken` is a load switch that does not move."""
        self._watch_contact(now)
        reason = self._objection(command, now)
        if reason is None and command.kind == CommandKind.SET_MODE and not self._has(command):
            if broken:
                reason = Refusal.HARDWARE
            else:
                self.apply(command, now)
        return self._answer(command, reason, now)

    def promise(self, command: Command, now: datetime) -> Ack:
        """Answer as if the command were done, and change nothing."""
        reason = self._objection(command, now)
        honest = self._answer(command, reason, now)
        if reason or command.kind != CommandKind.SET_MODE:
            return honest
        return honest.model_copy(update={"epoch": command.epoch, "mode": Mode(str(command.mode))})

    def apply(self, command: Command, now: datetime) -> None:
        """Set the mode of a command, heedless of what speaks against it."""
        memory = self.memory
        memory.mode, memory.after_s, memory.epoch = (
            Mode(str(command.mode)),
            command.after_s or 0,
            command.epoch,
        )
        armed = memory.mode is Mode.OFFLINE_DISABLED and memory.after_s > 0
        if armed:
            memory.contact_at = now.timestamp()
        else:
            memory.power = memory.mode is Mode.ENABLED

    def presence(self, state: PresenceState) -> Presence:
        """Say whether this connection stands."""
        return Presence(
            state=state, life=self.memory.life, boot=self.memory.boot, conn=self.connections or None
        )

    def _answer(self, command: Command, reason: Refusal | None, now: datetime) -> Ack:
        return Ack(
            command_id=command.id,
            attempt=command.attempt,
            epoch=self.memory.epoch,
            result=AckResult.REFUSED if reason else AckResult.APPLIED,
            reason=reason,
            mode=self.memory.mode,
            life=self.memory.life,
            boot=self.memory.boot,
            ts=self._ts(now),
        )

    def _objection(self, command: Command, now: datetime) -> Refusal | None:
        memory = self.memory
        if not verify(command, memory.imei, self._key):
            return Refusal.BAD_MAC
        if command.kind != CommandKind.SET_MODE:
            return None if command.kind == CommandKind.PING else Refusal.UNSUPPORTED
        if command.mode not in set(Mode):
            return Refusal.UNSUPPORTED
        if self._has(command):
            return None
        if command.epoch <= memory.epoch:
            return Refusal.STALE_EPOCH
        late = self.clock_set and self._told_time(now) > command.expires_at
        return Refusal.EXPIRED if late and command.mode != Mode.ENABLED else None

    def _has(self, command: Command) -> bool:
        memory = self.memory
        asked = (command.epoch, command.mode, command.after_s or 0)
        return asked == (memory.epoch, memory.mode, memory.after_s)

    def _watch_contact(self, now: datetime) -> None:
        """Switch off an armed unit that has been alone for too long."""
        memory = self.memory
        armed = memory.mode is Mode.OFFLINE_DISABLED and memory.after_s > 0
        if armed and now.timestamp() - memory.contact_at >= memory.after_s:
            memory.power = False

    def _heartbeat(self, own: BacklogEntry, backlog: list[BacklogEntry]) -> Heartbeat:
        boot = self.memory.boot
        same_boot = {"boot": None}
        return Heartbeat(
            life=self.memory.life,
            boot=boot,
            seq=own.seq,
            ts=own.ts,
            mode=own.mode,
            epoch=own.epoch,
            output=own.output,
            next_s=self._next_s,
            fw=FIRMWARE,
            readings=own.readings,
            backlog=tuple(
                each.model_copy(update=same_boot) if each.boot == boot else each for each in backlog
            ),
        )

    def _ts(self, now: datetime) -> int | None:
        return int(self._told_time(now)) if self.clock_set else None

    def _told_time(self, now: datetime) -> float:
        return (now + (self.clock_error or timedelta())).timestamp()


def key(entry: BacklogEntry) -> Key:
    """Name a heartbeat within its unit's life."""
    return entry.boot or 0, entry.seq
