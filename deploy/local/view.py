"""The running system on the terminal: a table that lives, or a line now and then where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.local.figures import Figures

LINE_EVERY_S = 5.0

Show = Callable[[Figures], None]


@contextmanager
def view(console: Console, units: int) -> Iterator[Show]:
    """Lend a function that shows the newest figures."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda figures: live.update(table(figures, units), refresh=True)
        return
    due = 0.0

    def tell(figures: Figures) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_EVERY_S
            console.print(line(figures, units), markup=False, highlight=False, soft_wrap=True)

    yield tell


def rows(figures: Figures, units: int) -> dict[str, str]:
    """Name and write every figure."""
    commands = ", ".join(f"{count} {state}" for state, count in figures.commands.items())
    return {
        "units online": f"{figures.units_online} of {units}",
        "heartbeats/s": f"{figures.heartbeats_per_s:.1f}",
        "stored": str(figures.stored),
        "duplicates": str(figures.duplicates),
        "dead letters": str(figures.dead_letters),
        "commands": commands or "none yet",
    }


def table(figures: Figures, units: int) -> Table:
    """Draw the figures for a terminal."""
    drawn = Table.grid(padding=(0, 2))
    for name, value in rows(figures, units).items():
        drawn.add_row(name, value)
    return drawn


def line(figures: Figures, units: int) -> str:
    """Write the figures in one line for a log."""
    return " · ".join(f"{name} {value}" for name, value in rows(figures, units).items())
