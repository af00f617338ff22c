"""A table is written by one room's SQL only, and a room reads no table of a floor above its own."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWNERS: Mapping[str, set[str]] = {
    "storage": {"schema_migration", "schema_engine"},
    "registry": {
        "entity", "product_type", "unit", "unit_entity", "lifecycle_change", "account", "api_token", "audit",
        "idempotency",
    },
    "telemetry": {
        "unit_status", "unit_life", "unit_sequence", "unit_doubt", "unit_alert", "unit_missing",
        "fleet_missing", "heartbeat", "dead_letter", "dead_letter_fate", "dead_letter_overflow",
    },
    "commands": {"unit_intent", "command", "command_event", "drift", "command_plan", "plan_unit"},
}  # fmt: skip
WRITTEN_BY_FUNCTIONS = {
    "heartbeat_hour", "heartbeat_touched", "heartbeat_summing", "heartbeat_dropped", "unit_past"
}  # fmt: skip
"""Functions of the schema keep them, and the application does not write them."""

OF_THE_MIGRATOR = {"storage/schema.sql", "storage/grants.sql"}
"""SQL that no module runs by name."""

WRITES = re.compile(
    r"\b(?:INSERT\s+INTO|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?|MERGE\s+INTO|COPY"
    r"|(?<!DO )(?<!FOR )(?<!KEY )UPDATE)\s+(?:ONLY\s+)?(\w+)",
    re.IGNORECASE,
)
READS = re.compile(r"\b(?:FROM|JOIN|USING)\s+(?:ONLY\s+)?(\w+)", re.IGNORECASE)
MADE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
STATEMENT = re.compile(r"^-- :(\w+)\n(.*?)(?=^-- :|\Z)", re.MULTILINE | re.DOTALL)
PURPOSE = re.compile(r"-- \w[^\n]*(?:\n-- [^\n]*)*\.\n(?!--)")
WRITING_CODE = re.compile(r"\b(?:INSERT INTO|DELETE FROM|TRUNCATE|MERGE INTO|UPDATE \w+ SET|COPY \w+)\b")


def test_every_table_has_one_owner() -> None:
    made = {
        table
        for path in [*(ROOT / "storage/migrations").glob("*.sql"), ROOT / "storage/migrate.sql"]
        for table in MADE.findall(path.read_text(encoding="utf-8"))
    } - WRITTEN_BY_FUNCTIONS

    assert sorted(made) == sorted(table for tables in OWNERS.values() for table in tables)


def test_a_table_is_written_by_its_owner_only() -> None:
    written = touched(WRITES)
    foreign = {room: tables - OWNERS.get(room, set()) for room, tables in written.items()}

    assert {room: tables for room, tables in foreign.items() if tables} == {}
    assert set().union(*written.values()) == set().union(*OWNERS.values())


def test_a_room_reads_tables_of_its_own_floor_and_below() -> None:
    floors = {room: floor for floor, rooms in enumerate(layers()) for room in rooms}
    floor_of = {table: floors[room] for room, tables in OWNERS.items() for table in tables}

    above = {
        room: high
        for room, tables in touched(READS).items()
        if (high := {table for table in tables if floor_of[table] > floors[room]})
    }

    assert above == {}


def test_no_module_writes_a_table_in_its_own_text() -> None:
    found = [
        str(path.relative_to(ROOT))
        for rooms in layers()
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if WRITING_CODE.search(path.read_text(encoding="utf-8"))
    ]

    assert found == []


def test_every_statement_says_what_it_is_for() -> None:
    silent = [
        f"{path}:{name}" for path in sql_files() for name, text in statements(path) if not PURPOSE.match(text)
    ]

    assert silent == []


def test_every_statement_is_used_by_the_module_beside_it() -> None:
    differing = {
        str(path): used ^ names
        for path in sql_files()
        if (
            used := set(
                re.findall(r"\bSQL\.(\w+)", (ROOT / path.with_suffix(".py")).read_text(encoding="utf-8"))
            )
        )
        != (names := {name for name, _ in statements(path)})
    }

    assert differing == {}


def touched(pattern: re.Pattern[str]) -> dict[str, set[str]]:
    """Give the tables that each room's statements name so."""
    known = set().union(*OWNERS.values())
    found: dict[str, set[str]] = defaultdict(set)
    for path in sql_files():
        text = re.sub(r"--.*", "", (ROOT / path).read_text(encoding="utf-8"))
        found[path.parts[0]] |= set(pattern.findall(text)) & known
    return found


def layers() -> list[list[str]]:
    """Give the rooms by floor, the ground first, as the import contract has them; deploy stands above all."""
    linted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [found] = [contract["layers"] for contract in linted["contracts"] if contract["type"] == "layers"]
    return [*(layer.split(" | ") for layer in reversed(found)), ["deploy"]]


def sql_files() -> Iterator[Path]:
    """Give the files of named statements, relative to the root; migrations are no room's statements."""
    for rooms in layers():
        for room in rooms:
            for path in (ROOT / room).rglob("*.sql"):
                named = path.relative_to(ROOT)
                if named.parent.name != "migrations" and str(named) not in OF_THE_MIGRATOR:
                    yield named


def statements(path: Path) -> list[tuple[str, str]]:
    return STATEMENT.findall((ROOT / path).read_text(encoding="utf-8"))
