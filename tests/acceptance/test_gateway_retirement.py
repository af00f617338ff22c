"""A gateway's session is ended for good, and never under one that is at work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.broker import UPLINK
from deploy.local.processes import until
from tests.acceptance.stack import Stack
from tests.nemesis.ground import Ground, laid
from tests.nemesis.load import heartbeat

SAID = 20


@pytest.fixture
def ground() -> Iterator[Ground]:
    with laid(2) as ground:
        yield ground


def say(ground: Ground, first_seq: int) -> None:
    """Let a unit speak, and the broker take it."""
    messages = (heartbeat(ground.imeis[0], first_seq + place) for place in range(SAID))
    with ground.load(messages, 1000) as load:
        load.await_end(20)


def retire(stack: Stack, *words: str) -> Any:
    return json.loads(stack.run("gateway", "retire", *words, "--json"))


def refused(stack: Stack, *words: str) -> str:
    """Try in vain; gives what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "retire", *words],
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.timeout(180)
def test_a_retired_gateways_session_and_queue_are_gone(ground: Ground) -> None:
    stack = ground.stack
    stack.start_gateway().end()
    say(ground, first_seq=1)

    assert "is lost" in refused(stack, UPLINK)  # the queue is still there, as the next shows
    assert retire(stack, UPLINK, "--yes") == {"gateway": UPLINK, "session_ended": True}

    assert retire(stack, UPLINK, "--yes") == {"gateway": UPLINK, "session_ended": False}
    stack.start_gateway()
    say(ground, first_seq=1000)
    assert until(lambda: len(stack.stored()) == SAID, 20)
    assert {seq for *_, seq in stack.stored()} == set(range(1000, 1000 + SAID)), "something had waited"


@pytest.mark.timeout(180)
def test_a_gateway_that_is_at_work_is_not_retired(ground: Ground) -> None:
    stack = ground.stack
    gateway = stack.start_gateway()

    assert "is at work" in refused(stack, UPLINK, "--yes")

    say(ground, first_seq=1)
    assert until(lambda: len(stack.stored()) == SAID, 20)
    assert gateway.ended is None
    assert gateway.log.read_text(encoding="utf-8").count("broker_connected") == 1, "it was disturbed"


@pytest.mark.timeout(180)
def test_a_login_that_the_broker_does_not_know_is_told(ground: Ground) -> None:
    assert "does not admit gateway-77-78" in refused(ground.stack, "gateway-77-78", "--yes")
