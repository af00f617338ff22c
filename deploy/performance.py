"""docs/performance.md's tables, from bench/results.json: what was measured, where, and when."""

from __future__ import annotations

from typing import Any

from deploy import measured

RESULTS = "results.json"
MARKS = {True: "yes", False: "**no**", None: ""}


def figures() -> list[tuple[str, ...]]:
    """Give a row per figure: key, unit, goal, and value with met, n and losses for each engine."""
    documents = measured.documents(RESULTS)
    keys = sorted({key for document in documents for key in document.get("results", {})})
    return [_row(key, [document.get("results", {}).get(key) for document in documents]) for key in keys]


def circumstances() -> list[tuple[str, ...]]:
    """Give a row per fact of where and how it was measured, for each engine."""
    return measured.circumstances(RESULTS, {"rounds": lambda entry: str(len(entry["runs"]))})


def _row(key: str, entries: list[dict[str, Any] | None]) -> tuple[str, ...]:
    [first, *_] = [entry for entry in entries if entry]
    cells = [cell for entry in entries for cell in _cells(entry)]
    return (f"`{key}`", first["unit"], _goal(entries), *cells)


def _goal(entries: list[dict[str, Any] | None]) -> str:
    goals = [entry["goal"] for entry in entries if entry and entry["goal"] is not None]
    return " / ".join(dict.fromkeys(f"{goal:,g}" for goal in goals))


def _cells(entry: dict[str, Any] | None) -> tuple[str, str, str]:
    if entry is None:
        return ("-", "", "")
    losses = f"{entry['lost']} / {entry['duplicates']} of {entry['n']:,}"
    return (f"{entry['value']:,g}", MARKS[entry["met"]], losses)
