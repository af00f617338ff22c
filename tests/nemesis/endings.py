"""R12: a command reaches its unit or ends in a named state, whatever dies and whoever stays away."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.local.processes import Child, until
from simulator.roster import imeis as roster
from tests.acceptance.stack import Stack
from tests.nemesis import mosquitto
from tests.nemesis.ground import BROKER_URL, laid
from tests.nemesis.operators import Operators
from tests.nemesis.proxy import Proxy, between
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial

UNITS = {Size.SHORT: 60, Size.FULL: 1_000}
PRESENT = 0.7
COMMANDS = {Size.SHORT: 150, Size.FULL: 10_000}
THINK_S = {Size.SHORT: 0.05, Size.FULL: 0.02}
PEOPLE = 2
INTERVAL_S = 2
BETWEEN_S = {Size.SHORT: (0.5, 2.5), Size.FULL: (1.0, 8.0)}
"""From one harm to the next."""

LIVES_S = {"ENABLE": 8, "DISABLE": 6, "PING": 5}
DEADLINES: Mapping[str, str] = {
    **{f"HELIOGRAPH_COMMAND_LIFE_{kind}_S": str(seconds) for kind, seconds in LIVES_S.items()},
    "HELIOGRAPH_COMMAND_LEASE_S": "3",
    "HELIOGRAPH_COMMAND_ACK_S": "2",
    "HELIOGRAPH_COMMAND_PAUSE_S": "0.5",
    "HELIOGRAPH_COMMAND_PAUSE_MAX_S": "2",
    "HELIOGRAPH_COMMAND_CONTACT_S": "3",
    "HELIOGRAPH_COMMAND_EVIDENCE_INTERVALS": "1",
}
GRACE_S = 10.0
"""After the life of the last command: what gateways need to come back, and reapers to pass by."""

REPORTED_S = 60.0
FAULTS = ("--reboot", "0.01", "--away", "0.01", "--duplicate", "0.1", "--lose", "0.02", "--refuse", "0.1")
UNFINISHED = "SELECT count(*) FROM command WHERE finished_at IS NULL"
UNDER_WAY = "SELECT count(*) FROM command WHERE state IN ('sending', 'sent', 'acknowledged')"
LEFT = f"{UNFINISHED} AND (origin = 'person' OR expires_at < now() - make_interval(secs => {GRACE_S}))"
"""Of what people ordered everything is to end; what is sent again because of it may be younger."""

REPORTING = "SELECT count(*) FROM unit_status WHERE mode IS NOT NULL"


def named(seed: int, size: Size, tell: Tell) -> Row:
    """Order and order while gateway, broker and the way between them go, and many units are gone."""
    trial = Trial(
        "R12",
        f"gateway killed (-9), broker ended and killed, cut; {1 - PRESENT:.0%} of the units away for good",
        seed,
    )
    units = UNITS[size]
    with laid(0) as ground, between(ground.port(BROKER_URL)) as proxy:
        stack = ground.stack
        stack.environment |= DEADLINES
        enrol(stack, units, seed)
        harm = Harm(trial, stack, proxy, ground.through(BROKER_URL, proxy.port))
        tokens = [stack.token("admin", email=f"{number}@example.com") for number in range(PEOPLE)]
        stack.start_api()
        _fleet(stack, units, seed).end()
        fleet = _fleet(stack, round(PRESENT * units), seed)
        with Operators(
            stack.api_url, tokens, roster(units, seed), trial.dice, think_s=THINK_S[size]
        ) as people:
            while len(people.commands) < COMMANDS[size]:
                time.sleep(trial.dice.uniform(*BETWEEN_S[size]))  # the moment of the harm is the experiment
                tell(f"{harm.strike()}: {len(people.commands):,} commands")
        ended = until(lambda: stack.query(LEFT) == [(0,)], max(LIVES_S.values()) + GRACE_S)
        [(unfinished,)] = stack.query(LEFT)
        trial.demand(ended, f"{unfinished} commands are unfinished after expiry and grace")
        trial.demand(fleet.end() == 0, f"the fleet failed: {fleet.last_words()}")
        states = dict(stack.query("SELECT state, count(*) FROM command GROUP BY state"))
        trial.demand(states.get("confirmed", 0) > 0, "nothing was confirmed")
        trial.demand(states.get("expired", 0) > 0, "nothing expired")
        trial.figures |= {"unfinished": unfinished, **states}
        accepted = people.commands
        there = {str(found) for (found,) in stack.query("SELECT id FROM command")}
        return trial.row(n=len(accepted), lost=len(accepted - there))


class Harm:
    """A gateway, its broker and the way between them, and what may befall each."""

    def __init__(self, trial: Trial, stack: Stack, proxy: Proxy, through: Mapping[str, str]) -> None:
        self._trial = trial
        self._stack = stack
        self._proxy = proxy
        self._through = through
        self.start_gateway()
        self._deeds = {
            "gateway killed": self._kill_gateway,
            "broker ended": lambda: self._end_broker(signal.SIGTERM),
            "broker killed": lambda: self._end_broker(signal.SIGKILL),
            "cut": proxy.cut,
        }
        self._next: list[str] = []

    def strike(self) -> str:
        """Do one of them, and say which."""
        if not self._next:
            self._next = self._trial.dice.sample(list(self._deeds), len(self._deeds))
        name = self._next.pop()
        self._trial.hits += self._stack.query(UNDER_WAY) != [(0,)]
        self._deeds[name]()
        self._trial.kills += 1
        return name

    def start_gateway(self) -> None:
        """Start a gateway that goes through the proxy."""
        self._gateway = self._stack.start_gateway(module="tests.nemesis.prompt_gateway", env=self._through)

    def end_gateway(self, how: signal.Signals) -> None:
        """End it; it may not have ended by itself."""
        alive = self._gateway.ended is None
        self._trial.demand(alive, f"a gateway ended by itself: {self._gateway.last_words()}")
        self._gateway.end(((how, REPORTED_S),))

    def _kill_gateway(self) -> None:
        self.end_gateway(signal.SIGKILL)
        self.start_gateway()

    def _end_broker(self, how: signal.Signals) -> None:
        mosquitto.stop(self._stack, how)
        mosquitto.start(self._stack)


def enrol(stack: Stack, units: int, seed: int) -> None:
    """Enrol units that are expected to report often."""
    words = ("--units", str(units), "--seed", str(seed), "--interval", str(INTERVAL_S))
    stack.run("registry", "import", "-", stdin=stack.run("simulator", "roster", *words))
    stack.refresh_logins()


def _fleet(stack: Stack, units: int, seed: int) -> Child:
    """Run so many of the units, and wait until all that were enrolled have reported at least once."""
    words = ("--units", str(units), "--interval", str(INTERVAL_S), "--seed", str(seed), *FAULTS)
    state: Path = stack.folder.path / "memories.jsonl"
    fleet = stack.start("simulator", "fleet", *words, "--state", state)
    assert until(lambda: stack.query(REPORTING)[0][0] >= units, REPORTED_S), fleet.last_words()
    return fleet
