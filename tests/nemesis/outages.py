"""R7, R22: the database goes away in every way it can, and comes back; nobody waits for it without an end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import httpx
import psycopg

from deploy.local.postgres import Role
from deploy.local.processes import until
from runtime.retry import CAP_S
from storage.pool import CHECK_S
from tests.nemesis.ground import DATABASE_URL, Ground, laid
from tests.nemesis.load import numbered
from tests.nemesis.proxy import Proxy, between
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial
from tests.nemesis.watching import STALLED, figures, holds, verdicts

UNITS = 500
PER_SECOND = 500
AWAY = {Size.SHORT: 0.2, Size.FULL: 1.0}
"""Of the seconds that an outage lasts."""

ROUNDS = {Size.SHORT: 1, Size.FULL: 3}
RECOVERED_S = 60.0

Act = Callable[[Ground, Proxy], None]

OUTAGES: Mapping[str, tuple[Act, Act, float]] = {
    "restart": (lambda ground, _: ground.server.stop(), lambda ground, _: ground.server.start(), 0.0),
    "kill -9": (lambda ground, _: ground.server.kill(), lambda ground, _: ground.server.start(), 0.0),
    "frozen": (lambda ground, _: ground.server.freeze(), lambda ground, _: ground.server.thaw(), 30.0),
    "cut": (lambda _, proxy: proxy.cut(), lambda _, proxy: proxy.heal(), 0.0),
    "refused": (lambda _, proxy: proxy.refuse(), lambda _, proxy: proxy.heal(), 15.0),
    "silent": (lambda _, proxy: proxy.freeze(), lambda _, proxy: proxy.heal(), 15.0),
}
"""How the database goes and comes back, and for how many seconds it stays away."""


def heal(seed: int, size: Size, tell: Tell) -> Row:
    """Let the database go away in every way, and time the first commit after it is back."""
    trial = Trial("R7", f"database away under load: {', '.join(OUTAGES)}", seed)
    with laid(UNITS, own_server=True) as ground, between(ground.port(DATABASE_URL)) as proxy:
        gateway = ground.stack.start_gateway(env=ground.through(DATABASE_URL, proxy.port))
        with ground.load(numbered(ground.imeis), PER_SECOND) as load:
            for name in _shuffled(trial, ROUNDS[size]):
                go, come, lasting_s = OUTAGES[name]
                _flows(ground)
                time.sleep(trial.dice.uniform(0, 0.5))  # the moment is the experiment
                trial.hits += holds(ground.stack)
                go(ground, proxy)
                trial.kills += 1
                time.sleep(AWAY[size] * lasting_s)
                come(ground, proxy)
                back = time.monotonic()
                recovered = _flows(ground)
                trial.worst(f"first commit after {name} (s)", time.monotonic() - back)
                trial.demand(recovered, f"no commit within {RECOVERED_S:g} s after {name}")
                trial.demand(gateway.ended is None, f"the gateway ended with {gateway.ended} at {name}")
                tell(f"{name}: recovered in {time.monotonic() - back:.1f} s")
            load.finish()
        trial.demand(trial.hits > 0, f"none of {trial.kills} outages hit")
        return trial.of_loads(ground, load)


def _shuffled(trial: Trial, rounds: int) -> list[str]:
    names = list(OUTAGES) * rounds
    trial.dice.shuffle(names)
    return names


def _flows(ground: Ground) -> bool:
    """Wait for the next commit."""
    before = verdicts(ground.stack)
    return until(lambda: verdicts(ground.stack) > before, RECOVERED_S)


DEADLINE_S = {Size.SHORT: 2.0, Size.FULL: 15.0}
"""HELIOGRAPH_DATABASE_DEADLINE_S; the longer one is its default."""

DEADLINES = {Size.SHORT: 2, Size.FULL: 3}
"""How many of them each trouble lasts."""

CALLERS = 24
"""Thrice the connections of a process."""

MARGIN_S = {Size.SHORT: 16.0, Size.FULL: 1.0}
"""What a machine with two cores needs to say it; one that runs other tests too is not measured."""

PROBE_S = 0.1
UNANSWERED_S = 120.0


def waits(seed: int, size: Size, tell: Tell) -> Row:
    """Freeze the server, then let a stranger hold a table that every call needs; call all the while."""
    trial = Trial(
        "R22", f"server frozen, then every connection busy: {CALLERS} callers of the API, a load", seed
    )
    deadline_s = DEADLINE_S[size]
    with laid(UNITS, own_server=True) as ground:
        ground.stack.environment["HELIOGRAPH_DATABASE_DEADLINE_S"] = str(deadline_s)
        token = ground.stack.token("overview")
        ground.stack.start_api()
        gateway = ground.stack.start_gateway()
        with ground.load(numbered(ground.imeis), PER_SECOND) as load:
            for name, trouble in (("frozen", frozen), ("busy", busy)):
                _flows(ground)
                with trouble(ground):
                    calls, call_s, stall_s = _longest(ground, token, DEADLINES[size] * deadline_s)
                back = time.monotonic()
                trial.demand(_flows(ground), f"no commit within {RECOVERED_S:g} s after {name}")
                trial.figures |= {
                    f"{name}: calls": calls,
                    f"{name}: longest call (s)": call_s,
                    f"{name}: longest stall (s)": stall_s,
                    f"first commit after {name} (s)": time.monotonic() - back,
                }
                promised_s = deadline_s + CHECK_S + MARGIN_S[size]
                _demand_within(trial, f"{name}: a call", call_s, promised_s)
                _demand_within(trial, f"{name}: a stall", stall_s, promised_s + CAP_S)
                tell(f"{name}: {calls} calls, {call_s:.1f} s at most; a stall of {stall_s:.1f} s")
            load.finish()
        trial.demand(gateway.ended is None, f"the gateway ended with {gateway.ended}")
        return trial.of_loads(ground, load)


def _demand_within(trial: Trial, what: str, seconds: float, promised_s: float) -> None:
    trial.demand(seconds <= promised_s, f"{what} took {seconds:.1f} s, promised are {promised_s:g}")


@contextmanager
def frozen(ground: Ground) -> Iterator[None]:
    """Stop the server as it is."""
    ground.server.freeze()
    try:
        yield
    finally:
        ground.server.thaw()


@contextmanager
def busy(ground: Ground) -> Iterator[None]:
    """Hold what every call of the API and every batch needs, so that connections wait for it one and all."""
    with psycopg.connect(ground.server.url(Role.SUPERUSER)) as conn:
        conn.execute("LOCK TABLE api_token, unit_status IN ACCESS EXCLUSIVE MODE")
        yield


def _longest(ground: Ground, token: str, seconds: float) -> tuple[int, float, float]:
    """Call from many sides for so long; gives calls, the longest of them, the longest stall of ingest."""
    over, stall_s = time.monotonic() + seconds, 0.0
    client = httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=UNANSWERED_S)
    with client, ThreadPoolExecutor(CALLERS) as callers:
        asked = f"{ground.stack.api_url}/v1/units"
        calling = [callers.submit(_call, client, asked, over) for _ in range(CALLERS)]
        while wait(calling, PROBE_S).not_done:
            stall_s = max(stall_s, figures(ground.stack)[STALLED])
    took = [seconds for one in calling for seconds in one.result()]
    return len(took), max(took), stall_s


def _call(client: httpx.Client, address: str, over: float) -> list[float]:
    """Ask again and again; gives how long each answer took, whatever it was."""
    took = []
    while (began := time.monotonic()) < over:
        answer = client.get(address)
        assert answer.status_code in {200, 503}, answer.text
        took.append(time.monotonic() - began)
    return took
