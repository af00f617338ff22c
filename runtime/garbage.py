"""How often Python looks for cycles in a process that makes thousands of short-lived tuples a second."""

from __future__ import annotations

import gc

THRESHOLDS = (500_000, 10, 20)
"""Objects between two looks at the young, then looks before the older; Python's own are 700, 10, 10.

A full window of heartbeats without a backlog is fewer: then nothing is looked at but what is left behind.
"""


def collect_rarely() -> None:
    """Let batches live and die between two looks: they hold no cycles, and each look walks all of them."""
    gc.collect()
    gc.freeze()  # what is there at the start stays for ever
    gc.set_threshold(*THRESHOLDS)
