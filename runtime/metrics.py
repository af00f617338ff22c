"""The figures of a process, in Prometheus' form; each room names its own beside its code.

Figures that must add up are changed together `in_step`: no scrape, which comes from another thread,
sees one of them changed and the other not.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Metric, generate_latest

__all__ = ["CONTENT_TYPE", "exposition", "in_step"]

CONTENT_TYPE = CONTENT_TYPE_LATEST

in_step = Lock()
"""Held for a few lines without an await; a scrape holds it while it reads, not while it writes out."""


class _Read(CollectorRegistry):
    """Every figure as it was at one moment."""

    def __init__(self) -> None:
        super().__init__()
        with in_step:
            self._metrics = list(REGISTRY.collect())

    def collect(self) -> Iterable[Metric]:
        """Give what was read."""
        return self._metrics


def exposition() -> bytes:
    """Render every metric of this process."""
    return generate_latest(_Read())
