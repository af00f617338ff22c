"""What becomes of messages, counted so that it adds up at every scrape: an act changes all or none."""

from __future__ import annotations

from collections import Counter

import prometheus_client

from gateway import metrics
from gateway.verdicts import Outcome
from runtime.metrics import in_step


def received(number: int, *, again: int) -> None:
    """Count messages that the broker delivered and nobody acknowledged yet; so many of them `again`."""
    with in_step:
        metrics.RECEIVED.inc(number)
        metrics.UNACKNOWLEDGED.inc(number)
    metrics.REDELIVERED.inc(again)


def settled(outcome: Outcome) -> None:
    """Count messages that got their verdicts and are acknowledged now."""
    with in_step:
        metrics.UNACKNOWLEDGED.dec(len(outcome.verdicts))
        _count(metrics.VERDICTS, outcome)


def replayed(outcome: Outcome) -> None:
    """Count dead letters that were taken in once more: no delivery, so none of the messages received."""
    with in_step:
        _count(metrics.REPLAYED, outcome)


def _count(verdicts: prometheus_client.Counter, outcome: Outcome) -> None:
    for verdict, number in Counter(outcome.verdicts).items():
        verdicts.labels(str(verdict)).inc(number)
    metrics.SEEN.inc(outcome.seen)
    metrics.HEARTBEATS.labels("new").inc(outcome.new)
    metrics.HEARTBEATS.labels("repeated").inc(outcome.repeated)
    for reason, number in outcome.lost.items():
        metrics.DEAD_LETTERS.labels(str(reason)).inc(number)
    for kind, number in outcome.raised.items():
        metrics.ALERTS.labels(str(kind)).inc(number)
