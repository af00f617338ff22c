"""The demo: a simulated fleet on the local stack, one command of each kind, and at the end the comparison."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from deploy.local import truth
from deploy.local.account import Account
from deploy.local.children import Watched, step
from deploy.local.comparison import Comparison, Evidence, compare
from deploy.local.figures import Observer
from deploy.local.folder import Folder
from deploy.local.orders import Operator
from deploy.local.progress import Progress
from deploy.local.stack import ADMINISTRATOR, Stack, up
from deploy.local.tenancy import Tenancy
from deploy.local.view import view

SEED = "1"
FAULTS = ("--reboot", "0.002", "--away", "0.002", "--duplicate", "0.01")
"""A field is not a laboratory: now and then a unit restarts, loses its network, or repeats itself."""

LEDGERS_KEPT = 20
"""Of earlier runs: what a killed fleet sent may still wait in the broker, and was sent all the same."""

LOOK_S = 0.5
PATIENCE_S = 30.0
"""How much longer than asked a run may take, on a slow machine, to its first heartbeat and last command."""

QUIET_S = 1.0
DRAIN_S = 15.0
INTERRUPTED = 130
"""The exit code of a run that was stopped before it could show anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the person at the command line wants."""

    units: int
    gateways: int
    interval_s: float
    duration_s: float | None
    json: Path | None
    began: datetime


def serve(gateways: int, folder: Folder, account: Account, tenancy: Tenancy, progress: Progress) -> int:
    """Run the system without a fleet until somebody asks for the end."""
    with up(folder, account, tenancy, progress, gateways=gateways) as stack:
        _introduce(stack, progress)
        while not progress.pause(LOOK_S):
            stack.tend()
    return 0


def show(options: Options, folder: Folder, account: Account, tenancy: Tenancy, progress: Progress) -> int:
    """Run the system with a fleet; for a set time, with a comparison at its end, or until asked to stop."""

    def enrol(environment: Mapping[str, str]) -> None:
        interval = str(max(1, round(options.interval_s)))
        fleet = ("--units", str(options.units), "--seed", SEED, "--interval", interval)
        step("registry", "import", "-", env=environment, stdin=step("simulator", "roster", *fleet, env={}))

    with up(folder, account, tenancy, progress, gateways=options.gateways, enrol=enrol) as stack:
        with psycopg.connect(stack.database, autocommit=True) as conn:
            run = Run(stack, progress, Observer(conn, stack.health_ports, options.began), options)
            with run.fleet() as fleet:
                _introduce(stack, progress)
                run.watch()
                if options.duration_s is None:
                    return 0
                if progress.stopped:
                    progress.say("stopped before the time was over; nothing was compared")
                    return INTERRUPTED
                comparison = run.compare(fleet)
        return _report(comparison, progress, options)


class Run:
    """One run of the fleet."""

    def __init__(self, stack: Stack, progress: Progress, observer: Observer, options: Options) -> None:
        self._stack = stack
        self._progress = progress
        self._observer = observer
        self._options = options
        self._started = time.monotonic()
        self._operator = Operator(stack.api_port, stack.token, progress.say)
        self._ledgers = stack.folder.path / "ledgers"
        self._ledger = self._ledgers / f"{options.began:%Y%m%dT%H%M%S.%f}.jsonl"

    @contextmanager
    def fleet(self) -> Iterator[Watched]:
        """Let the units live until the block ends; what they remember waits for the next run."""
        self._ledgers.mkdir(mode=0o700, exist_ok=True)
        for forgotten in sorted(self._ledgers.glob("*.jsonl"))[:-LEDGERS_KEPT]:
            forgotten.unlink()
        words = (
            *("simulator", "fleet", "--units", str(self._options.units), "--seed", SEED),
            *("--interval", str(self._options.interval_s), *FAULTS),
            *("--ledger", self._ledger, "--state", self._stack.folder.path / "fleet.jsonl"),
        )
        with self._stack.children.serve("fleet", words, self._stack.environment, again=False) as fleet:
            yield fleet

    def watch(self) -> None:
        """Show how it goes and order the commands, until the time is over or somebody asks for the end."""
        began: float | None = None
        with view(self._progress.console, self._options.units) as tell:
            while not self._over(began) and not self._progress.pause(LOOK_S):
                self._stack.tend()
                self._operator.tend()
                figures = self._observer.look()
                tell(figures)
                if began is None and figures.stored:
                    began = time.monotonic()

    def _over(self, began: float | None) -> bool:
        """Whether the time is over: it counts from the first heartbeat and bears with an open command."""
        if self._options.duration_s is None:
            return False
        if began is None:
            return time.monotonic() > self._started + self._options.duration_s + PATIENCE_S
        more = 0.0 if self._operator.done else PATIENCE_S
        return time.monotonic() > began + self._options.duration_s + more

    def compare(self, fleet: Watched) -> Comparison:
        """End the fleet, let the gateway take in what is on its way, and hold both books side by side."""
        with self._progress.step("Fleet sent home"):
            self._stack.children.stop(fleet)
        with self._progress.step("Gateway took in what was on its way"):
            self._drain()
        figures, received = self._observer.look(), self._observer.received()
        acknowledged = truth.acknowledged(self._ledger)
        began, first = self._options.began, self._observer.first_received()
        return compare(
            Evidence(
                acknowledged=acknowledged,
                published=truth.published(self._ledgers),
                stored=set(received) | self._observer.stored_among(acknowledged.difference(received)),
                received=received,
                confirmed=self._operator.confirmed,
                duplicates=figures.duplicates,
                dead_letters=figures.dead_letters,
                commands=figures.commands,
                seconds_to_first_heartbeat=(first - began).total_seconds() if first else None,
            )
        )

    def _drain(self) -> None:
        """Wait until nothing was unacknowledged for a while; the comparison tells if it was not enough."""
        busy = time.monotonic()

        def quiet() -> bool:
            nonlocal busy
            self._stack.tend()
            if not self._observer.idle():
                busy = time.monotonic()
            return time.monotonic() - busy >= QUIET_S

        self._progress.wait(quiet, DRAIN_S)


def _introduce(stack: Stack, progress: Progress) -> None:
    progress.say(
        f"\nHeliograph is up: http://127.0.0.1:{stack.api_port} (logs: {stack.folder.path / 'logs'})"
    )
    progress.say(f"API token of {ADMINISTRATOR}, shown this once:\n\n  {stack.token}\n")
    progress.say("Ctrl-C ends it.")


def _report(comparison: Comparison, progress: Progress, options: Options) -> int:
    told = asdict(comparison)
    for name, value in told.items():
        progress.say(f"  {name:28} {value}")
    for difference in comparison.differences:
        progress.say(f"✗ {difference}")
    if options.json:  # last: what is said stands there whatever became of the file
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 1 if comparison.differences else 0
