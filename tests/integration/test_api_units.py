"""Units and their heartbeats through the API: found by any name, shown with what they said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from protocol.messages import Mode
from registry import enrolment
from runtime import clock
from runtime.settings import Database
from tests.builders import a_deed, a_newcomer, a_serial, an_imei, keys
from tests.calling import OWN, Site, problem, site, unit_of

UNIT = f"/v1/units/{unit_of(OWN)}"


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


async def enrol(here: Site, *numbers: int) -> None:
    async with here.pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(one, entity_id=OWN) for one in numbers], keys(), a_deed())


async def test_a_unit_that_never_spoke_is_shown_with_what_is_known(here: Site) -> None:
    """S1.3-S1.11."""
    token = await here.token()

    by_serial = (await here.get(UNIT, token)).json()
    by_imei = (await here.get(f"/v1/units/{an_imei(1)}", token)).json()

    enrolled_at = by_serial.pop("enrolled_at")
    assert by_serial == {
        "imei": an_imei(1),
        "serial_number": "HB000001-G",
        "control_unit": f"{an_imei(1)} HB000001-G",
        "entity": {"id": OWN, "name": "Own"},
        "product_type": None,
        "lifecycle": "STORED",
        "expected_interval_s": 14_400,
        "enable_status": "unknown",
        "enable_status_changed_at": None,
        "enable_status_changed_by": None,
        "od_confirmed": "unknown",
        "pending_command": None,
        "last_contact_at": None,
        "presence": {"state": "never", "reason": "never_heard", "since": None, "next_expected_at": None},
        "clock": {"state": "unknown", "skew_s": None},
        "reported": None,
        "belief": {
            "state": "unknown",
            "reason": "never_reported",
            "since": None,
            "age_s": None,
            "locks_at": None,
        },
        "alerts": [],
        "suspected_clone": False,
    }
    assert by_imei == by_serial | {"enrolled_at": enrolled_at}


async def test_what_a_unit_reported_is_shown(here: Site) -> None:
    token = await here.token()
    await here.reports(1, Mode.DISABLED, epoch=7, readings={"battery_v": 12.5}, fw="2.4.1", output=False)

    shown = (await here.get(UNIT, token)).json()

    assert (shown["enable_status"], shown["od_confirmed"]) == ("disabled", "no")
    reported = shown["reported"]
    assert (reported["mode"], reported["epoch"], reported["output"], reported["fw"]) == (
        "disabled",
        7,
        False,
        "2.4.1",
    )
    assert reported["readings"] == {"battery_v": 12.5}
    assert reported["at"] == shown["last_contact_at"]


async def test_online_without_contact_for_two_intervals_is_silent(here: Site) -> None:
    token = await here.token()
    await here.reports(1)
    await here.sql("UPDATE unit_status SET presence = 'online', live_online_at = now()")
    fresh = (await here.get(UNIT, token)).json()["presence"]
    long_ago = clock.now() - timedelta(seconds=2 * 14_400 + 60)
    await here.sql("UPDATE unit_status SET live_online_at = %s, live_contact_at = %s", long_ago, long_ago)

    stale = (await here.get(UNIT, token)).json()["presence"]

    assert (fresh["state"], fresh["reason"]) == ("online", "session_open")
    assert (stale["state"], stale["reason"]) == ("silent", "silent_for")


async def test_units_are_searched_by_the_beginning_of_their_serial_number(here: Site) -> None:
    """S1.1, S1.2."""
    token = await here.token()
    await enrol(here, 10, 11, 200)

    async def found(**query: Any) -> list[str]:
        answer = await here.get("/v1/units", token, **query)
        return [unit["serial_number"] for unit in answer.json()["items"]]

    assert await found(serial="hb00001") == [a_serial(10), a_serial(11)]
    assert await found(serial="HB000200-G") == [a_serial(200)]
    assert await found(entity_id=OWN, serial="HB0002") == [a_serial(200)]
    assert len(await found(lifecycle="STORED")) == 5
    assert await found(lifecycle="TERMINATED") == []
    assert await found(serial="HB_0") == []
    assert await found(serial="%") == []


async def test_a_list_of_units_is_paged_without_gap_or_repetition(here: Site) -> None:
    token = await here.token()
    await enrol(here, *range(10, 20))
    listed: list[str] = []
    cursor: dict[str, str] = {}

    while True:
        part = (await here.get("/v1/units", token, limit=5, **cursor)).json()
        listed += [unit["serial_number"] for unit in part["items"]]
        if part["next"] is None:
            break
        cursor = {"cursor": part["next"]}

    assert listed == [a_serial(one) for one in (1, 2, *range(10, 20))]


async def test_heartbeats_come_newest_first_and_in_pages(here: Site) -> None:
    token = await here.token()
    now = clock.now()
    for hours in (30, 5, 4, 3, 2, 1):
        await here.reports(1, at=now - timedelta(hours=hours), readings={"soc_pct": 50 + hours})

    day = (await here.get(f"{UNIT}/heartbeats", token)).json()
    first = (await here.get(f"{UNIT}/heartbeats", token, limit=3)).json()
    second = (await here.get(f"{UNIT}/heartbeats", token, limit=3, cursor=first["next"])).json()
    week = await here.get(f"{UNIT}/heartbeats", token, **{"from": (now - timedelta(days=7)).isoformat()})
    older = await here.get(f"{UNIT}/heartbeats", token, to=(now - timedelta(hours=3)).isoformat())

    seqs = [beat["seq"] for beat in day["items"]]
    assert seqs == [6, 5, 4, 3, 2]
    assert [beat["seq"] for beat in first["items"] + second["items"]] == seqs
    assert second["next"] is None
    assert [beat["seq"] for beat in week.json()["items"]] == [6, 5, 4, 3, 2, 1]
    assert [beat["seq"] for beat in older.json()["items"]] == [3, 2]
    assert day["items"][0]["readings"] == {"soc_pct": 51}


async def test_a_period_must_begin_before_it_ends(here: Site) -> None:
    token = await here.token()
    period = {"from": "2026-06-02T00:00:00Z", "to": "2026-06-01T00:00:00Z"}

    answer = await here.get(f"{UNIT}/heartbeats", token, **period)

    assert problem(answer) == (422, "empty-period")
    assert answer.json()["field"] == "from"


async def test_times_are_written_out_with_their_offset(here: Site) -> None:
    token = await here.token()
    wrong = [
        "1750000000",
        "1750000000000",
        "2026-06-01",
        "2026-06-01T12:00:00",
        "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "now",
        "",
    ]

    for time in wrong:
        answer = await here.get(f"{UNIT}/heartbeats", token, to=time)

        assert problem(answer) == (422, "fields-not-valid"), time
        assert answer.json()["errors"][0]["pointer"] == "/query/to"
