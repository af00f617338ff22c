"""No heartbeat that the broker handed over is lost, whenever the gateway dies, and none counts twice."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.processes import Child, until
from tests.acceptance.stack import Stack, ledger, running

UNITS = 500
INTERVAL_S = 0.7
HITS = 7
KILLS_PER_HIT = 3  # at most
LEAST = 20_000
SEED = 20261122


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running() as stack:
        yield stack


@pytest.mark.timeout(600)
def test_kills_under_load_lose_nothing_and_double_nothing(stack: Stack, tmp_path: Path) -> None:
    """R1, R2: a kill counts when the broker had delivered what was not acknowledged yet."""
    stack.enrol_fleet(UNITS, SEED)
    dice = random.Random(SEED)  # noqa: S311 - seeded, not secret
    gateway = stack.start_gateway()
    truth = tmp_path / "ledger.jsonl"
    fleet = stack.start(
        *("simulator", "fleet", "--units", str(UNITS), "--interval", str(INTERVAL_S), "--seed", str(SEED)),
        *("--ledger", truth),
    )
    assert until(lambda: stack.metric("heliograph_messages_received_total") > 3 * UNITS, 60), (
        fleet.last_words()
    )

    kills = hits = 0
    while hits < HITS and kills < KILLS_PER_HIT * HITS:
        time.sleep(dice.uniform(1.5, 4.0))  # the moment of the kill is the experiment
        gateway.tell(signal.SIGKILL)
        gateway.end()
        gateway = stack.start_gateway()
        kills += 1
        hits += until(lambda: stack.metric("heliograph_messages_redelivered_total") > 0, 2)
    assert until(lambda: len(ledger(truth, "heartbeats_acked")) > LEAST, 240)
    assert fleet.end() == 0, fleet.last_words()
    assert until(stack.drained, 30)

    stored = stack.stored()
    acknowledged, everything = ledger(truth, "heartbeats_acked"), ledger(truth, "heartbeats_sent")
    assert hits >= HITS, f"only {hits} of {kills} kills left delivered messages unacknowledged"
    assert len(acknowledged) >= LEAST
    assert acknowledged - set(stored) == set(), "lost"
    assert set(stored) - everything == set(), "never sent"
    assert len(stored) == len(set(stored)), "doubled"


@pytest.mark.timeout(240)
def test_five_thousand_messages_behind_a_stopped_gateway_arrive(stack: Stack, tmp_path: Path) -> None:
    stack.enrol_fleet(200, SEED)
    stack.start_gateway().end()
    truth = tmp_path / "ledger.jsonl"
    fleet = stack.start(
        "simulator", "fleet", "--units", "200", "--interval", "0.3", "--seed", str(SEED), "--ledger", truth
    )
    assert until(lambda: truth.exists() and len(ledger(truth, "heartbeats_acked")) >= 5_000, 60)
    assert fleet.end() == 0, fleet.last_words()
    acknowledged = ledger(truth, "heartbeats_acked")

    stack.start_gateway()
    assert until(lambda: acknowledged <= set(stack.stored()), 60)
    assert until(stack.drained, 20)

    stored = stack.stored()
    assert len(acknowledged) >= 5_000
    assert set(stored) <= ledger(truth, "heartbeats_sent"), "never sent"
    assert len(stored) == len(set(stored)), "doubled"


def test_a_second_gateway_of_the_same_name_stands_by_and_takes_over(stack: Stack) -> None:
    """Standing by it keeps off the broker altogether: two under one login would end each other for ever."""
    first = stack.start_gateway()
    second = stack.start("gateway", "--name", "gateway-0-99", env={"HELIOGRAPH_HEALTH_PORT": "0"})
    assert until(lambda: "standing_by" in second.last_words(500), 20)
    assert not until(lambda: "_connected" in second.last_words(500), 2), "it logged in while standing by"

    first.tell(signal.SIGKILL)
    first.end()

    assert until(lambda: "uplink_subscribed" in second.last_words(500), 20)
    assert second.last_words(500).count("standing_by") == 1


def test_a_lost_database_is_waited_for_by_the_same_process(stack: Stack) -> None:
    """R7: every connection is ended by the server, three times; the gateway goes on by itself."""
    gateway = stack.start_gateway()
    for times in (1, 2, 3):
        assert until(lambda: said(gateway)["uplink_subscribed"] >= times, 20)  # noqa: B023 - at once
        stack.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'heliograph_app'")
    assert until(lambda: said(gateway)["uplink_subscribed"] > 3, 20), gateway.last_words()
    assert until(stack.gateway_ready, 20), gateway.last_words()

    assert gateway.ended is None
    assert said(gateway)["service_interrupted"] > 0
    assert "Traceback" not in gateway.log.read_text(encoding="utf-8")


def said(gateway: Child) -> Counter[str]:
    """Count what a gateway has told, by event: what lasts too short to be seen stands there yet."""
    whole, _, _ = gateway.log.read_text(encoding="utf-8").rpartition("\n")
    return Counter(json.loads(line)["event"] for line in whole.splitlines() if line.startswith("{"))
