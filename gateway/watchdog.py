"""Ends a gateway in which nothing moves, so that its supervisor starts a new one.

Two things are watched. The event loop: a thread counts its own ticks in which the loop did not come
round, so a process that was stopped or a machine that slept is not blamed for the time that passed.
And the work: messages that are held while no batch was even tried. A database that is away is tried
again and again; waiting for it is no standstill.

The thread needs its turn from the interpreter, which a call into C may never give (a regular
expression that does not end). So it winds up a timer of the system with every tick, which counts the
processor's time and not the clock's, and whose signal ends a process that left it unwound.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import time

import structlog

from gateway import metrics
from gateway.ingest import Ingest
from runtime.errors import HeliographError
from runtime.services import pause

BEAT_S = 0.5
TICK_S = 1.0

STALL_S = 60.0
"""Held messages that nobody tried to bring home for so long: thrice what one try and its pause may take."""

PROCESSOR = 0.3
"""So much of the limit a call may keep the interpreter, in processor time, which a busy machine stretches."""

BUSY_S = 3.0
"""… and never less than this (seconds): within a tick, a busy gateway may use all that two cores have."""

LAST_WORDS_TICKS = 10
"""Ticks that a stalled gateway has to end by itself."""

HUNG = 70
"""Exit code of a process whose event loop hung, or that did not end; EX_SOFTWARE of sysexits."""

log = structlog.get_logger()


class Stalled(HeliographError):
    """Messages wait and nothing is done with them."""


class Pulse:
    """Counts ticks without a beat between them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last = -1
        self._missed = 0

    def stopped(self, beats: int) -> bool:
        """Look at the number of beats so far, once a tick; true when it stood still for `limit` ticks."""
        self._missed = self._missed + 1 if beats == self._last else 0
        self._last = beats
        return self._missed >= self._limit


class Watchdog:
    """Watches one gateway; `limit_s` is for how long its event loop may hang (seconds)."""

    def __init__(self, ingest: Ingest, limit_s: float) -> None:
        self._ingest = ingest
        self._limit = max(1, round(limit_s / TICK_S))
        self._beats = 0
        self._doomed = False
        self._over = threading.Event()

    async def serve(self, stop: asyncio.Event) -> None:
        """Beat, measure and look until stopped; raises `Stalled`."""
        # Last words, then what the signal does by itself: end the process.
        faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
        self._wind_up()
        threading.Thread(target=self._guard, name="watchdog", daemon=True).start()
        try:
            while True:
                asked = time.monotonic()
                if await pause(stop, BEAT_S):
                    return
                self._beats += 1
                metrics.LOOP_LAG.observe(max(0.0, time.monotonic() - asked - BEAT_S))
                self._look()
        finally:
            if not self._doomed:
                self._over.set()

    def _look(self) -> None:
        metrics.QUEUED.set(self._ingest.queued)
        stalled_s = self._ingest.stalled_s
        metrics.STALLED.set(stalled_s)
        if stalled_s > STALL_S:
            self._doomed = True
            raise Stalled("Messages wait and nothing is done with them.", seconds=round(stalled_s))

    def _guard(self) -> None:
        """Run in a thread of its own: a loop that hangs cannot tell."""
        pulse, doomed = Pulse(self._limit), 0
        while not self._over.wait(TICK_S):
            self._wind_up()
            doomed += self._doomed
            if pulse.stopped(self._beats) and not self._doomed:
                log.error("event_loop_hangs", ticks=self._limit, exit=HUNG)
                self._die()
            if doomed >= LAST_WORDS_TICKS:
                log.error("stalled_and_did_not_end", exit=HUNG)
                self._die()
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _wind_up(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, max(BUSY_S, self._limit * TICK_S * PROCESSOR))

    def _die(self) -> None:
        """Say what every thread is doing, and end without asking any of them."""
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.flush()
        os._exit(HUNG)
