"""R4: every message has a verdict, and the figures add up whenever somebody looks."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from protocol.identity import Imei
from protocol.topics import Channel, topic
from tests.builders import an_imei
from tests.nemesis.ground import laid
from tests.nemesis.load import Message, heartbeat
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial, missing, twice
from tests.nemesis.watching import RECEIVED, UNACKNOWLEDGED, drained, figures

UNITS = 200
STRANGER = an_imei(90_000_000)
PER_SECOND = 3_000
MESSAGES = {Size.SHORT: 12_000, Size.FULL: 180_000}
TELL_EVERY = 100  # scrapes
BACKLOG = 2
"""Heartbeats that come with each good one: a message that is read brings this many and its own."""

BAD: Sequence[bytes] = (
    b"",
    b"}",
    b"\xff\xfe",
    b'{"v":1}',
    b'{"v":1,"v":1}',
    b'{"v":1,"boot":1,"seq":2147483648e9,"mode":"enabled","epoch":0}',
    b'{"v":1,"boot":1,"seq":NaN,"mode":"enabled","epoch":0}',
    b'{"v":1,"boot":1,"seq":1,"mode":"dimmed","epoch":0}',
    b'{"v":1,"boot":1,"seq":1,"mode":"enabled","epoch":0,"fw":"\\u0000"}',
    b"{" + b" " * 65_536,
)
STORED, DUPLICATE, DEAD = (
    f'heliograph_messages_total{{verdict="{verdict}"}}' for verdict in ("stored", "duplicate", "dead_letter")
)
NEW, REPEATED = (f'heliograph_heartbeats_total{{kind="{kind}"}}' for kind in ("new", "repeated"))


def add_up(seed: int, size: Size, tell: Tell) -> Row:
    """Scrape as often as it answers while good, repeated and bad messages come."""
    trial = Trial("R4", "figures scraped while good, repeated and bad messages come", seed)
    with laid(UNITS) as ground:
        ground.stack.start_gateway(module="tests.nemesis.restless_gateway")
        everything = list(mixed(ground.imeis, MESSAGES[size], trial.dice))
        bad = sum(message.key is None for message in everything)
        scrapes, wrong = 0, 0
        with ground.load(iter(everything), PER_SECOND) as load:
            while not load.ended:
                found = figures(ground.stack)
                scrapes += 1
                wrong += not balanced(found)
                if scrapes % TELL_EVERY == 0:
                    tell(f"{wrong} of {scrapes:,} scrapes do not add up, {load.messages_acked:,} messages")
            load.await_end(0)
        trial.demand(drained(ground.stack), "the gateway still holds messages long after the last one")
        trial.figures |= {"scrapes": scrapes}
        trial.broken += ["a scrape does not add up"] * wrong
        last, stored = figures(ground.stack), ground.stack.stored()
        trial.demand(balanced(last), "the last scrape does not add up")
        trial.demand(last[RECEIVED] == load.messages_acked, "not every message was received once")
        trial.demand(last[DEAD] == bad, "the dead letters are not the bad ones")
        trial.demand(last[NEW] == len(stored), "what counts as new is not what is stored")
        return trial.row(n=load.messages_acked, lost=missing(load.acked, stored), doubled=twice(stored))


def mixed(imeis: Sequence[Imei], number: int, dice: random.Random) -> Iterator[Message]:
    """Give good messages with a backlog, the same once more now and then, and bad ones between them."""
    for place in range(number):
        imei = imeis[place % len(imeis)]
        kind = dice.random()
        if kind < 0.2:
            yield Message(topic(imei, Channel.HEARTBEAT), dice.choice(BAD), None)
        elif kind < 0.25:
            yield heartbeat(STRANGER, place + 1)._replace(key=None)
        else:
            yield with_backlog(imei, dice.randint(1, 2 * number // len(imeis)))


def with_backlog(imei: Imei, seq: int) -> Message:
    """Give a message of as many heartbeats each time: that is how they can be told from messages."""
    plain = heartbeat(imei, 3 * seq)
    earlier = ",".join(
        f'{{"seq":{3 * seq + place},"mode":"enabled","epoch":12}}' for place in range(1, BACKLOG + 1)
    )
    return plain._replace(body=plain.body[:-1] + f',"backlog":[{earlier}]}}'.encode())


def balanced(found: Mapping[str, float]) -> bool:
    """Whether messages add up, and heartbeats."""
    stored, duplicate, dead = (found.get(name, 0) for name in (STORED, DUPLICATE, DEAD))
    seen = found.get(NEW, 0) + found.get(REPEATED, 0)
    return found[RECEIVED] == stored + duplicate + dead + found[UNACKNOWLEDGED] and seen == (1 + BACKLOG) * (
        stored + duplicate
    )
