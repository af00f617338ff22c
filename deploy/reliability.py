"""docs/reliability.md's tables, from bench/faults.json: which promises were tried, and what was found."""

from __future__ import annotations

import re
from typing import Any

from deploy import measured

FAULTS = "faults.json"
COLUMNS = (
    *("promise", "tried", "engine", "size", "seed", "n"),
    *("kills", "hit", "lost", "doubled", "violations", "seconds", "figures", "commit", "date"),
)


def rows() -> list[tuple[str, ...]]:
    """Give a row per promise and engine, as they were tried last."""
    every = [
        (promise, place, _row(promise, engine, entry))
        for place, (engine, document) in enumerate(
            zip(measured.ENGINES, measured.documents(FAULTS), strict=True)
        )
        for promise, entry in document.get("results", {}).items()
    ]
    return [row for *_, row in sorted(every, key=lambda one: (_order(one[0]), one[1]))]


def circumstances() -> list[tuple[str, ...]]:
    """Give a row per fact of where and how it was tried, for each engine."""
    return measured.circumstances(FAULTS, {})


def _order(promise: str) -> tuple[int, str]:
    number = re.search(r"\d+", promise)
    return (int(number[0]) if number else 0, promise)


def _row(promise: str, engine: str, entry: dict[str, Any]) -> tuple[str, ...]:
    where = (measured.commit(entry), entry["date"][:10])
    if "instead" in entry:
        return (f"`{promise}`", f"**{entry['instead']}**", engine, *[""] * 10, *where)
    return (
        f"`{promise}`",
        "; ".join([entry["what"], *(f"**{why}**" for why in dict.fromkeys(entry["broken"]))]),
        engine,
        entry["size"],
        str(entry["seed"]),
        *(f"{entry[name]:,}" for name in ("n", "kills", "kills_that_hit")),
        *(_bad(entry[name]) for name in ("lost", "doubled", "violations")),
        f"{entry['seconds']:,.0f}",
        ", ".join(f"{name} {value:,g}" for name, value in entry["figures"].items()),
        *where,
    )


def _bad(number: int) -> str:
    return f"**{number:,}**" if number else "0"
