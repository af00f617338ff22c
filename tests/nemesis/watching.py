"""What a gateway tells while it is tried."""

from __future__ import annotations

from urllib.request import urlopen

from deploy.local.processes import until
from tests.acceptance.stack import Stack

UNACKNOWLEDGED = "heliograph_gateway_unacknowledged"
REDELIVERED = "heliograph_messages_redelivered_total"
RECEIVED = "heliograph_messages_received_total"
STALLED = "heliograph_gateway_stalled_seconds"
HIT_S = 2.0
DRAINED_S = 120.0


def figures(stack: Stack) -> dict[str, float]:
    """Scrape once: every figure by its name, labels included."""
    with urlopen(f"http://127.0.0.1:{stack.health_port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def verdicts(stack: Stack) -> float:
    """How many messages this gateway has brought to their verdicts, committed."""
    return sum(
        value for name, value in figures(stack).items() if name.startswith("heliograph_messages_total{")
    )


def holds(stack: Stack) -> bool:
    """Whether the gateway holds, at this moment, what it has not acknowledged: what is harmed now hits it."""
    return figures(stack)[UNACKNOWLEDGED] > 0


def was_hit(stack: Stack) -> bool:
    """Whether a gateway before this one held what it had not acknowledged: that comes again."""
    return until(lambda: stack.metric(REDELIVERED) > 0, HIT_S)


def drained(stack: Stack) -> bool:
    """Wait until nothing is unacknowledged any more; false when that does not come."""
    return until(stack.drained, DRAINED_S)
