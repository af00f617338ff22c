"""R8: subscriptions survive what happens to the broker, and the gateway needs no new start for it.

What is promised differs. A broker that is ended politely or reads its files anew keeps all that it
acknowledged. One that is killed may lose what it took after its last save, one that has forgotten its
sessions also what it takes before the gateway has subscribed again: neither ever reached a gateway.
Such heartbeats are lost by right; they are counted, and no others may be missing.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

from deploy.local.processes import until
from tests.acceptance.stack import Key, Stack
from tests.nemesis import mosquitto
from tests.nemesis.ground import laid
from tests.nemesis.load import Load, numbered
from tests.nemesis.rows import Promise, Row, Size, Tell
from tests.nemesis.verdict import Trial, twice
from tests.nemesis.watching import drained, figures, holds

UNITS = 200
PER_SECOND = 1_000
ROUNDS = {Size.SHORT: 1, Size.FULL: 10}
RELOADS = {Size.SHORT: 3, Size.FULL: 20}
"""SIGHUPs of a round."""

STEADY_S = 1.0
RECOVERED_S = 60.0
SAMPLE_S = 0.02
AWAY_S = 1.0
"""So long the broker stays away."""

NONE = range(0)
RESIDENT = "process_resident_memory_bytes"
CONNECTED = "heliograph_gateway_connected"
NEW = 'heliograph_heartbeats_total{kind="new"}'


class Pauses:
    """Watches how long a gateway's count of new heartbeats stands still, and its size; a context manager."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pauses", daemon=True)
        self.longest_s = self.stored = self.peak_mb = 0.0

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        grew_at = time.monotonic()
        while not self._over.wait(SAMPLE_S):
            before = self.stored
            self._look()
            if self.stored > before:
                self.longest_s = max(self.longest_s, time.monotonic() - grew_at)
                grew_at = time.monotonic()

    def _look(self) -> None:
        told = figures(self._stack)
        self.stored = told.get(NEW, 0.0)
        self.peak_mb = max(self.peak_mb, told[RESIDENT] / 1e6)


Fault = Callable[[Stack, Load, Size], range]
"""Does harm; gives the places of those acknowledgements whose heartbeats may be lost by right."""


def ended(stack: Stack, _load: Load, _size: Size) -> range:
    """End it and start it again: it keeps everything."""
    mosquitto.stop(stack)
    time.sleep(AWAY_S)
    mosquitto.start(stack)
    return NONE


def killed(stack: Stack, load: Load, _size: Size) -> range:
    """Kill it a little after a save: what came between may be lost."""
    saved, tries = len(load.acked), load.reconnects
    mosquitto.save(stack)
    time.sleep(STEADY_S)
    mosquitto.stop(stack, signal.SIGKILL)
    until(lambda: load.reconnects > tries, RECOVERED_S)  # then it has read all that was acknowledged
    last = len(load.acked)
    mosquitto.start(stack)
    return range(saved, last)


def reloaded(stack: Stack, _load: Load, size: Size) -> range:
    """Have it read its files anew, again and again."""
    for _ in range(RELOADS[size]):
        stack.mqtt.reload()
        time.sleep(AWAY_S / 4)
    return NONE


def wiped(stack: Stack, load: Load, _size: Size) -> range:
    """End it and take its memory: what waited, and what comes before the gateway is back, has no reader."""
    waiting = max(0, len(load.acked) - PER_SECOND)
    mosquitto.stop(stack)
    mosquitto.wipe(stack)
    time.sleep(AWAY_S)
    mosquitto.start(stack)
    until(lambda: stack.metric(CONNECTED) > 0, RECOVERED_S)
    return range(waiting, len(load.acked))


def survive(promise: str, fault: Fault, what: str, seed: int, size: Size, tell: Tell) -> Row:
    """Do it to a broker under load, again and again, and see that ingest goes on every time."""
    trial = Trial(promise, what, seed)
    excused: set[Key] = set()
    with laid(UNITS) as ground:
        gateway = ground.stack.start_gateway()
        with ground.load(numbered(ground.imeis), PER_SECOND) as load:
            for number in range(ROUNDS[size]):
                tell(f"round {number + 1} of {ROUNDS[size]}")
                excused.update(_round(trial, ground.stack, load, partial(fault, ground.stack, load, size)))
            load.finish()
        trial.demand(gateway.ended is None, f"the gateway ended: {gateway.last_words()}")
        trial.demand(drained(ground.stack), "messages are still held long after the last one")
        stored, acknowledged = ground.stack.stored(), set(load.acked)
    trial.demand(set(stored) <= set(load.sent), "heartbeats are stored that were never said")
    trial.figures["lost by right"] = len(excused & acknowledged - set(stored))
    return trial.row(
        n=len(acknowledged), lost=len(acknowledged - excused - set(stored)), doubled=twice(stored)
    )


def _round(trial: Trial, stack: Stack, load: Load, harm: Callable[[], range]) -> list[Key]:
    """Let it happen once under steady load; gives what may be lost."""
    time.sleep(STEADY_S)
    with Pauses(stack) as pauses:
        trial.hits += holds(stack)
        lost = harm()
        before, trial.kills = pauses.stored, trial.kills + 1
        again = until(lambda: pauses.stored > before, RECOVERED_S)
        trial.demand(again, f"nothing was stored within {RECOVERED_S:g} s")
        time.sleep(STEADY_S)
    trial.worst("s without ingest", pauses.longest_s)
    return load.acked[lost.start : lost.stop]


PROMISES: Mapping[str, Promise] = {
    promise: partial(survive, promise, fault, what)
    for promise, fault, what in (
        ("R8", ended, "broker ended (SIGTERM) and started again"),
        ("R8.kill", killed, "broker killed (-9) and started again"),
        ("R8.reload", reloaded, "broker reads its files anew (SIGHUP)"),
        ("R8.wiped", wiped, "broker started again without its sessions"),
    )
}
