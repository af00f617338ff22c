"""R10: heartbeats lost between unit and broker are seen, exactly, up to the newest heard of each boot.

The load is a fleet whose messages leak: of every hundred one is never said. Units reboot, lose their
memory (a new life, boots from one again), and bring some of what they kept back as a backlog, late.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

from deploy.local.processes import until
from protocol.codec import encode
from protocol.identity import Imei
from protocol.messages import BacklogEntry, Heartbeat, Mode
from protocol.topics import Channel, topic
from tests.acceptance.stack import Stack
from tests.nemesis.ground import laid
from tests.nemesis.load import Message
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial, twice
from tests.nemesis.watching import drained

UNITS = {Size.SHORT: 40, Size.FULL: 400}
NUMBERS = {Size.SHORT: 150, Size.FULL: 1_500}
"""Heartbeats that each unit makes."""

PER_SECOND = 5_000
LOST, KEPT, REBOOTS, FORGETS = 0.01, 0.005, 0.01, 0.002
"""For each heartbeat: never said, said later in a backlog; and what may happen to the unit after it."""

SAID_S, COUNTED_S = 900.0, 60.0
WORST = 200

Boot = tuple[str, int, int]
"""(imei, life, boot)"""

Hole = tuple[str, int, int, int, int]
"""(imei, life, boot, first, last)"""


@dataclass(slots=True)
class Leaky:
    """A unit, and which of its numbers the broker was given."""

    imei: Imei
    dice: random.Random
    life: int = 0
    boot: int = 1
    seq: int = 0
    said: dict[Boot, set[int]] = field(default_factory=lambda: defaultdict(set))
    kept: list[int] = field(default_factory=list)

    def messages(self, numbers: int) -> Iterator[Message]:
        """Live for so many heartbeats; a boot ends behind one that was said, so that each is heard of."""
        self._forget()
        for _ in range(numbers):
            self.seq += 1
            if self.dice.random() < LOST:
                continue
            if self.dice.random() < KEPT:
                self.kept.append(self.seq)
                continue
            yield self._say()
            if self.dice.random() < FORGETS:
                self._forget()
            elif self.dice.random() < REBOOTS:
                self._start(self.boot + 1)

    def _say(self) -> Message:
        self.said[str(self.imei), self.life, self.boot].update((self.seq, *self.kept))
        backlog = tuple(BacklogEntry(seq=seq, mode=Mode.ENABLED, epoch=0) for seq in self.kept)
        self.kept.clear()
        body = Heartbeat(
            life=self.life, boot=self.boot, seq=self.seq, mode=Mode.ENABLED, epoch=0, backlog=backlog
        )
        return Message(
            topic(self.imei, Channel.HEARTBEAT),
            encode(body),
            (str(self.imei), self.life, self.boot, self.seq),
        )

    def _forget(self) -> None:
        self.life = self.dice.getrandbits(32) or 1
        self._start(1)

    def _start(self, boot: int) -> None:
        """Begin a boot; what was kept and not said is gone."""
        self.boot, self.seq = boot, 0
        self.kept.clear()


def seen(seed: int, size: Size, tell: Tell) -> Row:
    """Compare the holes that the API tells with those that were made."""
    trial = Trial("R10", "1 % never reach the broker; reboots, memory loss, late backlogs", seed)
    with laid(UNITS[size]) as ground:
        stack = ground.stack
        gateway = stack.start_gateway()
        fleet = [Leaky(imei, random.Random(f"{seed} {imei}")) for imei in ground.imeis]  # noqa: S311 - no secret
        with ground.load(_in_turn([unit.messages(NUMBERS[size]) for unit in fleet]), PER_SECOND) as load:
            load.await_end(SAID_S)
        trial.demand(drained(stack), "messages are still held long after the last one")
        tell(f"{len(load.acked):,} messages said")
        said: dict[Boot, set[int]] = {}
        for unit in fleet:
            said |= unit.said
        made = set(_holes(said))
        gateway.end()
        trial.demand(_counted(stack), "the fleet's missing heartbeats are not counted anew")
        stack.start_api()
        told = Questions(stack)
        reported = {hole for imei in ground.imeis for hole in told.holes(imei)}
        trial.broken += [f"not reported: {hole}" for hole in sorted(made - reported)]
        trial.broken += [f"never made: {hole}" for hole in sorted(reported - made)]
        _compare_sums(trial, made, told)
        stored = stack.stored()
    keys = {(*boot, seq) for boot, seqs in said.items() for seq in seqs}
    trial.figures |= {"holes": len(made), "missing": sum(last - first + 1 for *_, first, last in made)}
    trial.figures |= {"boots": len(said), "lives": len({boot[:2] for boot in said})}
    trial.demand(set(stored) <= keys, "heartbeats are stored that were never said")
    return trial.row(n=len(keys), lost=len(keys - set(stored)), doubled=twice(stored))


def _counted(stack: Stack) -> bool:
    """Have the fleet's sums made now, which a gateway makes from time to time and first when it starts."""
    with stack.connection() as conn:
        conn.execute("UPDATE fleet_missing SET due_at = now(), counted_at = NULL")
    stack.start_gateway()
    return until(lambda: stack.query("SELECT counted_at FROM fleet_missing")[0][0] is not None, COUNTED_S)


