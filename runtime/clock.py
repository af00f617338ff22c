"""The one place that asks the machine what time it is."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Give the present moment, aware and in UTC."""
    return datetime.now(UTC)
