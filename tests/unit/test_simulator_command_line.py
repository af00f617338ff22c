"""What the simulator's command line takes and refuses."""

from __future__ import annotations

import resource

import pytest
from typer.testing import CliRunner

from simulator.__main__ import app
from simulator.roster import table


def test_the_roster_is_printed_as_the_registry_imports_it() -> None:
    told = CliRunner().invoke(
        app, ["roster", "--units", "3", "--seed", "9", "--entity", "4", "--interval", "5"]
    )

    assert told.exit_code == 0
    assert told.stdout == table(3, 9, interval_s=5, entity_id=4)


@pytest.mark.parametrize(
    "options", [["--units", "0", "--interval", "1"], ["--units", "1"], ["--units", "1", "--lose", "1.1"]]
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
