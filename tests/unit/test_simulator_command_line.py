"""What the simulator's command line takes and refuses."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulator import roster, scenario
from simulator.__main__ import app
from simulator.faults import Fault
from simulator.roster import BadRoster, table


def test_the_roster_is_printed_as_the_registry_imports_it() -> None:
    told = CliRunner().invoke(
        app, ["roster", "--units", "3", "--seed", "9", "--entity", "4", "--interval", "5"]
    )

    assert told.exit_code == 0
    assert told.stdout == table(3, 9, interval_s=5, entity_id=4)


@pytest.mark.parametrize(
    "options",
    [
        ["--units", "0", "--interval", "1"],
        ["--units", "1"],
        ["--units", "1", "--interval", "1", "--lose", "1.1"],
        ["--units", "1", "--interval", "1", "--lose", "nan"],
        ["--units", "1", "--interval", "inf"],
        ["--units", "1", "--interval", "nan"],
        ["--units", "1", "--interval", "1e300"],
        ["--units", "1", "--interval", "1", "--duration", "inf"],
    ],
)
def test_a_fleet_that_makes_no_sense_is_a_usage_error(options: list[str]) -> None:
    assert CliRunner().invoke(app, ["fleet", *options]).exit_code == 2


def test_a_fleet_larger_than_the_system_admits_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simulator.__main__.logs.configure", lambda _process: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (64, 256))

    told = CliRunner().invoke(app, ["fleet", "--units", "1000", "--interval", "60"])

    assert told.exit_code == 1
    assert "ulimit -n) to 1100" in told.stderr


def test_scenarios_and_invariants_are_listed_with_a_line_each() -> None:
    for_people = CliRunner().invoke(app, ["run", "--list"])
    for_programs = CliRunner().invoke(app, ["run", "--list", "--json"])

    assert (for_people.exit_code, for_programs.exit_code) == (0, 0)
    assert {"lying-ack", "final_mode_is_newest_intent"} <= set(for_people.stdout.split())
    assert json.loads(for_programs.stdout) == {each.name: each.line for each in scenario.catalogue()}


def test_faults_are_listed() -> None:
    for_people = CliRunner().invoke(app, ["faults"])
    for_programs = CliRunner().invoke(app, ["faults", "--json"])

    assert "bridged_output" in for_people.stdout
    assert [each["fault"] for each in json.loads(for_programs.stdout)] == list(Fault)


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "--list"), (["nobody"], "lying-ack"), (["off-and-on", "--roster", "nowhere.csv"], "nowhere.csv")],
)
def test_what_cannot_be_played_ends_2(words: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.__main__.logs.configure", lambda _process: None)

    ended = CliRunner().invoke(app, ["run", *words])

    assert ended.exit_code == 2
    assert told in ended.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("serial_number\nHB000501-084032-G\n", "has no column imei"),
        ("imei\n352099001761481\n12\n", "line 3: An IMEI has fifteen digits"),
    ],
)
def test_a_roster_that_is_none_is_told_with_the_line(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")

    with pytest.raises(BadRoster, match=told):
        roster.read(tmp_path / "roster.csv")


@pytest.mark.parametrize("text", [b"imei\n\xff\n", b"\xff\xfe", b"imei\n" + b"1" * 200_000])
def test_a_roster_that_is_no_csv_in_utf_8_is_told(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_bytes(text)

    with pytest.raises(BadRoster, match="simulator roster"):
        roster.read(tmp_path / "roster.csv")


def test_the_roster_that_is_printed_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_text(table(3, 9, interval_s=5), encoding="utf-8")

    assert roster.read(tmp_path / "roster.csv") == roster.imeis(3, 9)
