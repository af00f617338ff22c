"""R16: a forged or replayed command has no effect on a unit that holds its own key and an epoch."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from typing import NamedTuple

from uuid_utils.compat import uuid7

from protocol.codec import decode_command, encode
from protocol.identity import Imei
from protocol.messages import AckResult, Command, CommandKind, Mode
from protocol.reasons import Unreadable
from protocol.signing import sign, unit_key
from simulator.battery import Battery
from simulator.memory import Memory
from simulator.unit import Unit
from simulator.weather import Sky
from tests.builders import MASTER, an_imei
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
LATER = int(NOON.timestamp()) + 3600
DAY_S = 86_400

UNITS = {Size.SHORT: 3, Size.FULL: 40}
EPOCHS = 8
"""Mode commands that each unit was sent, one after the other."""

REPLAYS = {Size.SHORT: 2_000, Size.FULL: 100_000}
SPLICED = ("id", "kind", "mode", "after_s", "epoch", "attempt", "expires_at", "args", "mac")


class Meaning(NamedTuple):
    """What a command tells a unit to do; its attempt, and when it was issued, change nothing."""

    id: str
    kind: str
    mode: str
    after_s: int
    epoch: int
    expires_at: int
    args: str | None

    @classmethod
    def of(cls, command: Command) -> Meaning:
        """Read it out of a command."""
        return cls(
            str(command.id),
            command.kind,
            command.mode or "",
            command.after_s or 0,
            command.epoch,
            command.expires_at,
            command.args,
        )


@dataclass
class Victim:
    """A unit, and everything that the backend ever sent it."""

    imei: Imei
    key: bytes = field(repr=False)
    sent: list[Command]

    @property
    def genuine(self) -> set[Meaning]:
        """What it may do."""
        return {Meaning.of(command) for command in self.sent}

    def standing(self, epoch: int) -> Unit:
        """Give it as it was when it had applied everything up to this epoch."""
        memory = Memory(imei=self.imei, life=1, boot=1)
        unit = Unit(memory, self.key, Battery(sky=Sky(1, self.imei), charge=0.9), interval_s=60)
        unit.clock_set = True
        for command in self.sent:
            if command.kind is CommandKind.SET_MODE and command.epoch <= epoch:
                unit.obey(command, NOON)
        return unit


def directly(seed: int, size: Size, tell: Tell) -> Row:
    """Give units every recorded command with each of its bits flipped, spliced, strange and again."""
    trial = Trial(
        "R16", "recorded commands with every bit flipped, spliced, of other units, again in any order", seed
    )
    victims = [victim(number, trial.dice) for number in range(UNITS[size])]
    tried = accepted = 0
    for one in victims:
        genuine = one.genuine
        stages = [one.standing(epoch) for epoch in (0, EPOCHS // 2, EPOCHS)]
        forged = [
            *(body for command in one.sent for body in flipped(encode(command))),
            *spliced(one.sent),
            *(encode(command) for other in victims if other is not one for command in other.sent),
            *(encode(again) for again in signed_with(one, unit_key(bytes(reversed(MASTER)), one.imei))),
        ]
        for unit, body in product(stages, forged):
            tried += 1
            accepted += obeyed(unit, body, genuine)
        tell(f"{accepted} of {tried:,} forged commands accepted")
    trial.figures |= {"forged": tried, "accepted": accepted}
    trial.broken += ["a forged command was accepted"] * accepted
    replays = 0
    for one in victims:
        replays += again_and_again(trial, one, REPLAYS[size] // len(victims)) + too_late(trial, one)
    trial.figures |= {"replayed": replays}
    return trial.row(n=tried + replays)


def victim(number: int, dice: random.Random) -> Victim:
    """Give a unit that was sent modes under rising epochs, and pings between them."""
    imei = an_imei(number + 1)
    key = unit_key(MASTER, imei)
    modes = [
        (Mode.ENABLED, None),
        (Mode.OFFLINE_DISABLED, 0),
        (Mode.OFFLINE_DISABLED, DAY_S),
        (Mode.DISABLED, None),
    ]
    sent = []
    for epoch in range(1, EPOCHS + 1):
        mode, after_s = modes[epoch % len(modes)]
        sent.append(_command(kind=CommandKind.SET_MODE, mode=mode, after_s=after_s, epoch=epoch))
    sent.append(_command(kind=CommandKind.PING, attempt=dice.randint(1, 9)))
    return Victim(imei, key, [sign(command, imei, key) for command in sent])


def flipped(body: bytes) -> Iterator[bytes]:
    """Give a body with each one of its bits turned over."""
    for bit in range(8 * len(body)):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def spliced(sent: Sequence[Command]) -> Iterator[bytes]:
    """Give each command with one field of each other."""
    for command, other, name in product(sent, sent, SPLICED):
        if command is not other:
            yield encode(command.model_copy(update={name: getattr(other, name)}))


def signed_with(one: Victim, key: bytes) -> Iterator[Command]:
    """Give newer commands for this unit, signed with a key that is not its own."""
    for command in one.sent:
        epoch = command.epoch and command.epoch + EPOCHS
        yield sign(command.model_copy(update={"id": uuid7(), "epoch": epoch}), one.imei, key)


def obeyed(unit: Unit, body: bytes, genuine: Iterable[Meaning]) -> bool:
    """Whether a unit did, or said that it did, what it was never told; it is left as it was."""
    before = replace(unit.memory)
    try:
        command = decode_command(body)
    except Unreadable:
        return False
    ack = unit.obey(command, NOON)
    did = unit.memory != before or ack.result is AckResult.APPLIED
    unit.memory = before
    return did and Meaning.of(command) not in genuine


def again_and_again(trial: Trial, one: Victim, number: int) -> int:
    """Replay recorded commands in any order: the newest one heard decides, and each is applied once."""
    modes = [command for command in one.sent if command.kind is CommandKind.SET_MODE]
    given = 0
    while given < number:
        unit, newest, applied = one.standing(0), 0, set()
        for command in trial.dice.choices(modes, k=4 * EPOCHS):
            before = replace(unit.memory)
            ack = unit.obey(command, NOON)
            given += 1
            if unit.memory != before:
                trial.demand(command.epoch > newest, "an older command was applied after a newer one")
                trial.demand(command.epoch not in applied, "a command was applied twice")
                applied.add(command.epoch)
            newest = max(newest, command.epoch)
            trial.demand(
                (unit.memory.epoch, unit.memory.mode) == _of(modes, newest), "not the newest decides"
            )
            right = (ack.result is AckResult.APPLIED) == (command.epoch == newest)
            trial.demand(right, "a replay was answered wrongly")
    return given


def too_late(trial: Trial, one: Victim) -> int:
    """Hold each mode command back until its life is over: what takes power away comes too late."""
    modes = [command for command in one.sent if command.kind is CommandKind.SET_MODE]
    for command in modes:
        ack = one.standing(command.epoch - 1).obey(command, datetime.fromtimestamp(LATER + 1, UTC))
        applied = ack.result is AckResult.APPLIED
        trial.demand(
            applied == (command.mode is Mode.ENABLED), f"{command.mode} after its life: {ack.result}"
        )
    return len(modes)


def _of(modes: Sequence[Command], epoch: int) -> tuple[int, str | None]:
    return epoch, next(command.mode for command in modes if command.epoch == epoch)


def _command(*, attempt: int = 1, **fields: object) -> Command:
    return Command.model_validate(
        {"v": 1, "id": str(uuid7()), "attempt": attempt, "issued_at": LATER - 7200, "expires_at": LATER}
        | fields
    )
