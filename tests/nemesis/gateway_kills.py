"""R1, R2: the gateway is killed under load; what it acknowledged is there, once."""

from __future__ import annotations

import random
import signal
import time
from contextlib import ExitStack

from deploy.local.processes import Child, until
from tests.acceptance.stack import Stack
from tests.nemesis.ground import laid
from tests.nemesis.load import numbered
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import missing, twice

UNITS = 500
PER_SECOND = 1_000
HITS = {Size.SHORT: 4, Size.FULL: 200}
TRIES = 2
"""Kills at most for every one that must hit."""

HIT_S = 2.0
DRAINED_S = 60.0


def at_random(seed: int, size: Size, tell: Tell) -> Row:
    """Kill at random moments until enough kills have hit."""
    dice = random.Random(seed)  # noqa: S311 - seeded, not secret
    began, kills, hits = time.monotonic(), 0, 0
    with laid(UNITS) as ground, ExitStack() as held:
        stack = ground.stack
        gateway = stack.start_gateway()  # first: what nobody is subscribed to is lost by right
        load = held.enter_context(ground.load(numbered(ground.imeis), PER_SECOND))
        while hits < HITS[size] and kills < TRIES * HITS[size]:
            time.sleep(dice.uniform(0, 1.0))  # the moment of the kill is the experiment
            kill(gateway)
            kills += 1
            gateway = stack.start_gateway()
            hits += was_hit(stack)
            tell(f"{hits} of {kills} kills hit, {len(load.acked):,} heartbeats")
        load.finish()
        until(stack.drained, DRAINED_S)
        acknowledged, stored = load.acked, stack.stored()
    return Row(
        promise="R1",
        what="gateway killed (-9) at random moments under load",
        seed=seed,
        n=len(acknowledged),
        seconds=time.monotonic() - began,
        kills=kills,
        kills_that_hit=hits,
        lost=missing(acknowledged, stored),
        doubled=twice(stored),
        violations=int(hits < HITS[size]),
    )


def kill(child: Child) -> None:
    """End a process as it cannot resist."""
    child.tell(signal.SIGKILL)
    child.end()


def was_hit(stack: Stack) -> bool:
    """Whether the killed one held messages that it had not acknowledged: they come again."""
    return until(lambda: stack.metric("heliograph_messages_redelivered_total") > 0, HIT_S)
