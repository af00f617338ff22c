"""Gateways share a fleet: ranges side by side, one over the other, on the move; the books always agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from deploy.local.figures import NEW, REPEATED, UNACKNOWLEDGED, metrics
from deploy.local.processes import Child, until
from tests.acceptance.stack import READY_S, Key, Stack, answers, ledger, running

UNITS = 200
SEED = 31
INTERVAL_S = "0.5"
QUIET_S = 1.5
RECEIVED = "heliograph_messages_received_total"


class Gateway:
    """One gateway of a name, which may come again with other ranges; its figures outlive no process."""

    def __init__(self, stack: Stack, name: str, partitions: str) -> None:
        self.name = name
        self._stack = stack
        self._port = stack.folder.port(f"health-{name}")
        self.child = self._start(partitions)

    def serve(self, partitions: str) -> None:
        """Stop politely and start again with another range."""
        assert self.child.end() == 0, self.child.last_words()
        self.child = self._start(partitions)

    def figures(self) -> Counter[str]:
        """Read every figure; what was never counted is 0."""
        return Counter(metrics(self._port))

    def heard(self) -> float:
        """Count the heartbeats of this process, new and repeated."""
        figures = self.figures()
        return figures[NEW] + figures[REPEATED]

    def published(self) -> float:
        """Count the commands that the broker took from this process."""
        told = self.figures()
        return sum(
            count for name, count in told.items() if name.startswith("heliograph_commands_published_total")
        )

    def _start(self, partitions: str) -> Child:
        words = ("gateway", f"--name={self.name}", "--partitions", partitions)
        child = self._stack.start(*words, env={"HELIOGRAPH_HEALTH_PORT": str(self._port)})
        ready = until(
            lambda: child.ended is not None or answers(f"http://127.0.0.1:{self._port}/readyz"), READY_S
        )
        assert ready, child.last_words()
        assert child.ended is None, child.last_words()
        return child


def start_fleet(stack: Stack, truth: Path) -> Child:
    """Start the fleet and wait until its units speak."""
    words = ("--units", str(UNITS), "--seed", str(SEED), "--interval", INTERVAL_S, "--ledger", truth)
    fleet = stack.start("simulator", "fleet", *words)
    assert until(lambda: acknowledged_in(truth) > 2 * UNITS, 60), fleet.last_words()
    return fleet


def acknowledged_in(truth: Path) -> int:
    return len(ledger(truth, "heartbeats_acked")) if truth.exists() else 0


def come_to_rest(gateways: list[Gateway]) -> None:
    """Wait until every gateway has received nothing, and holds nothing, for a while."""

    def received() -> list[float]:
        return [gateway.figures()[RECEIVED] for gateway in gateways]

    def rests() -> bool:
        before = received()
        return not any(gateway.figures()[UNACKNOWLEDGED] for gateway in gateways) and not until(
            lambda: received() != before, QUIET_S
        )

    assert until(rests, 60)


def of(keys: set[Key] | list[Key], partitions: range) -> list[Key]:
    return [key for key in keys if int(key[0][-2:]) in partitions]


def check_the_books(stack: Stack, truth: Path) -> list[Key]:
    """Hold what is stored against what the fleet knows; give what is stored."""
    stored = stack.stored()
    assert ledger(truth, "heartbeats_acked") - set(stored) == set(), "lost"
    assert set(stored) - ledger(truth, "heartbeats_sent") == set(), "never sent"
    assert len(stored) == len(set(stored)), "doubled"
    assert stack.query("SELECT count(*) FROM dead_letter") == [(0,)]
    return stored


@pytest.mark.timeout(240)
def test_two_gateways_share_the_fleet_and_each_hears_its_own_units_only(tmp_path: Path) -> None:
    with running(["gateway-0-49", "gateway-50-99"]) as stack:
        stack.enrol_fleet(UNITS, SEED)
        low, high = Gateway(stack, "gateway-0-49", "0-49"), Gateway(stack, "gateway-50-99", "50-99")
        truth = tmp_path / "ledger.jsonl"
        fleet = start_fleet(stack, truth)
        assert until(lambda: acknowledged_in(truth) > 15 * UNITS, 60)
        assert fleet.end() == 0, fleet.last_words()
        come_to_rest([low, high])

        stored = check_the_books(stack, truth)
        assert low.figures()[NEW] == len(of(stored, range(50))) > 5 * UNITS
        assert high.figures()[NEW] == len(of(stored, range(50, 100))) > 5 * UNITS


@pytest.mark.timeout(300)
def test_two_gateways_over_the_same_units_store_once_and_send_once(tmp_path: Path) -> None:
    """Every message comes twice, to two processes at the same moment."""
    with running(["gateway-a", "gateway-b"]) as stack:
        stack.enrol_fleet(UNITS, SEED)
        stack.start_api()
        both = [Gateway(stack, "gateway-a", "0-99"), Gateway(stack, "gateway-b", "0-99")]
        truth = tmp_path / "ledger.jsonl"
        fleet = start_fleet(stack, truth)
        ordered = order_a_command_of_each_kind(stack)
        finished = "SELECT count(*) FROM command WHERE state = 'confirmed'"
        assert until(lambda: stack.query(finished) == [(ordered,)], 60), stack.query(
            "SELECT state, count(*) FROM command GROUP BY state"
        )
        assert until(lambda: acknowledged_in(truth) > 15 * UNITS, 60)
        assert fleet.end() == 0, fleet.last_words()
        come_to_rest(both)

        stored = check_the_books(stack, truth)
        figures = [gateway.figures() for gateway in both]
        assert [add_up(each) for each in figures] == [each[RECEIVED] for each in figures]
        assert figures[0][RECEIVED] == figures[1][RECEIVED]
        assert sum(each[NEW] for each in figures) == len(stored)
        assert sum(each[NEW] + each[REPEATED] for each in figures) >= 2 * len(stored)
        assert sum(gateway.published() for gateway in both) == ordered
        assert stack.query("SELECT max(attempt) FROM command") == [(1,)]
        assert most_often_heard(truth) == 1, "a unit heard a command twice"
        assert "deadlock detected" not in stack.folder.log("postgres").read_text()
        assert all("service_interrupted" not in gateway.child.last_words(1000) for gateway in both)


@pytest.mark.timeout(300)
def test_a_range_moves_to_another_gateway_and_nothing_is_lost(tmp_path: Path) -> None:
    """Whoever is to have it takes it first; then whoever had it lets go."""
    with running(["gateway-a", "gateway-b"]) as stack:
        stack.enrol_fleet(UNITS, SEED)
        giver, taker = Gateway(stack, "gateway-a", "0-49"), Gateway(stack, "gateway-b", "50-99")
        truth = tmp_path / "ledger.jsonl"
        fleet = start_fleet(stack, truth)

        taker.serve("30-99")
        assert until(taking_part(truth), 30)
        giver.serve("0-29")
        assert until(taking_part(truth), 30)
        assert fleet.end() == 0, fleet.last_words()
        come_to_rest([giver, taker])

        check_the_books(stack, truth)
        before, after = giver.heard(), taker.heard()
        later = tmp_path / "later.jsonl"
        fleet = start_fleet(stack, later)
        assert fleet.end() == 0, fleet.last_words()
        come_to_rest([giver, taker])
        spoken = ledger(later, "heartbeats_sent")
        assert giver.heard() - before == len(of(spoken, range(30))) > 0, "it still hears what it gave away"
        assert taker.heard() - after == len(of(spoken, range(30, 100))) > 0


def taking_part(truth: Path) -> Callable[[], bool]:
    """Tell when every unit has spoken again, on average."""
    enough = acknowledged_in(truth) + 3 * UNITS
    return lambda: acknowledged_in(truth) >= enough


def add_up(figures: Counter[str]) -> float:
    """Give the sum of all verdicts."""
    return sum(count for name, count in figures.items() if name.startswith("heliograph_messages_total"))


def order_a_command_of_each_kind(stack: Stack) -> int:
    """Order an enable and a ping for every unit; give their number."""
    headers = {"Authorization": f"Bearer {stack.token('technical')}"}
    wishes = [{"kind": "ping"}, {"kind": "set_mode", "mode": "enabled"}]
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=20) as http:
        units = http.get("/v1/units", params={"limit": UNITS}).json()["items"]
        for unit in units:
            for wish in wishes:
                answer = http.post(
                    f"/v1/units/{unit['imei']}/commands",
                    json=wish | {"reason": "roll call"},
                    headers={"Idempotency-Key": str(uuid4())},
                )
                assert answer.status_code == 202, answer.text
    return len(units) * len(wishes)


def most_often_heard(truth: Path) -> int:
    """Tell how often the fleet heard the command that it heard most often."""
    told = (json.loads(line) for line in truth.read_text(encoding="utf-8").splitlines())
    heard = Counter(entry["command_id"] for entry in told if entry["event"] == "command_received")
    return max(heard.values())
