"""Plans over the API: what is asked, what is answered, what is refused and how that is told."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import Response

from commands.executor import Executor
from registry import audit, ownership, units
from registry.permissions import Level
from runtime import clock
from runtime.settings import Commands, Database, Plans
from tests.builders import a_deed, a_serial, an_imei
from tests.calling import FOREIGN, OWN, Site, problem, site

ENABLE = {"mode": "enabled", "reason": "paid", "filter": {"all": True}}
DISABLE = {"mode": "offline_disabled", "reason": "not paid", "filter": {"all": True}}
WHY = {"reason": "so it is"}


@pytest.fixture
async def full(database: Database) -> AsyncIterator[Site]:
    """Give a site with a unit of each entity that reports enabled."""
    async with site(database) as opened:
        for unit_id in (1, 2):
            await opened.reports(unit_id)
        yield opened


async def uploads(full: Site, token: str | None, text: str | bytes, key: str = "k", **query: Any) -> Response:
    wanted = {"mode": "offline_disabled", "reason": "not paid"} | query
    return await full.ask(
        "POST",
        "/v1/plans.csv",
        token,
        params=wanted,
        content=text if isinstance(text, bytes) else text.encode(),
        headers={"Idempotency-Key": key, "Content-Type": "text/csv"},
    )


async def carry_out(full: Site) -> None:
    executor = Executor(full.pool, Commands(), Plans())
    await full.sql("UPDATE command_plan SET metered_at = now() - interval '1 h', next_at = now()")
    while await executor.step():
        pass


async def test_a_plan_goes_from_a_filter_to_the_result_of_each_unit(full: Site) -> None:
    token = await full.token(Level.ADMIN)

    drafted = await full.post("/v1/plans", token, DISABLE | {"waves_pct": [100], "gate_pct": 0})
    plan = drafted.json()
    assert (drafted.status_code, drafted.headers["location"]) == (201, f"/v1/plans/{plan['id']}")
    assert (plan["state"], plan["included"]) == ("ready", 2)
    assert plan["summary"] == {
        "listed": 2,
        "included": 2,
        "excluded": {},
        "by_entity": [{"entity_id": OWN, "units": 1}, {"entity_id": FOREIGN, "units": 1}],
        "by_enable_status": {"enabled": 2},
        "by_contact": {
            "within_hour": 2,
            "within_day": 0,
            "within_week": 0,
            "within_month": 0,
            "longer_ago": 0,
            "never": 0,
        },
        "fleet": 2,
        "share_of_fleet_pct": 100.0,
    }
    executed = await full.post(f"/v1/plans/{plan['id']}/execute", token, WHY)
    assert (executed.status_code, executed.json()["state"]) == (200, "running")
    await carry_out(full)
    shown = (await full.get(f"/v1/plans/{plan['id']}", token)).json()
    lines = (await full.get(f"/v1/plans/{plan['id']}/units", token)).json()["items"]
    sheet = await full.get(f"/v1/plans/{plan['id']}/units.csv", token)

    assert (shown["state"], shown["ordered"], shown["commands"]) == ("ordered", 2, {"queued": 2})
    assert [line["serial_number"] for line in lines] == [a_serial(1), a_serial(2)]
    rows = list(csv.DictReader(sheet.text.splitlines()))
    assert [(row["row"], row["imei"], row["outcome"], row["command_state"]) for row in rows] == [
        ("1", an_imei(1), "ordered", "queued"),
        ("2", an_imei(2), "ordered", "queued"),
    ]
    assert rows[0]["command_id"] == lines[0]["command_id"]
    [listed] = (await full.get("/v1/plans", token)).json()["items"]
    assert listed["id"] == plan["id"]


async def test_what_a_plan_leaves_out_when_nothing_is_said_is_careful_where_it_disables(full: Site) -> None:
    token = await full.token(Level.ADMIN)

    disabling = (await full.post("/v1/plans", token, DISABLE)).json()["terms"]
    enabling = (await full.post("/v1/plans", token, ENABLE)).json()["terms"]

    assert disabling == {
        "rate_per_s": 50,
        "waves_pct": [1, 10, 100],
        "gate_pct": 90,
        "abort_pct": 10,
        "abort_sample": 20,
    }
    assert (enabling["waves_pct"], enabling["gate_pct"], enabling["abort_pct"]) == ([100], 0, 100)


async def test_a_list_is_read_line_by_line_and_every_line_is_told(full: Site) -> None:
    token = await full.token(Level.ADMIN, frozenset({OWN}))
    text = f'\ufeff"unit"\r\n"{an_imei(1)}"\r\n{a_serial(2)}\r\n=1+1\r\n'.encode() + b"\xff\xfe\x00\r\n"

    answer = await uploads(full, token, text)
    path = f"/v1/plans/{answer.json()['id']}/units"

    assert answer.status_code == 201
    assert answer.json()["summary"]["excluded"] == {"unknown": 1, "not_a_name": 2}
    excluded = (await full.get(path, token, outcome="excluded")).json()["items"]
    assert [(line["row"], line["exclusion"]) for line in excluded] == [
        (3, "unknown"),
        (4, "not_a_name"),
        (5, "not_a_name"),
    ]
    sheet = (await full.get(f"{path}.csv", token)).text.splitlines()
    assert sheet[3].startswith("4,'=1+1,")
    first = (await full.get(path, token, limit=3)).json()
    assert [one["row"] for one in (await full.get(path, token, cursor=first["next"])).json()["items"]] == [5]


async def test_the_same_list_twice_is_one_plan_and_another_under_its_key_is_refused(full: Site) -> None:
    token = await full.token(Level.ADMIN)

    first = await uploads(full, token, an_imei(1))
    again = await uploads(full, token, an_imei(1))
    other = await uploads(full, token, an_imei(2))
    longer = await uploads(full, token, an_imei(1), after_s="86400")

    assert (again.status_code, again.json()) == (201, first.json())
    assert problem(other) == problem(longer) == (409, "idempotency-key-reused")
    assert len((await full.get("/v1/plans", token)).json()["items"]) == 1


async def test_a_list_larger_than_any_other_body_is_taken_and_one_without_end_is_not(full: Site) -> None:
    token = await full.token(Level.ADMIN)
    padded = f"{an_imei(1)},{'x' * 90}\n{an_imei(2)}\n" + f"?,{'x' * 90}\n" * 20_000
    assert len(padded) > 2**20

    taken = await uploads(full, token, padded)
    huge = await uploads(full, token, "x" * (64 * 2**20 + 1))
    json = await full.ask(
        "POST",
        "/v1/plans.csv?mode=enabled&reason=x",
        token,
        json={},
        headers={"Idempotency-Key": "j"},
    )

    assert taken.json()["summary"]["excluded"] == {"not_a_name": 20_000}
    assert taken.json()["included"] == 2
    assert problem(huge) == (413, "body-too-large")
    assert problem(json) == (415, "not-csv")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"filter": {}}, "no-units-chosen"),
        ({"filter": {"all": True, "entity_id": 2}}, "no-units-chosen"),
        ({"filter": {"entity_id": "2"}}, "fields-not-valid"),
        ({"filter": {"serial": "\x00"}}, "fields-not-valid"),
        ({"filter": {"silent_s": -1}}, "fields-not-valid"),
        ({"filter": {"silent_s": 10**12}}, "fields-not-valid"),
        ({"filter": {"nonsense": 1}}, "fields-not-valid"),
        ({"mode": "disabled"}, "fields-not-valid"),
        ({"after_s": 5}, "wish-makes-no-sense"),
        ({"rate_per_s": 0}, "fields-not-valid"),
        ({"rate_per_s": 1e-11}, "fields-not-valid"),
        ({"rate_per_s": 1e9}, "wish-makes-no-sense"),
        ({"waves_pct": [50]}, "wish-makes-no-sense"),
        ({"abort_sample": 10**12}, "fields-not-valid"),
        ({"mode": "enabled", "gate_pct": 50}, "wish-makes-no-sense"),
        ({"reason": " "}, "fields-not-valid"),
        *(
            (loose, "fields-not-valid")
            for loose in (
                {"filter": {"all": "yes"}},
                {"filter": {"all": 1}},
                {"filter": {"silent_s": True}},
                {"filter": {"heard_s": "60"}},
                {"gate_pct": False},
                {"abort_sample": True},
                {"after_s": "86400"},
                {"after_s": 86400.0},
                {"rate_per_s": "7"},
                {"waves_pct": [True, "100"]},
            )
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(full: Site, wanted: dict[str, Any], told: str) -> None:
    token = await full.token(Level.ADMIN)

    assert problem(await full.post("/v1/plans", token, DISABLE | wanted)) == (422, told)


async def test_disabling_needs_the_admin_level_from_draft_to_resumption(full: Site) -> None:
    admin, technical = await full.token(Level.ADMIN), await full.token(Level.TECHNICAL)

    assert problem(await full.post("/v1/plans", technical, DISABLE)) == (403, "level-too-low")
    assert problem(await uploads(full, technical, an_imei(1))) == (403, "level-too-low")
    plan = (await full.post("/v1/plans", admin, DISABLE)).json()["id"]
    refused = await full.post(f"/v1/plans/{plan}/execute", technical, WHY)
    assert problem(refused) == (403, "level-too-low")
    assert (await full.post(f"/v1/plans/{plan}/execute", admin, WHY)).status_code == 200
    assert (await full.post(f"/v1/plans/{plan}/pause", technical, WHY)).status_code == 200
    assert problem(await full.post(f"/v1/plans/{plan}/resume", technical, WHY)) == (403, "level-too-low")
    assert (await full.post(f"/v1/plans/{plan}/cancel", technical, WHY)).status_code == 200
    assert (await full.post("/v1/plans", technical, ENABLE)).status_code == 201


async def test_a_plan_of_a_wider_scope_is_not_there(full: Site) -> None:
    everywhere, own = await full.token(), await full.token(Level.ADMIN, frozenset({OWN}))
    wide = (await full.post("/v1/plans", everywhere, DISABLE)).json()["id"]
    narrow = (await full.post("/v1/plans", everywhere, DISABLE | {"filter": {"entity_id": OWN}})).json()

    for method, path in (("GET", ""), ("GET", "/units"), ("GET", "/units.csv")):
        assert problem(await full.ask(method, f"/v1/plans/{wide}{path}", own)) == (404, "plan-not-found")
    for act in ("execute", "approve", "pause", "resume", "cancel", "undo"):
        assert problem(await full.post(f"/v1/plans/{wide}/{act}", own, WHY)) == (404, "plan-not-found")
    assert [one["id"] for one in (await full.get("/v1/plans", own)).json()["items"]] == [narrow["id"]]


async def test_who_reaches_no_entity_makes_no_plan_and_one_of_nobody_s_is_nobody_s_to_see(full: Site) -> None:
    token = await full.token(Level.ADMIN, frozenset({OWN}))
    await full.post("/v1/plans", token, DISABLE)
    await full.sql("UPDATE account SET scope = '{3}' WHERE scope IS NOT NULL")

    refused = await full.post("/v1/plans", token, DISABLE)
    await full.sql("UPDATE command_plan SET scope = '{}'")  # as an earlier release left it

    assert problem(refused) == (403, "scope-too-narrow")
    other = await full.token(Level.ADMIN, frozenset({FOREIGN}))
    assert (await full.get("/v1/plans", other)).json()["items"] == []
    assert len((await full.get("/v1/plans", await full.token(Level.ADMIN))).json()["items"]) == 1


async def test_who_came_to_another_entity_after_the_dry_run_is_not_switched_off(full: Site) -> None:
    everywhere = await full.token(Level.ADMIN)
    dark = (await uploads(full, everywhere, f"{an_imei(1)}\n", gate_pct=0, waves_pct=100)).json()
    async with full.pool.transaction() as conn:
        unit = await units.by_imei(conn, an_imei(1))
        assert unit is not None
        await ownership.reassign(conn, unit, FOREIGN, a_deed(now=clock.now()))

    await full.post(f"/v1/plans/{dark['id']}/execute", everywhere, WHY)
    await carry_out(full)

    [line] = (await full.get(f"/v1/plans/{dark['id']}/units", everywhere)).json()["items"]
    assert (line["outcome"], line["exclusion"]) == ("excluded", "changed_hands")


async def test_of_a_unit_that_moved_away_a_plan_tells_no_more(full: Site) -> None:
    old = await full.token(Level.ADMIN, frozenset({OWN}))
    plan = (await uploads(full, old, f"{an_imei(1)}\n", gate_pct=0, waves_pct=100)).json()
    await full.post(f"/v1/plans/{plan['id']}/execute", old, WHY)
    await carry_out(full)
    [before] = (await full.get(f"/v1/plans/{plan['id']}/units", old)).json()["items"]
    async with full.pool.transaction() as conn:
        unit = await units.by_imei(conn, an_imei(1))
        assert unit is not None
        await ownership.reassign(conn, unit, FOREIGN, a_deed(now=clock.now()))

    [after] = (await full.get(f"/v1/plans/{plan['id']}/units", old)).json()["items"]

    assert (before["command_state"], before["imei"]) == ("queued", an_imei(1))
    assert (after["command_state"], after["imei"], after["refusal"]) == (None, None, None)
    assert after["outcome"] == "ordered"


async def test_a_refusal_tells_what_would_be_needed(full: Site) -> None:
    token = await full.token(Level.ADMIN)
    plan = (await full.post("/v1/plans", token, DISABLE)).json()["id"]

    paused = await full.post(f"/v1/plans/{plan}/pause", token, WHY)
    empty = await full.post("/v1/plans", token, DISABLE | {"filter": {"product_type": "none"}})
    nothing = await full.post(f"/v1/plans/{empty.json()['id']}/execute", token, WHY)
    undone = await full.post(f"/v1/plans/{plan}/undo", token, WHY)
    await full.sql("UPDATE command_plan SET expires_at = now()")
    late = await full.post(f"/v1/plans/{plan}/execute", token, WHY)

    assert problem(paused) == (409, "plan-elsewhere")
    assert (paused.json()["state"], paused.json()["needed"]) == ("ready", ["running"])
    assert problem(nothing) == (409, "plan-empty")
    assert problem(undone) == (409, "nothing-to-undo")
    assert problem(late) == (409, "plan-expired")


async def test_an_undo_is_a_plan_that_enables_what_the_other_disabled(full: Site) -> None:
    admin, technical = await full.token(Level.ADMIN), await full.token(Level.TECHNICAL)
    plan = (await full.post("/v1/plans", admin, DISABLE | {"waves_pct": [50, 100]})).json()["id"]
    await full.post(f"/v1/plans/{plan}/execute", admin, WHY)
    await carry_out(full)
    going = await full.post(f"/v1/plans/{plan}/undo", technical, WHY)
    assert problem(going) == (409, "plan-goes-on")
    await full.post(f"/v1/plans/{plan}/cancel", technical, WHY)

    undo = await full.post(f"/v1/plans/{plan}/undo", technical, WHY)
    executed = await full.post(f"/v1/plans/{undo.json()['id']}/execute", technical, WHY)
    await carry_out(full)

    assert (undo.status_code, undo.json()["undo_of"], undo.json()["included"]) == (201, plan, 1)
    assert executed.json()["state"] == "running"
    assert (await full.get(f"/v1/plans/{plan}", admin)).json()["commands"] == {"superseded": 1}


async def test_the_same_call_twice_acts_once(full: Site) -> None:
    token = await full.token(Level.ADMIN)
    plan = (await full.post("/v1/plans", token, DISABLE)).json()["id"]

    first = await full.post(f"/v1/plans/{plan}/execute", token, WHY, key="once")
    again = await full.post(f"/v1/plans/{plan}/execute", token, WHY, key="once")

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert problem(await full.post(f"/v1/plans/{plan}/execute", token, WHY)) == (409, "plan-elsewhere")


async def test_a_kept_answer_is_for_those_alone_who_could_have_asked(full: Site) -> None:
    token = await full.token(Level.ADMIN)
    own = (await full.post("/v1/tokens", token, {"name": "n", "scope": [OWN]})).json()["token"]
    lower = (await full.post("/v1/tokens", token, {"name": "n", "level": "technical"})).json()["token"]
    plan = (await full.post("/v1/plans", token, DISABLE, key="draft")).json()["id"]
    where = f"/v1/plans/{plan}"
    for act in ("execute", "pause", "resume"):
        assert (await full.post(f"{where}/{act}", token, WHY, key=act)).status_code == 200

    foreign = [await full.post(f"{where}/{act}", own, WHY, key=act) for act in ("execute", "pause", "resume")]
    foreign.append(await full.post("/v1/plans", own, DISABLE, key="draft"))
    below = [await full.post(f"{where}/{act}", lower, WHY, key=act) for act in ("execute", "resume")]
    below.append(await full.post("/v1/plans", lower, DISABLE, key="draft"))

    assert [problem(one) for one in foreign] == [(404, "plan-not-found")] * 4
    assert [problem(one) for one in below] == [(403, "level-too-low")] * 3


async def test_of_two_same_calls_at_once_one_counts(full: Site) -> None:
    token = await full.token(Level.ADMIN)

    answers = await asyncio.gather(*(full.post("/v1/plans", token, DISABLE, key="both") for _ in range(3)))

    assert {(answer.status_code, answer.json()["id"]) for answer in answers} == {
        (201, answers[0].json()["id"])
    }
    listed = (await full.get("/v1/plans", token)).json()["items"]
    assert [plan["state"] for plan in listed].count("ready") == 1


async def test_the_audit_tells_what_a_plan_was_to_do_to_whom(full: Site) -> None:
    token = await full.token(Level.ADMIN)
    wanted = {"after_s": 86_400, "rate_per_s": 7, "filter": {"entity_id": OWN}}
    plan = (await full.post("/v1/plans", token, DISABLE | wanted)).json()
    await full.post(f"/v1/plans/{plan['id']}/execute", token, WHY)
    listing = (await uploads(full, token, f"{an_imei(1)}\n?\n")).json()

    async with full.pool.transaction() as conn:
        drafted, executed = await audit.of_object(conn, "plan", plan["id"])
        [of_list] = await audit.of_object(conn, "plan", listing["id"])

    assert (drafted.action, executed.action) == ("draft_plan", "execute_plan")
    for told in (drafted, executed):
        assert told.after is not None
        assert told.after["after_s"] == 86_400
        assert told.after["terms"] == plan["terms"]
        assert told.after["selection"] == {"filter": {"entity_id": OWN}}
        assert (told.after["listed"], told.after["included"]) == (1, 1)
    assert of_list.after is not None
    assert of_list.after["selection"].keys() == {"list_sha256"}
    assert (of_list.after["listed"], of_list.after["included"]) == (2, 1)
