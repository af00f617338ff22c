"""What was measured and is kept in bench/: on both engines, with where and when."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parents[1] / "bench"
ENGINES = ("plain PostgreSQL", "TimescaleDB")

Fact = Callable[[dict[str, Any]], str]
"""Reads something from one entry."""


def documents(name: str) -> list[dict[str, Any]]:
    """Give what a file of bench/ holds, engine by engine; empty for one that was not measured."""
    found: dict[str, Any] = json.loads((BENCH / name).read_text(encoding="utf-8"))
    return [found, found.get("timescale", {})]


def circumstances(name: str, facts: Mapping[str, Fact]) -> list[tuple[str, ...]]:
    """Give a row per fact of where and how it was measured, for each engine; `facts` are further ones."""
    engines = [_facts(document, facts) for document in documents(name)]
    return [(fact, *(engine.get(fact, "-") for engine in engines)) for fact in max(engines, key=len)]


def commit(entry: Mapping[str, Any]) -> str:
    """Name the commit that an entry was measured at, as short as people write it."""
    return str(entry["commit"] or "-")[:7] + ("" if entry["tree_is_clean"] else " and changes")


def _facts(document: dict[str, Any], facts: Mapping[str, Fact]) -> dict[str, str]:
    if "machine" not in document:
        return {}
    machine, versions = document["machine"], document["versions"]
    results = document["results"].values()
    keys: dict[str, list[str]] = {}
    for key, entry in document["results"].items():
        keys.setdefault(entry["machine"], []).append(f"`{key}`")
    every: Mapping[str, Fact] = {"dates": lambda entry: entry["date"][:10], "commits": commit} | dict(facts)
    return {
        "machine": machines(keys),
        "system, at last": machine["system"],
        "load before, at last": " ".join(map(str, machine["load_average_before"])),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    } | {fact: ", ".join(sorted({read(entry) for entry in results})) for fact, read in every.items()}


def machines(keys: Mapping[str, list[str]]) -> str:
    """Name the machine; of several, each with what was measured there, and the one with most for the rest."""
    most, *others = sorted(keys, key=lambda machine: -len(keys[machine]))
    if not others:
        return most
    told = [f"{', '.join(sorted(keys[one], key=_by_number))}: {one}" for one in others]
    return "; ".join([*told, f"the rest: {most}"])


def _by_number(key: str) -> tuple[int, str]:
    return (len(key.partition(".")[0]), key)
