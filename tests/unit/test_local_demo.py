"""What the demo reads, orders and shows, without the system that it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from deploy.local import orders, truth, view, web
from deploy.local.__main__ import app
from deploy.local.comparison import KINDS
from deploy.local.figures import NEW, REPEATED, Figures, Meter
from deploy.local.orders import Operator
from deploy.local.web import Answer

IMEI = "352099001761481"


def a_line(event: str, *keys: tuple[int, int]) -> str:
    return json.dumps({"event": event, "imei": IMEI, "life": 7, "keys": keys}) + "\n"


@pytest.mark.parametrize("option", ["--interval", "--duration"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_demo_without_end_or_pace_is_a_usage_error(option: str, value: str) -> None:
    assert CliRunner().invoke(app, ["demo", option, value]).exit_code == 2


@pytest.mark.parametrize(
    ("file", "words", "why"),
    [
        ("out.json", [], "Without --duration nothing is compared"),
        ("nowhere/out.json", ["--duration", "5"], "No such file or directory"),
        ("", ["--duration", "5"], "Is a directory"),
    ],
)
def test_a_comparison_that_would_not_be_written_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, words: list[str], why: str
) -> None:
    monkeypatch.setenv("COLUMNS", "500")  # a path or a sentence is not to be broken
    monkeypatch.setenv("HELIOGRAPH_STATE_DIR", "/dev/null")  # nothing is started if it is not refused

    done = CliRunner().invoke(app, ["demo", "--json", str(tmp_path / file), *words])

    assert done.exit_code == 2
    assert why in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_tells_acknowledged_from_published(tmp_path: Path) -> None:
    ledger = tmp_path / "now.jsonl"
    ledger.write_text(
        a_line("heartbeats_sent", (1, 1), (1, 2))
        + json.dumps({"event": "command_applied"})
        + "\n"
        + a_line("heartbeats_acked", (1, 1))
    )
    (tmp_path / "earlier.jsonl").write_text(a_line("heartbeats_sent", (1, 0)))

    assert truth.acknowledged(ledger) == {(IMEI, 7, 1, 1)}
    assert truth.published(tmp_path) == {(IMEI, 7, 1, seq) for seq in (0, 1, 2)}


def test_half_a_line_of_a_killed_fleet_says_nothing(tmp_path: Path) -> None:
    ledger = tmp_path / "now.jsonl"
    ledger.write_text(a_line("heartbeats_acked", (1, 1)) + a_line("heartbeats_acked", (1, 2))[:-9])

    assert truth.acknowledged(ledger) == {(IMEI, 7, 1, 1)}


def test_counters_go_on_when_the_gateway_began_anew() -> None:
    meter = Meter()

    meter.read({NEW: 100.0, REPEATED: 1.0}, now=0.0)
    meter.read({NEW: 30.0}, now=2.0)

    assert meter.totals == {NEW: 130.0, REPEATED: 1.0}
    assert meter.rate == 15.0


def test_the_rate_forgets_what_is_long_past() -> None:
    meter = Meter()

    for second in range(20):
        meter.read({NEW: 1000.0 if second else 0.0}, now=float(second))

    assert meter.rate == 0.0


class Api:
    """Stands in for the API: units that are willing or not, and commands in the states they are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.units = [self.unit("A", presence="silent_for"), self.unit("B"), self.unit("C")]
        self.ordered: list[tuple[str, str]] = []
        self.state = "confirmed"
        self.away = False
        monkeypatch.setattr(web, "ask", self.ask)

    @staticmethod
    def unit(serial: str, presence: str = "session_open", enable_status: str = "enabled") -> dict[str, Any]:
        return {"serial_number": serial, "presence": {"reason": presence}, "enable_status": enable_status}

    def ask(self, _port: int, method: str, path: str, **more: Any) -> Answer | None:
        if self.away:
            return None
        assert more["headers"]["Authorization"] == "Bearer a-token"
        if method == "POST":
            assert more["headers"]["Idempotency-Key"]
            self.ordered.append((path.split("/")[3], more["body"].get("mode", more["body"]["kind"])))
            return Answer(202, b'{"id": "x"}')
        shown = self.page(path) if path.startswith("/v1/units") else {"state": self.state}
        return Answer(200, json.dumps(shown).encode())

    def page(self, path: str) -> dict[str, Any]:
        """Show one unit a page, so that each list has more than one."""
        asked = parse_qs(urlsplit(path).query)
        place = int(asked.get("cursor", ["0"])[0])
        more = place + 1 < len(self.units)
        return {"items": self.units[place : place + 1], "next": str(place + 1) if more else None}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    return Api(monkeypatch)


@pytest.fixture
def operator(api: Api) -> Operator:
    assert api.ordered == []
    return Operator(1, "a-token", lambda _line: None)


def test_one_command_of_each_kind_goes_to_a_willing_unit_and_the_disable_is_taken_back(
    api: Api, operator: Operator
) -> None:
    assert not operator.done

    for _ in range(10):
        operator.tend()

    assert operator.done
    assert operator.confirmed == set(KINDS)
    assert api.ordered == [("B", "ping"), ("B", "offline_disabled"), ("B", "enabled")]


def test_a_unit_that_refuses_is_let_be_and_its_disable_taken_back(api: Api, operator: Operator) -> None:
    operator.tend()
    operator.tend()
    operator.tend()
    api.state = "refused"
    operator.tend()
    api.state = "confirmed"
    operator.tend()

    assert api.ordered == [
        ("B", "ping"),
        ("B", "offline_disabled"),
        ("B", "enabled"),
        ("C", "offline_disabled"),
    ]


def test_a_unit_that_does_not_answer_in_time_is_let_be(
    api: Api, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.state = "sent"
    operator.tend()
    operator.tend()
    assert api.ordered == [("B", "ping")]

    monkeypatch.setattr(orders, "PATIENCE_S", -1.0)
    operator.tend()
    operator.tend()

    assert api.ordered == [("B", "ping"), ("C", "ping")]


def test_a_fleet_in_which_nobody_is_willing_is_looked_through_again(api: Api, operator: Operator) -> None:
    api.units = [api.unit(serial, enable_status="offline_disabled") for serial in "ABC"]
    operator.tend()
    assert api.ordered == []

    api.units[0]["enable_status"] = "enabled"
    operator.tend()

    assert api.ordered == [("A", "ping")]


def test_a_look_at_a_large_fleet_ends_and_the_next_one_goes_on(
    api: Api, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "PAGES", 1)

    operator.tend()
    assert api.ordered == []
    operator.tend()

    assert api.ordered == [("B", "ping")]


def test_an_api_that_is_away_is_asked_again(api: Api, operator: Operator) -> None:
    api.away = True
    operator.tend()
    api.away = False
    operator.tend()

    assert api.ordered == [("B", "ping")]


def test_the_figures_are_one_line_where_there_is_no_terminal() -> None:
    figures = Figures(
        units_online=49,
        heartbeats_per_s=9.96,
        stored=1200,
        duplicates=3,
        dead_letters=0,
        commands={"confirmed": 2, "sent": 1},
    )

    assert view.line(figures, 50) == (
        "units online 49 of 50 · heartbeats/s 10.0 · stored 1200 · duplicates 3 · dead letters 0 · "
        "commands 2 confirmed, 1 sent"
    )
