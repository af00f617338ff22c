"""R5: a poison message blocks nobody, wherever in a batch it lies.

The poison is every bad message and every message with a bad piece of the table that the codec is held
against (quality: thirty bad inputs, 1 to 16), as far as Mosquitto passes it on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from deploy.local import broker
from deploy.local.account import servers_account
from deploy.local.folder import write_private
from deploy.local.processes import until
from protocol.identity import Imei
from protocol.reasons import Reason
from protocol.topics import Channel, topic
from telemetry.dead_letters import KEPT_BYTES
from tests.acceptance.stack import Key, Stack
from tests.builders import an_imei
from tests.nemesis.ground import Ground, laid
from tests.nemesis.load import Message, numbered
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial, twice
from tests.nemesis.watching import drained, verdicts
from tests.unit import test_wire_table as wire

BATCH = {Size.SHORT: 12, Size.FULL: 25}
"""Messages of a batch: one of them is bad."""

GOOD_UNITS = 50
PER_SECOND = 20_000
PASSED_BYTES = broker.PACKET_BYTES - 1_000
STRANGER = an_imei(99_999_999)
ENDED_S = 240.0

Letter = tuple[str, Reason, str, bytes | None]
"""Topic, reason and place of a dead letter, with the bytes where the whole message is lost."""


@dataclass(frozen=True, slots=True)
class Poison:
    """A message, the dead letters that it must leave, and the heartbeats that are good in it all the same."""

    message: Message
    letters: frozenset[Letter]
    good: frozenset[Key] = frozenset()


def in_every_place(seed: int, size: Size, tell: Tell) -> Row:
    """Queue batches with one bad message each, first, in the middle or last; then let a gateway take them."""
    trial = Trial("R5", "a bad message first, in the middle or last in a batch", seed)
    batch = BATCH[size]
    places = (0, batch // 2, batch - 1)
    with laid(GOOD_UNITS + len(places) * (len(_refused()) + len(_kept()))) as ground:
        poisons = list(chain.from_iterable(_poisons(ground.imeis[GOOD_UNITS:], len(places))))
        _let_speak(ground)
        stack = ground.stack
        stack.start_gateway().end()  # its session stays, and what is said now is queued in one piece
        messages = list(_laced(poisons, places, batch, numbered(ground.imeis[:GOOD_UNITS]), trial.dice))
        with ground.load(iter(messages), PER_SECOND) as load:
            load.await_end(ENDED_S)
        tell(f"{len(messages):,} messages queued, {len(poisons)} of them bad")

        gateway = stack.start_gateway(env={"HELIOGRAPH_GATEWAY_BATCH_ROWS": str(batch)})
        until(lambda: gateway.ended is not None or verdicts(stack) >= len(messages), ENDED_S)
        trial.demand(gateway.ended is None, f"the gateway ended: {gateway.last_words()}")
        trial.broken += _wrong(stack, poisons)
        trial.figures |= {"bad": len(poisons), "kinds": len(poisons) // len(places)}
        trial.demand(drained(stack), "messages are still held long after the last one")
        stored, expected = stack.stored(), set(load.acked).union(*(poison.good for poison in poisons))
        trial.demand(set(stored) <= expected, "heartbeats are stored that were never said")
        return trial.row(n=len(messages), lost=len(expected - set(stored)), doubled=twice(stored))


def _refused() -> list[wire.Refused]:
    """Give every message that is bad as a whole and reaches a gateway."""
    return [case for case in (*wire.TOPICS, *wire.BODIES, *wire.FIELDS) if _passes(case)]


def _kept() -> list[wire.Kept]:
    """Give every heartbeat with a bad piece."""
    return [case for case in (*wire.HEARTBEATS, *wire.BACKLOGS) if case.faults]


def _passes(case: wire.Refused) -> bool:
    """Whether Mosquitto lets this through, and a gateway subscribes to it."""
    levels = case.topic.split("/")
    plain = case.topic.isprintable() and not {"+", "#", "\uffff"} & set(case.topic)
    heard = levels[:2] == ["scu", "v1"] and len(levels) == 5 and levels[4] in {*Channel} - {Channel.COMMAND}
    return plain and heard and len(case.body) < PASSED_BYTES


def _poisons(imeis: Sequence[Imei], copies: int) -> Iterator[Iterator[Poison]]:
    """Give every bad message so often, each time from another unit and with other bytes."""
    units = iter(imeis)
    for case in _refused():
        yield (_bad(case, next(units), copy) for copy in range(copies))
    for kept in _kept():
        yield (_spoiled(kept, next(units)) for _ in range(copies))
    yield (_foreign(copy) for copy in range(copies))


def _bad(case: wire.Refused, imei: Imei, copy: int) -> Poison:
    """Let a unit say a bad message; a topic that names no unit is told apart by the heartbeat's number."""
    where = case.topic.replace(wire.IMEI, imei).replace("/81/", f"/{imei.partition}/")
    if case.name == "the partition of another unit":
        where = topic(imei, Channel.HEARTBEAT).replace(
            f"/{imei.partition}/", f"/{(int(imei.partition) + 1) % 100:02}/"
        )
    body = case.body.replace(b'"seq":1042', b'"seq":%d' % (1042 + copy))
    return Poison(Message(where, body, None), frozenset({(where, case.reason, case.path, body[:KEPT_BYTES])}))


