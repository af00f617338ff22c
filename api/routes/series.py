"""How a unit's readings ran, for charts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, Field

from api.auth import CanRead
from api.connection import Transaction
from api.keeping import KeptSince
from api.periods import PeriodQuery
from api.problems import documented
from api.routes.units import UnitName
from api.shapes import Shape
from registry import units
from telemetry import series
from telemetry.series import POINTS_MAX, Bucket, Grid, Reading, Source

router = APIRouter(prefix="/v1", tags=["heartbeats"])


def _parted(given: object) -> object:
    """Take names that are parted by commas, repeated, or both; each counts once."""
    if not isinstance(given, list):
        return given
    return list(dict.fromkeys(name for text in given for name in str(text).split(",")))


class SeriesQuery(PeriodQuery):
    """Which readings, when, and in about how many buckets; the period is widened to whole buckets."""

    readings: Annotated[
        list[Reading],
        BeforeValidator(_parted),
        Field(min_length=1, description="Names, repeated or parted by commas."),
    ]
    points: Annotated[
        int,
        Field(
            ge=1,
            le=POINTS_MAX,
            description="Buckets at most; one more where the period begins within a bucket.",
        ),
    ] = 300


class BucketView(Shape):
    """Values in start ≤ at < start + width; where there are none, `count` is 0 and the rest is null."""

    start: datetime
    count: int
    min: float | None
    max: float | None
    mean: float | None

    @classmethod
    def of(cls, bucket: Bucket) -> Self:
        """Show a bucket."""
        return cls(start=bucket.start, count=bucket.count, min=bucket.min, max=bucket.max, mean=bucket.mean)


class ReadingView(Shape):
    """One reading, bucket by bucket, gaps included."""

    reading: Reading
    buckets: Sequence[BucketView]


class SeriesView(Shape):
    """Readings over since ≤ at < until, the oldest bucket first; made from heartbeats or from hours."""

    since: datetime
    until: datetime
    width_s: int
    source: Source
    series: Sequence[ReadingView]

    @classmethod
    def of(cls, grid: Grid, found: dict[Reading, list[Bucket]]) -> Self:
        """Show series that share a grid."""
        return cls(
            since=grid.first,
            until=grid.last,
            width_s=grid.width // timedelta(seconds=1),
            source=grid.source,
            series=[
                ReadingView(reading=reading, buckets=[BucketView.of(bucket) for bucket in buckets])
                for reading, buckets in found.items()
            ],
        )


@router.get("/units/{unit}/series", responses=documented(401, 404, 422, 503))
async def show_series(
    unit: UnitName,
    query: Annotated[SeriesQuery, Query()],
    caller: CanRead,
    conn: Transaction,
    kept_since: KeptSince,
) -> SeriesView:
    """Tell how readings of a unit ran: minimum, maximum and mean in buckets of equal width."""
    since, until = query.bounds()
    found = await units.by_identity(conn, unit, scope=caller.scope)
    grid = Grid.over(since, until, points=query.points, heartbeats_since=kept_since)
    return SeriesView.of(grid, await series.of_unit(conn, found.id, query.readings, grid))
