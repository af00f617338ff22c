"""The figures of a gateway; messages and heartbeats each add up by themselves, at every scrape."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECEIVED = Counter("heliograph_messages_received", "messages that the broker delivered")
REDELIVERED = Counter(
    "heliograph_messages_redelivered", "messages delivered again because the ack was missing"
)
VERDICTS = Counter("heliograph_messages", "messages by verdict", ["verdict"])
REPLAYED = Counter(
    "heliograph_replayed", "dead letters taken in once more, by the verdict on their message", ["verdict"]
)
SEEN = Counter("heliograph_heartbeats_seen", "heartbeats in messages that were read")
HEARTBEATS = Counter("heliograph_heartbeats", "heartbeats by whether they were new or repeated", ["kind"])
DEAD_LETTERS = Counter("heliograph_dead_letters", "messages, readings and backlog entries lost", ["reason"])
ALERTS = Counter("heliograph_alerts_raised", "alerts about units that were raised, by kind", ["kind"])
UNACKNOWLEDGED = Gauge("heliograph_gateway_unacknowledged", "messages received and not yet acknowledged")
QUEUED = Gauge("heliograph_gateway_queued", "messages received and not yet decoded")
STALLED = Gauge(
    "heliograph_gateway_stalled_seconds", "seconds since a batch was last tried while messages are held"
)
LOOP_LAG = Histogram(
    "heliograph_gateway_loop_lag_seconds",
    "seconds that the event loop came round too late",
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
)
CONNECTED = Gauge("heliograph_gateway_connected", "1 while subscribed at the broker")
DROPPED = Gauge(
    "heliograph_broker_dropped_messages", "messages that the broker dropped since its start, as it tells"
)
BATCH_ROWS = Histogram(
    "heliograph_batch_messages", "messages per transaction", buckets=(1, 10, 50, 100, 500, 1000, 2000, 5000)
)
BATCH_SECONDS = Histogram(
    "heliograph_batch_seconds",
    "seconds from taking a batch to its commit",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15),
)
PUBLISHED = Counter(
    "heliograph_commands_published", "publishes of commands by what the broker answered", ["outcome"]
)
