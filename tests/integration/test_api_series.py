"""Series through the API: a chart's worth of buckets, and a clear word on what is odd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runtime import clock
from runtime.settings import Database, Keeping
from telemetry.series import POINTS_MAX, Reading
from tests.calling import FOREIGN, OWN, Site, problem, site, unit_of

PATH = f"/v1/units/{unit_of(OWN)}/series"
HOUR = (clock.now() - timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
PERIOD = {"since": HOUR.isoformat(), "until": (HOUR + timedelta(hours=1)).isoformat()}


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def test_readings_come_in_buckets_and_gaps_as_null(here: Site) -> None:
    for minutes, volts in ((0, 12.0), (10, 14.0), (50, 13.0)):
        at = HOUR + timedelta(minutes=minutes)
        await here.reports(1, at=at, readings={"battery_v": volts, "tamper": True})

    told = (await here.get(PATH, await here.token(), readings="battery_v,soc_pct", points=4, **PERIOD)).json()

    starts = [iso(HOUR + timedelta(minutes=minutes)) for minutes in (0, 15, 30, 45)]
    gap: dict[str, Any] = {"count": 0, "min": None, "max": None, "mean": None}
    first = {"count": 2, "min": 12.0, "max": 14.0, "mean": 13.0}
    last = {"count": 1, "min": 13.0, "max": 13.0, "mean": 13.0}
    assert told == {
        "since": iso(HOUR),
        "until": iso(HOUR + timedelta(hours=1)),
        "width_s": 900,
        "source": "heartbeats",
        "series": [
            {
                "reading": "battery_v",
                "buckets": [
                    {"start": start, **values}
                    for start, values in zip(starts, (first, gap, gap, last), strict=True)
                ],
            },
            {"reading": "soc_pct", "buckets": [{"start": start, **gap} for start in starts]},
        ],
    }


async def test_the_last_day_is_told_if_nothing_else_is_said(here: Site) -> None:
    await here.reports(1, readings={"temp_c": 21.5})

    told = (await here.get(PATH, await here.token(), readings="temp_c")).json()

    assert told["width_s"] == 300
    assert len(told["series"][0]["buckets"]) in {288, 289}
    assert sum(bucket["count"] for bucket in told["series"][0]["buckets"]) == 1


async def test_names_are_parted_by_commas_or_repeated_and_count_once(here: Site) -> None:
    token = await here.token()

    for readings in ("load_a,panel_v", ["load_a", "panel_v"], ["load_a,panel_v", "load_a"]):
        told = (await here.get(PATH, token, readings=readings, points=1, **PERIOD)).json()
        assert [one["reading"] for one in told["series"]] == ["load_a", "panel_v"]


async def test_long_ago_is_told_by_hours(here: Site) -> None:
    old = clock.now() - timedelta(days=Keeping().keep_heartbeats_days + 2)
    period = {"since": iso(old), "until": iso(old + timedelta(hours=6))}

    told = (await here.get(PATH, await here.token(), readings="battery_v", **period)).json()

    assert (told["source"], told["width_s"]) == ("hours", 3600)


async def test_all_that_can_be_asked_for_at_once_is_answered(here: Site) -> None:
    await here.reports(1, at=HOUR, readings={"battery_v": 12.5})
    period = {"since": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}

    told = (
        await here.get(PATH, await here.token(), readings=",".join(Reading), points=POINTS_MAX, **period)
    ).json()

    assert {one["reading"]: sum(bucket["count"] for bucket in one["buckets"]) for one in told["series"]} == {
        reading: int(reading == "battery_v") for reading in Reading
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"readings": None}, "/query/readings"),
        ({"readings": ""}, "/query/readings/0"),
        ({"readings": "battery_v,"}, "/query/readings/1"),
        ({"readings": "battery_v,tamper"}, "/query/readings/1"),
        ({"readings": "Battery_V"}, "/query/readings/0"),
        ({"readings": "battery_v; DROP TABLE heartbeat"}, "/query/readings/0"),
        ({"readings": 'battery_v"'}, "/query/readings/0"),
        ({"readings": "a\u0000b"}, "/query/readings/0"),
        *(({"points": points}, "/query/points") for points in (0, -1, 2001, 10**9, "x", "", 1.5, "9" * 5000)),
        *(
            ({name: time}, f"/query/{name}")
            for name in ("since", "until")
            for time in (
                "2026-06-01T12:00:00",
                "2026-06-01",
                "1750000000",
                "0001-01-01T00:00:00Z",
                "9999-12-31T23:59:59Z",
                "now",
                "",
            )
        ),
        ({"since": PERIOD["until"], "until": PERIOD["since"]}, "since"),
        ({"since": PERIOD["since"], "until": PERIOD["since"]}, "since"),
        ({"since": "2099-01-01T00:00:00Z", "until": None}, "since"),
        ({"from": PERIOD["since"]}, "/query/from"),
    ],
)
async def test_what_is_odd_is_named(here: Site, query: dict[str, Any], field: str) -> None:
    asked = {"readings": "battery_v", **PERIOD, **query}

    answer = await here.get(
        PATH, await here.token(), **{name: value for name, value in asked.items() if value is not None}
    )

    assert problem(answer)[0] == 422
    told = answer.json()
    assert (told.get("field") or told["errors"][0]["pointer"]) == field


async def test_an_unknown_reading_is_told_which_there_are(here: Site) -> None:
    answer = await here.get(PATH, await here.token(), readings="volts")

    assert all(reading in answer.json()["detail"] for reading in Reading)


async def test_who_may_not(here: Site) -> None:
    own = await here.token(scope=frozenset({OWN}), name="own")

    assert problem(await here.get(PATH, readings="soc_pct"))[0] == 401
    assert (await here.get(PATH, own, readings="soc_pct")).status_code == 200
    foreign = await here.get(f"/v1/units/{unit_of(FOREIGN)}/series", own, readings="soc_pct")
    assert problem(foreign) == (404, "unit-not-found")
