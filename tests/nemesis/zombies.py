"""R9: no gateway looks alive and does nothing: what goes wrong in it ends it, for its supervisor to go on."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping

from deploy.local.processes import Child, until
from tests.acceptance.stack import Stack
from tests.nemesis.ground import BROKER_URL, laid
from tests.nemesis.load import numbered
from tests.nemesis.proxy import Proxy, between
from tests.nemesis.rows import Promise, Row, Size, Tell
from tests.nemesis.spoiled_gateway import FAULTS, STRUCK
from tests.nemesis.subscriptions import CONNECTED, NEW
from tests.nemesis.verdict import Trial
from tests.nemesis.watching import holds

UNITS = 50
PER_SECOND = 300
LIMIT_S = 15.0
STARTED_S = 30.0
PATIENCE_S = 60.0
QUICK = (
    "judging a batch fails",
    "taking a delivery fails",
    "the event loop is blocked",
    "the interpreter is blocked",
)
"""What is tried in a short run."""

LIMITS_S = {Size.SHORT: PATIENCE_S, Size.FULL: LIMIT_S}
"""A short run stands among the tests: it says that it ends, and measures no time on a busy machine."""

ROUNDS = {Size.SHORT: 1, Size.FULL: 5}


def spoiled(seed: int, size: Size, tell: Tell) -> Row:
    """Let one step after the other go wrong; each must end the process, which says so by its exit code."""
    trial = Trial("R9", "a step of the gateway fails, its event loop or its interpreter is blocked", seed)
    with laid(UNITS) as ground:
        stack = ground.stack
        stack.start_gateway().end()  # its session stays: what comes from now on is owed
        with ground.load(numbered(ground.imeis), PER_SECOND) as load:
            for name in FAULTS if size is Size.FULL else QUICK:
                tell(name)
                trial.kills += 1
                _ends(trial, stack, name, LIMITS_S[size])
            stack.start_gateway()
            load.finish()
        return trial.of_loads(ground, load)


def _ends(trial: Trial, stack: Stack, name: str, limit_s: float) -> None:
    """Run a gateway with this fault and see how long it lives with it."""
    child = stack.start("tests.nemesis.spoiled_gateway", name)
    until(lambda: child.ended is not None or _struck_at(child) is not None, STARTED_S)
    until(lambda: child.ended is not None, limit_s)
    seen, struck = time.time(), _struck_at(child)
    code = child.ended
    trial.demand(struck is not None, f"{name}: it never came to that")
    trial.demand(code is not None, f"{name}: it still runs after {limit_s:g} s")
    trial.demand(code != 0, f"{name}: it ended as if all were well")
    trial.hits += struck is not None
    if code is None:
        child.end(((signal.SIGKILL, LIMIT_S),))
    trial.figures[name] = seen - (struck or seen)


def _struck_at(child: Child) -> float | None:
    found = re.search(rf"^{STRUCK} ([\d.]+)$", child.log.read_text(encoding="utf-8"), re.MULTILINE)
    return float(found[1]) if found else None


def frozen(seed: int, size: Size, tell: Tell) -> Row:
    """Let the network to the broker pass nothing on, and say nothing of it: both links begin anew."""
    trial = Trial("R9.frozen", "the network to the broker freezes: no packet, no end of the connection", seed)
    with laid(UNITS) as ground, between(ground.port(BROKER_URL)) as proxy:
        stack = ground.stack
        gateway = stack.start_gateway(env=ground.through(BROKER_URL, proxy.port))
        with ground.load(numbered(ground.imeis), PER_SECOND) as load:
            for number in range(ROUNDS[size]):
                tell(f"round {number + 1} of {ROUNDS[size]}")
                trial.kills += 1
                time.sleep(trial.dice.uniform(1, 5))  # at which point of a keepalive is the experiment
                _freeze(trial, stack, gateway, proxy, LIMITS_S[size])
                _heal(trial, stack, proxy)
            load.finish()
        trial.demand(gateway.ended is None, f"the gateway ended: {gateway.last_words()}")
        return trial.of_loads(ground, load)


def _freeze(trial: Trial, stack: Stack, gateway: Child, proxy: Proxy, limit_s: float) -> None:
    """Freeze, and see how long each link believes in its connection."""
    known, began = _interrupted(gateway), time.monotonic()
    trial.hits += holds(stack)
    proxy.freeze()
    noticed = until(lambda: stack.metric(CONNECTED) == 0, limit_s)
    trial.demand(noticed, f"the uplink noticed nothing within {limit_s:g} s")
    trial.worst("uplink: s to notice", time.monotonic() - began)
    noticed = until(lambda: _interrupted(gateway) > known, began + limit_s - time.monotonic())
    trial.demand(noticed, f"the downlink noticed nothing within {limit_s:g} s")
    trial.worst("downlink: s to notice", time.monotonic() - began)


def _heal(trial: Trial, stack: Stack, proxy: Proxy) -> None:
    """Let the network be back, and see how long the gateway takes."""
    began, stored = time.monotonic(), stack.metric(NEW)
    proxy.heal()
    again = until(lambda: stack.metric(NEW) > stored and stack.gateway_ready(), PATIENCE_S)
    trial.demand(again, f"it was not back within {PATIENCE_S:g} s after the network")
    trial.worst("s to be back", time.monotonic() - began)


def _interrupted(gateway: Child) -> int:
    """How often its downlink has lost the broker."""
    said = gateway.log.read_text(encoding="utf-8")
    return sum('"service_interrupted"' in line and '"downlink"' in line for line in said.splitlines())


PROMISES: Mapping[str, Promise] = {"R9": spoiled, "R9.frozen": frozen}