class Questions:
    """Asks the API."""

    def __init__(self, stack: Stack) -> None:
        self._url, self._token = stack.api_url, stack.token("overview")

    def holes(self, imei: Imei) -> Iterator[Hole]:
        """Name the holes of a unit."""
        answer = self._ask(f"/v1/units/{imei}/holes")
        for boot in answer["boots"]:
            for hole in boot["holes"]:
                yield str(imei), boot["life"], boot["boot"], hole["first"], hole["last"]

    def fleet(self) -> dict[str, Any]:
        """Give the sums of the fleet, without the names of serials."""
        answer = self._ask(f"/v1/fleet/holes?limit={WORST}")
        answer["worst"] = {unit["imei"]: (unit["missing"], unit["boots"]) for unit in answer["worst"]}
        return answer

    def _ask(self, path: str) -> dict[str, Any]:
        request = Request(self._url + path, headers={"Authorization": f"Bearer {self._token}"})  # noqa: S310 - ours
        with urlopen(request, timeout=60) as answer:  # noqa: S310 - ours, on loopback
            found: dict[str, Any] = json.loads(answer.read())
        return found


def _in_turn(units: Sequence[Iterator[Message]]) -> Iterator[Message]:
    """Let every unit say its next until none has more."""
    speaking = list(units)
    while speaking:
        for unit in list(speaking):
            message = next(unit, None)
            if message is None:
                speaking.remove(unit)
            else:
                yield message


def _holes(said: dict[Boot, set[int]]) -> Iterator[Hole]:
    """Find every stretch of numbers below the newest of a boot that was never said."""
    for boot, seqs in said.items():
        before = 0
        for seq in sorted(seqs):
            if seq > before + 1:
                yield *boot, before + 1, seq - 1
            before = seq


def _compare_sums(trial: Trial, made: set[Hole], told: Questions) -> None:
    """Hold what the fleet's page sums up against the same holes."""
    missing: dict[str, int] = defaultdict(int)
    boots: dict[str, set[Boot]] = defaultdict(set)
    for imei, life, boot, first, last in made:
        missing[imei] += last - first + 1
        boots[imei].add((imei, life, boot))
    fleet = told.fleet()
    worst = {imei: (missing[imei], len(boots[imei])) for imei in missing}
    wanted = {"missing": sum(missing.values()), "boots": sum(map(len, boots.values())), "units": len(missing)}
    trial.demand(
        {name: fleet[name] for name in wanted} == wanted, f"the fleet's page says {fleet} and not {wanted}"
    )
    named = fleet["worst"]
    trial.demand(
        all(worst.get(imei) == sums for imei, sums in named.items()), "the fleet's page names other units"
    )
    trial.demand(len(named) == min(WORST, len(worst)), "the fleet's page names too few units")
