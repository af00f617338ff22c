"""A fleet that reboots, stays away, repeats itself, loses messages and refuses: the books still agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from deploy.local.processes import until
from tests.acceptance.stack import Stack, ledger, running

UNITS = 60
SEED = 8
SECONDS = "30"
FAULTS = ("--reboot", "0.02", "--away", "0.02", "--duplicate", "0.1", "--lose", "0.05", "--refuse", "0.3")


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running() as stack:
        stack.start_gateway()
        stack.start_api()
        stack.enrol_fleet(UNITS, SEED)
        yield stack


def order_commands(stack: Stack) -> int:
    """Order an enable for every unit and a ping for every other; give their number."""
    headers = {"Authorization": f"Bearer {stack.token('technical')}"}
    wishes = [{"kind": "set_mode", "mode": "enabled"}, {"kind": "ping"}]
    ordered = 0
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=20) as http:
        units = http.get("/v1/units", params={"limit": 200}).json()["items"]
        for place, unit in enumerate(units):
            for wish in wishes[: 1 + place % 2]:
                answer = http.post(
                    f"/v1/units/{unit['imei']}/commands",
                    json=wish | {"reason": "roll call"},
                    headers={"Idempotency-Key": str(uuid4())},
                )
                assert answer.status_code == 202, answer.text
                ordered += 1
    return ordered


@pytest.mark.timeout(240)
def test_every_heartbeat_that_was_acknowledged_is_there_once_whatever_the_fleet_does(
    stack: Stack, tmp_path: Path
) -> None:
    """R1, R2, R10: backlogs included; what was lost on the way is not there, and nothing else is missing."""
    truth = tmp_path / "ledger.jsonl"
    words = ("--units", str(UNITS), "--interval", "0.5", "--seed", str(SEED), "--duration", SECONDS)
    fleet = stack.start("simulator", "fleet", *words, "--ledger", truth, *FAULTS)
    assert until(lambda: len(ledger(truth, "heartbeats_acked")) > UNITS if truth.exists() else False, 30)
    ordered = order_commands(stack)

    assert until(lambda: fleet.ended is not None, 90)
    assert fleet.ended == 0, fleet.last_words()
    assert until(stack.drained, 20)

    stored, events = stack.stored(), [json.loads(line)["event"] for line in truth.read_text().splitlines()]
    acknowledged, lost = ledger(truth, "heartbeats_acked"), ledger(truth, "heartbeats_lost")
    assert acknowledged - set(stored) == set(), "missing"
    assert set(stored) - ledger(truth, "heartbeats_sent") == set(), "never sent"
    assert set(stored) & lost == set(), "stored although lost on the way"
    assert len(stored) == len(set(stored)), "doubled"
    assert len(acknowledged) > 1_000
    assert {"rebooted", "heartbeats_lost", "command_refused"} <= set(events), "a fault never came"
    assert stack.metric('heliograph_messages_total{verdict="duplicate"}') > 0
    assert stack.query("SELECT count(*) FROM dead_letter") == [(0,)]
    states = dict(stack.query("SELECT state, count(*) FROM command GROUP BY state"))
    assert sum(states.values()) == ordered
    assert states["confirmed"] > 0
    assert states["refused"] > 0
