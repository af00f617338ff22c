"""How a unit's readings ran: a period in buckets of equal width, each with count, minimum, maximum and mean.

Buckets lie on a grid that depends on their width alone and are always told whole: the period is
widened to them. So a bucket begins and says the same wherever in a chart it stands. A bucket in
which nothing was read is a gap; nothing is put into it.

Buckets of an hour and more are made from the sums of hours, narrower ones from the heartbeats.
Where heartbeats are no longer kept, no bucket is narrower than an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from psycopg import sql

from storage.sql import Connection, load, rows

POINTS_MAX = 2_000

MONDAY = datetime(2000, 1, 3, tzinfo=UTC)
"""Every grid has a bucket that begins here: hours, days and weeks begin where UTC has them."""

HOUR, WEEK = timedelta(hours=1), timedelta(weeks=1)
WIDTHS = (
    *(timedelta(seconds=number) for number in (1, 2, 5, 10, 15, 30)),
    *(timedelta(minutes=number) for number in (1, 2, 5, 10, 15, 30)),
    *(timedelta(hours=number) for number in (1, 2, 3, 6, 12, 24, 48)),
)
"""How wide a bucket may be; beyond these, as many whole weeks as it takes."""

SQL = load(__file__)


class Reading(StrEnum):
    """A reading that can be told as a series."""

    BATTERY_V = "battery_v"
    BATTERY_A = "battery_a"
    PANEL_V = "panel_v"
    PANEL_A = "panel_a"
    LOAD_A = "load_a"
    ENERGY_WH = "energy_wh"
    SOC_PCT = "soc_pct"
    TEMP_C = "temp_c"
    RSSI_DBM = "rssi_dbm"


class Source(StrEnum):
    """What a series is made from."""

    HEARTBEATS = "heartbeats"
    HOURS = "hours"


QUERIES = {
    Source.HEARTBEATS: (sql.SQL(SQL.of_heartbeats), sql.SQL(SQL.measured)),
    Source.HOURS: (sql.SQL(SQL.of_hours), sql.SQL(SQL.summed)),
}
"""How each is asked, and what of it for one reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """So many buckets of one width, from `first` on."""

    first: datetime
    width: timedelta
    buckets: int

    @classmethod
    def over(cls, since: datetime, until: datetime, *, points: int, heartbeats_since: datetime) -> Grid:
        """Lay the narrowest buckets of which `points` span a period; one more if it begins within a bucket.

        The period is not empty. Heartbeats are kept from `heartbeats_since` on.
        """
        period = until - since
        finest = HOUR if since < heartbeats_since else WIDTHS[0]
        fitting = (width for width in WIDTHS if width >= finest and width * points >= period)
        width = next(fitting, None) or WEEK * -(-period // (WEEK * points))
        first = since.astimezone(UTC) - (since - MONDAY) % width
        return cls(first=first, width=width, buckets=-((first - until) // width))

    @property
    def last(self) -> datetime:
        """Give the moment at which the last bucket ends."""
        return self.first + self.width * self.buckets

    @property
    def source(self) -> Source:
        """Tell what these buckets are made from."""
        return Source.HOURS if self.width >= HOUR else Source.HEARTBEATS

    def starts(self) -> Iterable[datetime]:
        """Give the beginning of each bucket."""
        return (self.first + self.width * number for number in range(self.buckets))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What was read in start ≤ at < start + width; nothing where `count` is 0."""

    start: datetime
    count: int
    min: float | None
    max: float | None
    mean: float | None


async def of_unit(
    conn: Connection, unit_id: int, readings: Iterable[Reading], grid: Grid
) -> dict[Reading, list[Bucket]]:
    """Tell how readings of a unit ran."""
    names = list(readings)
    asked = query(grid.source, names)
    bounds = {"width": grid.width, "first": grid.first, "last": grid.last}
    found = {row["start"]: row for row in await rows(conn, dict, asked, unit_id=unit_id, **bounds)}
    return {name: [_bucket(start, name, found.get(start, {})) for start in grid.starts()] for name in names}


def query(source: Source, readings: Iterable[Reading]) -> sql.Composed:
    """Put together what is asked of a source for some readings."""
    whole, column = QUERIES[source]
    columns = sql.SQL(", ").join(column.format(**_identifiers(name)) for name in readings)
    return whole.format(columns=columns)


def _identifiers(name: Reading) -> dict[str, sql.Identifier]:
    """Name the columns of a reading as `heartbeat` and `heartbeat_hourly` do."""
    sums = {part: sql.Identifier(f"{name}_{part}") for part in ("n", "min", "max", "sum")}
    return {"value": sql.Identifier(f"{name}_x100"), **sums}


def _bucket(start: datetime, name: Reading, row: Mapping[str, Any]) -> Bucket:
    count = row.get(f"{name}_n", 0)
    if not count:
        return Bucket(start=start, count=0, min=None, max=None, mean=None)
    low, high = row[f"{name}_min"], row[f"{name}_max"]
    # What a division rounds must not take a mean beyond what was read.
    mean = min(max(row[f"{name}_sum"] / count, low), high)
    return Bucket(start=start, count=count, min=low, max=high, mean=mean)
