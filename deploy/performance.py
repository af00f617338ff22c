"""docs/performance.md's tables, from bench/results.json: what was measured, where, and when."""

from __future__ import annotations

from typing import Any

from deploy import measured

RESULTS = "results.json"
PROFILE = "profile."
"""How the keys begin that tell where a heartbeat's time goes."""

MARKS = {True: "yes", False: "**no**", None: ""}


def figures() -> list[tuple[str, ...]]:
    """Give a row per figure: key, unit, goal, and value with met, n and losses for each engine."""
    return [_row(key, entries) for key, entries in sorted(_results().items()) if not key.startswith(PROFILE)]


def profile() -> list[tuple[str, ...]]:
    """Give a row per part of a heartbeat's way, in its order: key, what it is, value for each engine."""
    return [
        (f"`{key.removeprefix(PROFILE)}`", _told(entries), *(_value(entry) for entry in entries))
        for key, entries in _results().items()
        if key.startswith(PROFILE)
    ]


def circumstances() -> list[tuple[str, ...]]:
    """Give a row per fact of where and how it was measured, for each engine."""
    return measured.circumstances(RESULTS, {"rounds": lambda entry: str(len(entry["runs"]))})


def _results() -> dict[str, list[dict[str, Any] | None]]:
    """Give what each engine's document says of every key."""
    documents = [document.get("results", {}) for document in measured.documents(RESULTS)]
    keys = dict.fromkeys(key for results in documents for key in results)
    return {key: [results.get(key) for results in documents] for key in keys}


def _told(entries: list[dict[str, Any] | None]) -> str:
    """Give what a part is: the workload's words up to the first semicolon."""
    [first, *_] = [entry for entry in entries if entry]
    return str(first["workload"]).partition(";")[0]


def _value(entry: dict[str, Any] | None) -> str:
    return f"{entry['value']:,g}" if entry else "-"


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
    return (_value(entry), MARKS[entry["met"]], losses)