def _spoiled(case: wire.Kept, imei: Imei) -> Poison:
    """Let a unit say a heartbeat with bad pieces; the rest of it counts."""
    where = topic(imei, Channel.HEARTBEAT)
    letters = frozenset((where, reason, path, None) for reason, path, _ in case.faults)
    good = frozenset((str(imei), 0, 3, seq) for seq in (7, *case.says.get("seqs", ())))
    return Poison(Message(where, case.body, None), letters, good)


def _foreign(copy: int) -> Poison:
    """Let somebody speak who is not enrolled."""
    where, body = topic(STRANGER, Channel.HEARTBEAT), wire.but("seq", b"%d" % (copy + 1))
    return Poison(Message(where, body, None), frozenset({(where, Reason.UNKNOWN_UNIT, "", body)}))


def _laced(
    poisons: Sequence[Poison],
    places: Sequence[int],
    batch: int,
    good: Iterator[Message],
    dice: random.Random,
) -> Iterator[Message]:
    """Put one poison into each batch, the copies of each at every place; batches in any order."""
    placed = [(poison, places[number % len(places)]) for number, poison in enumerate(poisons)]
    for poison, bad in dice.sample(placed, len(placed)):
        for place in range(batch):
            yield poison.message if place == bad else next(good)


def _let_speak(ground: Ground) -> None:
    """Allow the load whatever a unit of any name could say."""
    access = ground.stack.mqtt.logins.with_name("access")
    rules = access.read_text(encoding="ascii").replace(
        "topic write scu/v1/+/+/heartbeat\n", "topic write scu/#\n"
    )
    write_private(access, rules, owner=servers_account())
    ground.stack.mqtt.reload()


def _wrong(stack: Stack, poisons: Sequence[Poison]) -> list[str]:
    """Name every dead letter that is missing, came more than once, or was not called for."""
    there: Counter[Letter] = Counter()
    for where, reason, path, body, times in stack.query(
        "SELECT topic, reason, path, body, times FROM dead_letter"
    ):
        there[where, reason, path, None] += times
        there[where, reason, path, bytes(body)] += times
    wanted = set(chain.from_iterable(poison.letters for poison in poisons))
    wrong = [f"{there[letter]} times: {_shown(letter)}" for letter in wanted if there[letter] != 1]
    called_for = {letter[:3] for letter in wanted}
    return wrong + [f"not called for: {_shown(letter)}" for letter in there if letter[:3] not in called_for]


def _shown(letter: Letter) -> str:
    where, reason, path, body = letter
    return f"{reason} at {path!r} of {where} {(body or b'')[:60]!r}"
