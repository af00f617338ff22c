"""Periods that are asked for: from their beginning on, up to but without their end."""

from __future__ import annotations

from datetime import datetime, timedelta

from api.shapes import Moment, Shape
from runtime import clock
from runtime.errors import Invalid

DEFAULT = timedelta(hours=24)


class EmptyPeriod(Invalid):
    """The period ends before it begins."""


class PeriodQuery(Shape):
    """Which time: since ≤ at < until; the last 24 hours before `until`, which is now, if nothing is said."""

    since: Moment | None = None
    until: Moment | None = None

    def bounds(self) -> tuple[datetime, datetime]:
        """Give beginning and end."""
        return bounds(self.since, self.until)


def bounds(
    since: datetime | None, until: datetime | None, names: tuple[str, str] = ("since", "until")
) -> tuple[datetime, datetime]:
    """Give beginning and end of a period that the caller knows under these names."""
    until = until or clock.now()
    since = since or until - DEFAULT
    if since >= until:
        raise EmptyPeriod(
            f"`{names[0]}` must be earlier than `{names[1]}`.", field=names[0], since=since, until=until
        )
    return since, until
