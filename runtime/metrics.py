"""The figures of a process, in Prometheus' form; each room names its own beside its code."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """Render every metric of this process."""
    return generate_latest(REGISTRY)
