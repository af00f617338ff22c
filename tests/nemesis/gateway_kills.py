"""R1, R2: the gateway dies under load, or loses its broker; what was acknowledged is there, once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.local.processes import Child, until
from tests.nemesis.gateway_with_points import Point
from tests.nemesis.ground import BROKER_URL, Ground, laid
from tests.nemesis.load import Load, heartbeat, numbered, repeated
from tests.nemesis.proxy import between
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial
from tests.nemesis.watching import HIT_S, REDELIVERED, was_hit

UNITS = 500
PER_SECOND = 1_000
HITS = {Size.SHORT: 3, Size.FULL: 200}
LEAST = {Size.SHORT: 2_000, Size.FULL: 300_000}
KILLS_PER_HIT = 2  # at most
ROUNDS = {Size.SHORT: 1, Size.FULL: 10}
LAST_BATCH = 5
"""A gateway with a point dies at one of its first batches."""

DIES_S = 30.0
NUMBERS = {Size.SHORT: 6, Size.FULL: 80}
"""Heartbeats of each unit, each said one to five times."""

REPEATED_PER_SECOND = 3_000
LIMIT_S = 300.0


def at_random(seed: int, size: Size, tell: Tell) -> Row:
    """Kill at random moments until enough kills have hit and enough was said."""
    trial = Trial("R1", "gateway killed (-9) at random moments under load", seed)
    with loaded() as (ground, load, first):
        gateway = first
        while trial.kills < KILLS_PER_HIT * HITS[size] and (
            trial.hits < HITS[size] or len(load.acked) < LEAST[size]
        ):
            time.sleep(trial.dice.uniform(0, 1.0))  # the moment of the kill is the experiment
            gateway.tell(signal.SIGKILL)
            trial.demand(
                gateway.end() == -signal.SIGKILL, f"a gateway ended by itself: {gateway.last_words()}"
            )
            gateway = ground.stack.start_gateway()
            trial.kills += 1
            trial.hits += was_hit(ground.stack)
            tell(f"{trial.hits} of {trial.kills} kills hit, {len(load.acked):,} heartbeats")
        load.finish()
        trial.demand(trial.hits >= HITS[size], f"only {trial.hits} of {trial.kills} kills hit")
        return trial.of_loads(ground, load)


def at_points(seed: int, size: Size, tell: Tell) -> Row:
    """Let gateways die at each named point, in a random order."""
    trial = Trial("R1.points", f"gateway killed (-9) at named points: {', '.join(Point)}", seed)
    points = list(Point) * ROUNDS[size]
    trial.dice.shuffle(points)
    with loaded() as (ground, load, gateway):
        gateway.end()
        for point in points:
            batch = trial.dice.randint(1, LAST_BATCH)
            doomed = ground.stack.start("tests.nemesis.gateway_with_points", point, str(batch))
            trial.demand(_ended(doomed) == -signal.SIGKILL, f"no kill at {point} of batch {batch}")
            successor = ground.stack.start_gateway()
            trial.kills += 1
            trial.hits += was_hit(ground.stack)
            successor.end()
            tell(f"{point} in batch {batch}: {trial.hits} of {trial.kills} kills hit")
        ground.stack.start_gateway()
        load.finish()
        trial.demand(trial.hits == trial.kills, f"only {trial.hits} of {trial.kills} kills hit")
        return trial.of_loads(ground, load)


def said_again(seed: int, size: Size, tell: Tell) -> Row:
    """Say everything one to five times, shuffled, while the gateway loses its broker again and again."""
    trial = Trial(
        "R2", "every message 1 to 5 times, shuffled, the gateway cut off its broker meanwhile", seed
    )
    with laid(UNITS) as ground, between(ground.port(BROKER_URL)) as proxy:
        once = [heartbeat(imei, seq) for seq in range(1, NUMBERS[size] + 1) for imei in ground.imeis]
        gateway = ground.stack.start_gateway(env=ground.through(BROKER_URL, proxy.port))
        with ground.load(iter(repeated(once, trial.dice)), REPEATED_PER_SECOND) as load:
            while not load.ended:
                time.sleep(trial.dice.uniform(0.2, 1.0))  # the moment of the cut is the experiment
                before = ground.stack.metric(REDELIVERED)
                proxy.cut()
                trial.kills += 1
                trial.hits += until(lambda: ground.stack.metric(REDELIVERED) > before, HIT_S)  # noqa: B023 - at once
                tell(f"{trial.hits} of {trial.kills} cuts hit, {load.messages_acked:,} messages")
            load.await_end(LIMIT_S)
        trial.demand(gateway.ended is None, "the gateway ended")
        trial.demand(trial.hits > 0, f"none of {trial.kills} cuts hit")
        return trial.of_loads(ground, load)


@contextmanager
def loaded() -> Iterator[tuple[Ground, Load, Child]]:
    """Run a gateway under a steady load; it subscribes first, for what nobody hears is lost by right."""
    with laid(UNITS) as ground:
        gateway = ground.stack.start_gateway()
        with ground.load(numbered(ground.imeis), PER_SECOND) as load:
            yield ground, load, gateway


def _ended(child: Child) -> int | None:
    """Wait for a process to end by itself; gives its exit code."""
    until(lambda: child.ended is not None, DIES_S)
    return child.ended
