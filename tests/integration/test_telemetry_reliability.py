"""Connectivity reliability: contacts against expected contacts, capped at one (issue 3.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from protocol.messages import BacklogEntry, Heartbeat, Mode
from registry import units
from runtime import clock
from runtime.settings import Database
from telemetry import reliability
from telemetry.arrivals import Arrival, moments
from telemetry.partitions import Days
from telemetry.record import record
from telemetry.reliability import Reliability
from tests.calling import FOREIGN, OWN, Site, problem, site, unit_of

NOW = clock.now()
INTERVAL = timedelta(seconds=14_400)
PATH = f"/v1/units/{unit_of(OWN)}/reliability"


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        await opened.sql("UPDATE unit SET enrolled_at = %s", NOW - timedelta(days=100))
        yield opened


async def hear(here: Site, *contacts: datetime, backlog: int = 0, clock_off: timedelta = timedelta()) -> None:
    """Let a unit make contact at some times, each with some entries of a backlog."""
    arrivals = []
    for number, at in enumerate(contacts):
        first = 1 + number * (backlog + 1)
        entries = tuple(
            BacklogEntry(seq=first + 1 + place, mode=Mode.ENABLED, epoch=0) for place in range(backlog)
        )
        ts = round((at + clock_off).timestamp())
        said = Heartbeat(life=1, boot=1, seq=first, ts=ts, mode=Mode.ENABLED, epoch=0, backlog=entries)
        arrivals.append(Arrival(unit_id=1, message=said, received_at=at, live=True))
    await Days(here.pool).ensure(moments(arrivals))
    async with here.pool.transaction() as conn:
        await record(conn, arrivals, now=NOW)


async def found(here: Site, days: int, *, kept_days: int = 400) -> Reliability:
    async with here.pool.transaction() as conn:
        unit = await units.by_identity(conn, unit_of(OWN), scope=None)
        return await reliability.of_unit(
            conn, unit, days=days, now=NOW, kept_since=NOW - timedelta(days=kept_days)
        )


async def test_every_expected_contact_made_is_one(here: Site) -> None:
    await hear(here, *(NOW - number * INTERVAL for number in range(1, 7)))

    seen = await found(here, 1)

    assert (seen.contacts, seen.expected, seen.rate) == (6, 6, 1.0)


async def test_half_of_them_is_a_half_and_more_than_expected_is_one(here: Site) -> None:
    await hear(here, *(NOW - number * 2 * INTERVAL for number in range(1, 4)))
    assert (await found(here, 1)).rate == 0.5

    await hear(here, *(NOW - timedelta(minutes=number) for number in range(1, 50)))
    assert (await found(here, 1)).rate == 1.0


async def test_a_backlog_is_the_contact_that_brought_it_and_no_more(here: Site) -> None:
    await hear(here, NOW - INTERVAL, backlog=40)

    assert (await found(here, 1)).contacts == 1


@pytest.mark.parametrize("off", [timedelta(days=-44), timedelta(minutes=9), timedelta(days=-4000)])
async def test_the_unit_s_clock_has_no_part_in_it(here: Site, off: timedelta) -> None:
    await hear(here, NOW - INTERVAL, NOW - 2 * INTERVAL, clock_off=off)

    assert (await found(here, 1)).contacts == 2


async def test_nothing_is_expected_of_days_that_may_be_gone(here: Site) -> None:
    """A heartbeat may stand 45 days before it arrived, and goes with the day on which it stands."""
    seen = await found(here, 90, kept_days=60)

    assert (seen.since, seen.expected) == (NOW - timedelta(days=15), 15 * 6)


async def test_nothing_is_expected_before_the_enrolment(here: Site) -> None:
    await here.sql("UPDATE unit SET enrolled_at = %s", NOW - INTERVAL / 2)
    seen = await found(here, 30)

    assert (seen.since, seen.expected, seen.rate) == (NOW - INTERVAL / 2, 0, None)


async def test_it_is_shown(here: Site) -> None:
    await hear(here, NOW - INTERVAL)

    shown = (await here.get(PATH, await here.token(), days=1)).json()

    assert (shown["contacts"], shown["expected"]) == (1, 6)
    assert shown["rate"] == pytest.approx(1 / 6)


async def test_who_may_not_and_what_is_odd(here: Site) -> None:
    own = await here.token(scope=frozenset({OWN}), name="own")

    assert problem(await here.get(PATH))[0] == 401
    assert problem(await here.get(f"/v1/units/{unit_of(FOREIGN)}/reliability", own))[0] == 404
    for days in (0, -1, 367, "x"):
        assert problem(await here.get(PATH, own, days=days))[0] == 422
