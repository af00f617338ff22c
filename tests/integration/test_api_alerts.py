"""Alerts and the word on a unit's memory, through the API (issue 3.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from registry import audit
from registry.permissions import Level
from runtime import clock
from runtime.settings import Database
from telemetry import alerts
from telemetry.alerts import Finding, Kind
from tests.builders import an_imei
from tests.calling import FOREIGN, OWN, Site, problem, site, unit_of

WHY = {"reason": "looked at it"}


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


async def find(here: Site, *kinds: Kind, unit_id: int = 1, **evidence: int) -> None:
    async with here.pool.transaction() as conn:
        findings = [Finding(unit_id, kind, evidence) for kind in kinds]
        await alerts.raise_all(conn, findings, now=clock.now())


async def test_an_open_alert_is_listed_once_with_its_newest_evidence(here: Site) -> None:
    await find(here, Kind.TWO_UNITS, turns=2)
    await find(here, Kind.TWO_UNITS, turns=3)

    [shown] = (await here.get("/v1/alerts", await here.token())).json()["items"]

    assert (shown["imei"], shown["kind"], shown["times"]) == (an_imei(1), "two_units", 2)
    assert shown["evidence"] == {"turns": 3}
    assert shown["raised_at"] < shown["last_at"]
    assert shown["resolved_at"] is None


async def test_alerts_come_page_by_page_by_kind_and_only_of_units_in_scope(here: Site) -> None:
    await find(here, *Kind)
    await find(here, *Kind, unit_id=2)
    everything, own = await here.token(), await here.token(scope=frozenset({OWN}), name="own")

    first = (await here.get("/v1/alerts", everything, limit=3)).json()
    rest = (await here.get("/v1/alerts", everything, cursor=first["next"])).json()
    mine = (await here.get("/v1/alerts", own)).json()["items"]
    jumps = (await here.get("/v1/alerts", everything, kind="counter_jump")).json()["items"]

    ids = [alert["id"] for alert in first["items"] + rest["items"]]
    assert len(set(ids)) == 2 * len(Kind)
    assert ids == sorted(ids, reverse=True)
    assert rest["next"] is None
    assert {alert["imei"] for alert in mine} == {an_imei(1)}
    assert [alert["kind"] for alert in jumps] == ["counter_jump"] * 2


async def test_an_alert_is_resolved_for_a_reason_and_the_first_word_stands(here: Site) -> None:
    await find(here, Kind.TWO_UNITS)
    token = await here.token(Level.TECHNICAL, name="tech")
    [alert] = (await here.get("/v1/alerts", token)).json()["items"]
    where = f"/v1/alerts/{alert['id']}/resolve"

    first = await here.post(where, token, WHY)
    second = await here.post(where, await here.token(), {"reason": "me too"})

    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert first.json()["resolved_because"] == "looked at it"
    assert first.json()["resolved_by"].startswith("tech")
    assert (await here.get("/v1/alerts", token)).json()["items"] == []
    [kept] = (await here.get(f"/v1/units/{unit_of(OWN)}/alerts", token)).json()["items"]
    assert kept == first.json()
    async with here.pool.transaction() as conn:
        deeds = [(entry.action, entry.reason) for entry in await audit.of_object(conn, "unit", 1)]
    assert deeds.count(("alert_resolved", "looked at it")) == 1


async def test_what_is_found_after_it_was_resolved_is_a_new_alert(here: Site) -> None:
    token = await here.token()
    await find(here, Kind.TWO_UNITS)
    [old] = (await here.get("/v1/alerts", token)).json()["items"]
    await here.post(f"/v1/alerts/{old['id']}/resolve", token, WHY)

    await find(here, Kind.TWO_UNITS)

    [new] = (await here.get("/v1/alerts", token)).json()["items"]
    assert (new["times"], new["id"] > old["id"]) == (1, True)


async def test_a_unit_shows_its_alerts_and_whether_it_may_be_two(here: Site) -> None:
    token = await here.token()
    await find(here, Kind.MEMORY_LOST)
    before = (await here.get(f"/v1/units/{unit_of(OWN)}", token)).json()

    await find(here, Kind.TWO_UNITS)

    after = (await here.get(f"/v1/units/{unit_of(OWN)}", token)).json()
    assert (before["alerts"], before["suspected_clone"]) == (["memory_lost"], False)
    assert (after["alerts"], after["suspected_clone"]) == (["memory_lost", "two_units"], True)


async def test_a_life_is_begun_by_a_word_once_however_often_it_is_sent(here: Site) -> None:
    await here.reports(1)
    token = await here.token(Level.TECHNICAL)
    where = f"/v1/units/{unit_of(OWN)}/lives"

    first = await here.post(where, token, WHY, key="k")
    again = await here.post(where, token, WHY, key="k")

    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert (first.status_code, first.json()["life"], first.json()["ordinal"]) == (201, 1, 2)
    [alert] = (await here.get(f"/v1/units/{unit_of(OWN)}/alerts", token)).json()["items"]
    assert (alert["kind"], alert["evidence"]["begun"]) == ("memory_lost", 2)


async def test_what_cannot_be_said(here: Site) -> None:
    token, own = await here.token(), await here.token(Level.ADMIN, scope=frozenset({OWN}), name="own")
    await find(here, Kind.TWO_UNITS, unit_id=2)
    [foreign] = (await here.get("/v1/alerts", token)).json()["items"]

    said = {
        "never heard": await here.post(f"/v1/units/{unit_of(OWN)}/lives", token, WHY),
        "no reason": await here.post(f"/v1/units/{unit_of(OWN)}/lives", token, {"reason": " "}),
        "foreign unit": await here.post(f"/v1/units/{unit_of(FOREIGN)}/lives", own, WHY),
        "foreign alert": await here.post(f"/v1/alerts/{foreign['id']}/resolve", own, WHY),
        "no alert": await here.post("/v1/alerts/999/resolve", token, WHY),
        "no kind": await here.get("/v1/alerts", token, kind="odd"),
    }

    assert {what: problem(answer) for what, answer in said.items()} == {
        "never heard": (409, "never-heard"),
        "no reason": (422, "fields-not-valid"),
        "foreign unit": (404, "unit-not-found"),
        "foreign alert": (404, "alert-not-found"),
        "no alert": (404, "alert-not-found"),
        "no kind": (422, "fields-not-valid"),
    }
