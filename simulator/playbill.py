"""How scenarios are told to the person who runs them: what there is, what happens now, what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulator.faults import Fault
from simulator.invariants import INVARIANTS
from simulator.scenario import Scenario
from simulator.stage import Outcome


class Teller:
    """Tells each step while it is waited for, and again when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("")
        self._step: str | None = None
        self._began = 0.0

    @contextmanager
    def telling(self, scenario: Scenario) -> Iterator[None]:
        """Tell one scenario."""
        self._say(f"[bold]{escape(scenario.name)}[/bold]: {escape(scenario.line)}")
        self._step = None
        with self._status:
            yield

    def __call__(self, step: str) -> None:
        """Tell that a step begins, and that the one before is done."""
        self.done()
        self._step, self._began = step, time.monotonic()
        self._status.update(escape(step))

    def done(self) -> None:
        """Tell that the step is done."""
        if self._step is not None:
            self._say(f"  ✓ {escape(self._step)} ({time.monotonic() - self._began:.1f} s)")
            self._step = None

    def result(self, outcome: Outcome) -> None:
        """Tell what came of it."""
        self._step = None
        for name, why in outcome.broken.items():
            self._say(f"  ✗ [bold]{name}[/bold] is broken: {escape(why)}")
        if outcome.holds:
            self._say(f"  every invariant holds ({outcome.seconds} s)")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def scenarios_table(scenarios: Iterable[Scenario]) -> Table:
    """List scenarios with a line each."""
    table = Table("scenario", "what happens")
    for scenario in scenarios:
        table.add_row(scenario.name, scenario.line)
    return table


def faults_table() -> Table:
    """List the catalogue of faults."""
    table = Table("fault", "lasts", "what goes wrong")
    for fault in Fault:
        table.add_row(fault, fault.span, fault.meaning)
    return table


def invariants_table() -> Table:
    """List what is held against every scenario."""
    table = Table("invariant", "what must hold")
    for name, check in INVARIANTS.items():
        table.add_row(name, check.__doc__)
    return table
