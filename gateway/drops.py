"""What the broker itself loses: what no longer fits a queue it drops, and tells only how often.

It is heard over the downlink: that connection is always read, whereas the uplink stops reading
when it has enough, which is when queues grow; and what units say is not mixed with it.
"""

from __future__ import annotations

import time

import structlog

from gateway import metrics

TOPIC = "$SYS/broker/publish/messages/dropped"
"""Mosquitto's number since its start: retained, and told anew every `sys_interval` when it has changed."""

CALM_S = 300.0
"""After so long without a drop (seconds) the next one is news again."""

log = structlog.get_logger()


class Drops:
    """The broker's number as last heard; it begins anew with the broker."""

    def __init__(self) -> None:
        self._told = 0
        self._grew_at = -CALM_S

    def hear(self, body: bytes) -> None:
        """Take what the broker says; drops are told once until there were none for a while."""
        try:
            dropped = int(body)
        except ValueError:
            log.warning("broker_drops_unreadable", said=body[:40].decode(errors="replace"))
            return
        metrics.DROPPED.set(dropped)
        if dropped not in {0, self._told}:  # less than before, and not none: since the broker's new start
            self._warn(dropped)
        self._told = dropped

    def _warn(self, dropped: int) -> None:
        now = time.monotonic()
        if now - self._grew_at >= CALM_S:
            log.warning("broker_dropped_messages", since_its_start=dropped)
        self._grew_at = now
