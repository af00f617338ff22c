"""How rows are told: a table for people, and bench/faults.json, from which docs/reliability.md is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import report as bench
from deploy.local import postgres
from storage.engine import Engine
from tests.nemesis.ground import programs
from tests.nemesis.rows import Row, Size

FAULTS = Path(bench.__file__).with_name("faults.json")


def circumstances(now: datetime) -> dict[str, Any]:
    """Tell where, with what and when; the server is of our own programs where such are named."""
    found = bench.circumstances(now)
    if binaries := programs():
        extension = postgres.timescale(binaries)
        found["engine"] = Engine.TIMESCALE if extension else Engine.PLAIN
        found["versions"]["postgresql"] = bench.said(str(binaries / "postgres"), "--version").split()[-1]
        if extension:
            found["versions"]["timescaledb"] = _version(extension)
    return found


def keep(entries: Mapping[str, dict[str, Any]], before: Mapping[str, Any]) -> dict[str, Any]:
    """Renew these entries in bench/faults.json, and no others; gives the whole."""
    known = json.loads(FAULTS.read_text(encoding="utf-8")) if FAULTS.exists() else {}
    document = bench.renewed(entries, before, known)
    FAULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return document


def entry(row: Row, size: Size) -> dict[str, Any]:
    """Give what is kept of a row."""
    told = asdict(row) | {"size": size, "seconds": round(row.seconds, 1), "figures": dict(row.figures)}
    return {name: value for name, value in told.items() if name != "promise"}


def table(rows: Iterable[Row], without: Mapping[str, str]) -> Table:
    """Give the table of the terminal; `without` says what there is instead of a row."""
    drawn = Table()
    for title in ("promise", "what"):
        drawn.add_column(title, overflow="fold")
    for title in ("n", "kills", "hit", "lost", "doubled", "violations", "seconds"):
        drawn.add_column(title, justify="right", no_wrap=True)
    drawn.add_column("figures", overflow="fold")
    for row in rows:
        drawn.add_row(
            row.promise,
            "; ".join([row.what, *dict.fromkeys(row.broken)]),
            *(f"{number:,}" for number in (row.n, row.kills, row.kills_that_hit)),
            *(str(number) for number in (row.lost, row.doubled, row.violations)),
            f"{row.seconds:.0f}",
            ", ".join(f"{name} {value:g}" for name, value in row.figures.items()),
            style=None if row.holds else "bold red",
        )
    for promise, why in without.items():
        drawn.add_row(promise, why, style="bold red")
    return drawn


def _version(extension: Path) -> str:
    found = re.search(r"^default_version = '(.+)'$", extension.read_text(encoding="ascii"), re.MULTILINE)
    return found[1] if found else ""
