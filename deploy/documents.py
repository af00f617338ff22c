"""`python -m deploy.documents`: write the generated parts of docs/ anew from the code that they tell of.

A part stands between `<!-- generated: name -->` and `<!-- end -->`; an architecture test holds every
part against what this module gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from prometheus_client import REGISTRY

from api import door
from commands import dispatcher, executor, reconcile
from commands.states import FINAL, MOVES, State
from deploy import measured, performance, reliability
from gateway import metrics
from protocol.reasons import Reason
from registry import lifecycle
from runtime.__main__ import variables
from runtime.settings import Commands
from simulator import scenario
from simulator.faults import Fault
from simulator.invariants import INVARIANTS
from telemetry import missing

DOCS = Path(__file__).resolve().parents[1] / "docs"
METRICS = (metrics, door, dispatcher, executor, reconcile, missing)
"""Where this project's figures are named: importing them has put them into the registry."""

_PART = re.compile(r"(?<=<!-- generated: )([a-z]+) -->\n.*?(?=<!-- end -->)", re.DOTALL)


def reasons_table() -> str:
    """Tell every reason of a dead letter."""
    return _table(("reason", "what it says"), ((f"`{reason}`", reason.meaning) for reason in Reason))


def settings_table(concern: str | None = None) -> str:
    """Tell every variable, or those of one concern."""
    told = (
        (f"`{one['name']}`", f"`{one['default']}`", one["meaning"])
        for one in variables()
        if concern in {None, one["concern"]}
    )
    return _table(("variable", "default", "meaning"), told)


def state_drawing() -> str:
    """Draw the moves of a command; what every state under way has in common is drawn once."""
    shared = frozenset.intersection(*(MOVES[state] for state in State if state not in FINAL))
    moves = [(here, there) for here in State for there in State if there in MOVES[here]]
    inner = [move for move in moves if not FINAL.intersection(move)]
    outer = [
        (here, there)
        for here, there in moves
        if FINAL & {here, there} and (here in FINAL or there not in shared)
    ]
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> awaiting_approval",
            "    [*] --> queued",
            '    state "under way" as under_way {',
            *(f"        {here} --> {there}" for here, there in inner),
            "    }",
            *(f"    under_way --> {there}" for there in State if there in shared),
            *(f"    {here} --> {there}" for here, there in outer),
            "```",
            "",
        ]
    )


def lifecycle_table() -> str:
    """Tell the moves of a unit's life."""
    moves = lifecycle.MOVES.items()
    return _table(
        ("state", "may go to"),
        (
            (f"`{here}`", ", ".join(f"`{there}`" for there in sorted(away)) or "nowhere")
            for here, away in moves
        ),
    )


def metrics_table() -> str:
    """Tell every figure of gateway and api by the name under which it is scraped."""
    ours = sorted(
        (one for one in REGISTRY.collect() if one.name.startswith("heliograph_")), key=lambda one: one.name
    )
    named = ((f"{one.name}_total" if one.type == "counter" else one.name, one) for one in ours)
    return _table(
        ("metric", "kind", "meaning"), ((f"`{name}`", one.type, one.documentation) for name, one in named)
    )


def performance_table() -> str:
    """Tell what was measured, on both engines side by side."""
    columns = [column for name in measured.ENGINES for column in (name, "met", "lost / twice of")]
    return _table(("figure", "unit", "goal", *columns), performance.figures())


def profile_table() -> str:
    """Tell where a heartbeat's time goes, on both engines side by side."""
    return _table(("part", "what", *measured.ENGINES), performance.profile())


def circumstances_table() -> str:
    """Tell where and when it was measured."""
    return _table(("", *measured.ENGINES), performance.circumstances())


def reliability_table() -> str:
    """Tell which promises were tried, and what was found."""
    return _table(reliability.COLUMNS, reliability.rows())


def trials_table() -> str:
    """Tell where and when they were tried."""
    return _table(("", *measured.ENGINES), reliability.circumstances())


def scenarios_table() -> str:
    """Tell every scenario that comes with the simulator."""
    return _table(
        ("scenario", "what happens"), ((f"`{each.name}`", each.line) for each in scenario.catalogue())
    )


def faults_table() -> str:
    """Tell what a simulated unit can do wrong with commands."""
    return _table(
        ("fault", "lasts", "what goes wrong"), ((f"`{each}`", each.span, each.meaning) for each in Fault)
    )


def invariants_table() -> str:
    """Tell what is held against every scenario."""
    return _table(
        ("invariant", "what must hold"),
        ((f"`{name}`", check.__doc__ or "") for name, check in INVARIANTS.items()),
    )


PARTS: Mapping[str, Callable[[], str]] = {
    "circumstances": circumstances_table,
    "deadlines": partial(settings_table, Commands.__name__),
    "faults": faults_table,
    "invariants": invariants_table,
    "lifecycle": lifecycle_table,
    "metrics": metrics_table,
    "performance": performance_table,
    "profile": profile_table,
    "reasons": reasons_table,
    "reliability": reliability_table,
    "scenarios": scenarios_table,
    "settings": settings_table,
    "states": state_drawing,
    "trials": trials_table,
}


def renewed(text: str) -> str:
    """Give a document with every generated part as the code now tells it."""
    return _PART.sub(lambda part: f"{part[1]} -->\n\n{PARTS[part[1]]()}\n", text)


def write(folder: Path = DOCS) -> list[Path]:
    """Renew the documents of a folder and name those that were out of date."""
    stale = []
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if renewed(text) != text:
            path.write_text(renewed(text), encoding="utf-8")
            stale.append(path)
    return stale


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    print("\n".join(path.name for path in write()) or "nothing to do")  # noqa: T201 - says what it wrote
