"""Commands through the API: ordered once, followed to confirmation, refused with facts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from protocol.messages import Mode
from registry import audit
from registry.permissions import Level
from runtime import clock
from runtime.settings import Database
from storage.pool import Pool
from storage.sql import Connection, value
from telemetry import alerts
from telemetry.alerts import Finding, Kind
from tests.calling import FOREIGN, OWN, Site, problem, site, unit_of

DISABLE = {"kind": "set_mode", "mode": "offline_disabled", "reason": "instalment missed"}
ENABLE = {"kind": "set_mode", "mode": "enabled", "reason": "paid"}
PING = {"kind": "ping", "reason": "is it there?"}
UNIT = f"/v1/units/{unit_of(OWN)}"
COMMANDS = f"{UNIT}/commands"


class CutBeforeCommit:
    """A pool whose connection is gone when the work is done and the commit is due."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self._pool.transaction() as conn:
            yield conn
            async with self._pool.transaction() as other:
                await value(other, "SELECT pg_terminate_backend(%(pid)s)", pid=conn.info.backend_pid)


@pytest.fixture
async def enabled(database: Database) -> AsyncIterator[Site]:
    """Give a site whose own unit reports enabled."""
    async with site(database) as opened:
        await opened.reports(1)
        yield opened


async def test_an_offline_disable_is_followed_to_its_confirmation(enabled: Site) -> None:
    """S1.7-S1.10, S1.17: pending until the unit reports it; then who and when."""
    token = await enabled.token(Level.ADMIN)

    answer = await enabled.post(COMMANDS, token, DISABLE)
    ordered = answer.json()
    pending = (await enabled.get(UNIT, token)).json()
    await enabled.sends(ordered["id"])
    await enabled.reports(1, Mode.OFFLINE_DISABLED, ordered["epoch"])
    story = (await enabled.get(answer.headers["location"], token)).json()
    done = (await enabled.get(UNIT, token)).json()

    assert answer.status_code == 202
    assert (ordered["state"], ordered["epoch"], ordered["ordered_by"]) == (
        "queued",
        1,
        "somebody-admin-@example.com",
    )
    assert (pending["enable_status"], pending["od_confirmed"]) == ("pending_offline_disabled", "no")
    assert pending["pending_command"] == ordered["id"]
    assert story["state"] == "confirmed"
    assert [event["event"] for event in story["events"]] == ["ordered", "unit_reported"]
    assert (done["enable_status"], done["od_confirmed"]) == ("offline_disabled", "yes")
    assert done["enable_status_changed_by"] == "somebody-admin-@example.com"
    assert done["enable_status_changed_at"] == story["finished_at"]
    assert done["pending_command"] is None


async def test_an_operator_without_the_permission_may_enable_and_ping_but_not_disable(enabled: Site) -> None:
    """S1.18: the server itself refuses, and says what would be needed."""
    token = await enabled.token(Level.TECHNICAL)

    refused = await enabled.post(COMMANDS, token, DISABLE)
    enable = await enabled.post(COMMANDS, token, ENABLE)
    ping = await enabled.post(COMMANDS, token, PING)

    assert problem(refused) == (403, "level-too-low")
    assert (refused.json()["needed"], refused.json()["have"]) == ("admin", "technical")
    assert (enable.status_code, ping.status_code) == (202, 202)


async def test_only_an_enabled_unit_can_be_disabled(enabled: Site) -> None:
    """S1.17."""
    token = await enabled.token(Level.ADMIN)
    await enabled.post(COMMANDS, token, DISABLE)

    again = await enabled.post(COMMANDS, token, {**DISABLE, "after_s": 86_400})

    assert problem(again) == (409, "not-enabled")
    assert again.json()["enable_status"] == "pending_offline_disabled"


async def test_a_repeated_wish_gives_the_command_that_carries_it_out(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)

    first = await enabled.post(COMMANDS, token, DISABLE)
    again = await enabled.post(COMMANDS, token, DISABLE, key="again")
    replayed = await enabled.post(COMMANDS, token, DISABLE, key="again")

    assert (first.status_code, again.status_code, replayed.status_code) == (202, 200, 200)
    assert (first.json()["new"], again.json()["new"]) == (True, False)
    assert first.json()["id"] == again.json()["id"] == replayed.json()["id"]
    assert again.headers["location"] == first.headers["location"]


async def test_a_command_is_cancelled_for_a_reason_and_its_story_tells_it(enabled: Site) -> None:
    token = await enabled.token(Level.TECHNICAL)
    ordered = (await enabled.post(COMMANDS, token, ENABLE)).json()["id"]

    cancelled = await enabled.post(f"/v1/commands/{ordered}/cancel", token, {"reason": "a mistake"})
    story = (await enabled.get(f"/v1/commands/{ordered}", token)).json()
    ended = await enabled.post(f"/v1/commands/{uuid4()}/cancel", token, {"reason": "x"})

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert story["events"][-1]["evidence"] == {"reason": "a mistake"}
    assert problem(ended) == (404, "command-not-found")


async def test_where_two_units_are_suspected_a_second_administrator_must_agree(enabled: Site) -> None:
    """An offline-disable to a suspected clone might reach another home."""
    async with enabled.pool.transaction() as conn:
        await alerts.raise_all(conn, [Finding(1, Kind.TWO_UNITS, {})], now=clock.now())
    first, second = await enabled.token(Level.ADMIN), await enabled.token(Level.SYSTEM)
    reason = {"reason": "called the customer"}

    waiting = (await enabled.post(COMMANDS, first, DISABLE)).json()
    approve = f"/v1/commands/{waiting['id']}/approve"
    own = await enabled.post(approve, first, reason)
    approved = await enabled.post(approve, second, reason)
    late = await enabled.post(approve, second, reason)

    assert (waiting["state"], waiting["epoch"]) == ("awaiting_approval", 0)
    assert problem(own) == (403, "second-person-needed")
    assert (approved.json()["state"], approved.json()["epoch"]) == ("queued", 1)
    assert approved.json()["approved_by"] == "somebody-system-@example.com"
    assert problem(late) == (409, "nothing-to-approve")


async def test_units_that_contradict_are_a_work_list_with_both_views(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)
    ordered = (await enabled.post(COMMANDS, token, DISABLE)).json()
    await enabled.sends(ordered["id"])
    await enabled.reports(1, Mode.OFFLINE_DISABLED, ordered["epoch"])
    await enabled.reports(1, Mode.ENABLED, 0)

    [found] = (await enabled.get("/v1/drifts", token, cause="epoch_went_back")).json()["items"]
    [waiting] = [
        one
        for one in (await enabled.get(COMMANDS, token)).json()["items"]
        if one["state"] == "awaiting_approval"
    ]
    one = f"/v1/drifts/{found['id']}/resolve"
    senseless = await enabled.post(one, token, {"decision": "ignore", "reason": "x"})
    many = await enabled.post(
        "/v1/drifts/resolve",
        token,
        {"ids": [found["id"], 999], "decision": "dismiss", "reason": "board replaced"},
    )

    assert (found["desired"], found["reported_mode"], found["reported_epoch"]) == (
        "offline_disabled",
        "enabled",
        0,
    )
    assert (found["imei"], found["sendings"], found["gave_up_at"]) == (ordered["imei"], 1, None)
    assert "factory reset" in found["likely_cause"]
    assert (waiting["origin"], waiting["state"]) == ("intent", "awaiting_approval")
    assert problem(senseless) == (422, "fields-not-valid")
    [settled, missing] = many.json()["items"]
    assert (settled["drift"]["resolution"], settled["drift"]["reason"]) == ("dismissed", "board replaced")
    assert (missing["drift"], missing["refused"]) == (None, "There is no drift 999.")
    assert (await enabled.get("/v1/drifts", token)).json()["items"] == []
    assert len((await enabled.get(f"{UNIT}/drifts", token)).json()["items"]) == 1


async def test_the_same_key_and_body_get_the_same_answer(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)

    first = await enabled.post(COMMANDS, token, PING, key="k1")
    again = await enabled.post(COMMANDS, token, PING, key="k1")
    other = await enabled.post(COMMANDS, token, ENABLE, key="k1")
    elsewhere = await enabled.post("/v1/tokens", token, {"name": "n"}, key="k1")
    stranger = await enabled.post(COMMANDS, await enabled.token(Level.SYSTEM), PING, key="k1")

    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.headers["location"] == again.headers["location"]
    assert problem(other) == (409, "idempotency-key-reused")
    assert problem(elsewhere) == (409, "idempotency-key-reused")
    assert unit_of(OWN) not in elsewhere.text
    assert stranger.json()["id"] != first.json()["id"]


async def test_a_kept_answer_is_for_those_alone_who_could_have_asked(enabled: Site) -> None:
    """Keys belong to an account: its tokens of less level or scope are not told what others have done."""
    ann, bob = await enabled.token(Level.ADMIN, name="ann"), await enabled.token(Level.ADMIN, name="bob")

    async def narrower(token: str, **less: object) -> str:
        return str((await enabled.post("/v1/tokens", token, {"name": "n"} | less)).json()["token"])

    async with enabled.pool.transaction() as conn:
        await alerts.raise_all(conn, [Finding(1, Kind.TWO_UNITS, {})], now=clock.now())
    [alert] = (await enabled.get(f"{UNIT}/alerts", ann)).json()["items"]
    waiting = (await enabled.post(COMMANDS, ann, DISABLE, key="order")).json()
    await enabled.reports(1, epoch=7)  # which nobody ever gave
    await enabled.reports(2, epoch=7)
    [first, second] = (await enabled.get("/v1/drifts", ann)).json()["items"]
    dismiss = {"decision": "dismiss", "reason": "r"}
    asked = {
        "order": (COMMANDS, DISABLE),
        "approve": (f"/v1/commands/{waiting['id']}/approve", {"reason": "r"}),
        "cancel": (f"/v1/commands/{waiting['id']}/cancel", {"reason": "r"}),
        "alert": (f"/v1/alerts/{alert['id']}/resolve", {"reason": "r"}),
        "life": (f"{UNIT}/lives", {"reason": "r"}),
        "drift": (f"/v1/drifts/{first['id']}/resolve", dismiss),
        "drifts": ("/v1/drifts/resolve", dismiss | {"ids": [first["id"], second["id"]]}),
    }
    by = {name: bob if name == "approve" else ann for name in asked}
    done = {name: await enabled.post(path, by[name], body, key=name) for name, (path, body) in asked.items()}
    abroad = {ann: await narrower(ann, scope=[FOREIGN]), bob: await narrower(bob, scope=[FOREIGN])}
    below = {ann: await narrower(ann, level="technical"), bob: await narrower(bob, level="technical")}

    again = {name: await enabled.post(path, by[name], body, key=name) for name, (path, body) in asked.items()}
    foreign = {
        name: await enabled.post(path, abroad[by[name]], body, key=name)
        for name, (path, body) in asked.items()
    }
    lower = {
        name: await enabled.post(*(asked[name][0], below[by[name]], asked[name][1]), key=name)
        for name in ("order", "approve")
    }

    assert {name: (one.status_code, one.json()) for name, one in again.items()} == {
        name: (one.status_code, one.json()) for name, one in done.items()
    }
    assert {name: one.status_code for name, one in done.items()} == {
        name: {"order": 202, "life": 201}.get(name, 200) for name in asked
    }
    assert {name: one.status_code for name, one in foreign.items()} == dict.fromkeys(asked, 404)
    assert {name: problem(one) for name, one in lower.items()} == dict.fromkeys(lower, (403, "level-too-low"))


async def test_a_kept_refusal_is_for_those_alone_who_could_have_asked(enabled: Site) -> None:
    ann = await enabled.token(Level.ADMIN, name="ann")
    await enabled.reports(2, Mode.OFFLINE_DISABLED, epoch=7)
    [found] = (await enabled.get("/v1/drifts", ann)).json()["items"]
    body = {"decision": "accept", "reason": "r", "ids": [found["id"], 999]}
    kept = await enabled.post("/v1/drifts/resolve", ann, body, key="k")
    narrow = (await enabled.post("/v1/tokens", ann, {"name": "n", "scope": [OWN]})).json()["token"]

    again = await enabled.post("/v1/drifts/resolve", ann, body, key="k")
    foreign = await enabled.post("/v1/drifts/resolve", narrow, body, key="k")

    assert unit_of(FOREIGN) in kept.text
    assert again.json() == kept.json()
    assert problem(foreign) == (404, "drift-not-found")


async def test_a_refused_request_leaves_its_key_free(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)
    await enabled.sql("UPDATE unit_status SET mode = 'd'")
    refused = await enabled.post(COMMANDS, token, DISABLE, key="k")
    await enabled.sql("UPDATE unit_status SET mode = 'e'")

    accepted = await enabled.post(COMMANDS, token, DISABLE, key="k")

    assert (refused.status_code, accepted.status_code) == (409, 202)


async def test_twenty_identical_requests_at_once_are_one_command(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)

    answers = await asyncio.gather(*(enabled.post(COMMANDS, token, DISABLE, key="once") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len((await enabled.get(COMMANDS, token)).json()["items"]) == 1


async def test_a_commit_that_fails_is_no_success(enabled: Site) -> None:
    """The commit comes before the answer: what was not kept is not promised."""
    token = await enabled.token(Level.ADMIN)

    enabled.app.state.pool = CutBeforeCommit(enabled.pool)
    answer = await enabled.post(COMMANDS, token, PING, key="cut")
    enabled.app.state.pool = enabled.pool
    again = await enabled.post(COMMANDS, token, PING, key="cut")

    assert problem(answer) == (503, "database-unavailable")
    assert answer.headers["retry-after"]
    assert "terminat" not in answer.text
    assert again.status_code == 202
    assert len((await enabled.get(COMMANDS, token)).json()["items"]) == 1


async def test_a_long_list_of_commands_comes_in_pages_newest_first(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)
    ordered = [(await enabled.post(COMMANDS, token, PING)).json()["id"] for _ in range(5)]

    first = (await enabled.get(COMMANDS, token, limit=2)).json()
    newer = (await enabled.post(COMMANDS, token, PING)).json()["id"]
    second = (await enabled.get(COMMANDS, token, limit=2, cursor=first["next"])).json()
    third = (await enabled.get(COMMANDS, token, limit=2, cursor=second["next"])).json()

    listed = [one["id"] for part in (first, second, third) for one in part["items"]]
    assert listed == ordered[::-1]
    assert newer not in listed
    assert third["next"] is None


async def test_a_wrong_field_is_named(enabled: Site) -> None:
    token = await enabled.token()
    wrong: list[tuple[dict[str, object], str]] = [
        ({"kind": "set_mode", "mode": "enabled"}, "/body/reason"),
        ({"kind": "ping", "reason": " "}, "/body/reason"),
        ({"kind": "ping", "reason": "a\u0000b"}, "/body/reason"),
        ({"kind": "ping", "reason": "\x1b[31mred"}, "/body/reason"),
        ({"kind": "ping", "reason": "x" * 501}, "/body/reason"),
        ({"kind": "reboot", "reason": "x"}, "/body/kind"),
        ({"kind": "set_mode", "mode": "on", "reason": "x"}, "/body/mode"),
        ({**DISABLE, "after_s": "86400"}, "/body/after_s"),
        ({**DISABLE, "after_s": True}, "/body/after_s"),
        ({**DISABLE, "force/now": True}, "/body/force~1now"),
    ]

    for body, pointer in wrong:
        answer = await enabled.post(COMMANDS, token, body)

        assert problem(answer) == (422, "fields-not-valid")
        assert [flaw["pointer"] for flaw in answer.json()["errors"]] == [pointer]


async def test_a_wish_that_makes_no_sense_is_refused(enabled: Site) -> None:
    token = await enabled.token()
    senseless: list[tuple[dict[str, object], str]] = [
        ({"kind": "ping", "mode": "enabled", "reason": "x"}, "mode"),
        ({"kind": "set_mode", "reason": "x"}, "mode"),
        ({"kind": "set_mode", "mode": "disabled", "reason": "x"}, "mode"),
        ({**ENABLE, "after_s": 86_400}, "after_s"),
        ({**DISABLE, "after_s": 60}, "after_s"),
        ({**DISABLE, "after_s": -1}, "after_s"),
        ({**DISABLE, "after_s": 2**63}, "after_s"),
        ({**DISABLE, "after_s": 10**400}, "after_s"),
    ]

    for body, field in senseless:
        answer = await enabled.post(COMMANDS, token, body)

        assert problem(answer) == (422, "wish-makes-no-sense")
        assert answer.json()["field"] == field


async def test_a_command_needs_a_key_and_a_command_that_is_not_there_is_not_found(enabled: Site) -> None:
    token = await enabled.token()

    keyless = await enabled.ask("POST", COMMANDS, token, json=PING)
    missing = await enabled.get(f"/v1/commands/{uuid4()}", token)
    garbled = await enabled.get("/v1/commands/7", token)

    assert problem(keyless) == (422, "fields-not-valid")
    assert keyless.json()["errors"][0]["pointer"] == "/header/Idempotency-Key"
    assert problem(missing) == (404, "command-not-found")
    assert problem(garbled) == (422, "fields-not-valid")


async def test_the_audit_knows_who_ordered_from_where_and_why(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)
    await enabled.post(COMMANDS, token, DISABLE)

    async with enabled.pool.transaction() as conn:
        found = await value(
            conn,
            "SELECT concat_ws('|', actor, reason, origin) FROM audit WHERE action = 'order_command'",
        )

    assert found == "somebody-admin-@example.com|instalment missed|api:127.0.0.1"


async def test_the_audit_tells_every_order_of_a_unit_also_one_that_changes_nothing(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)
    disabled = (await enabled.post(COMMANDS, token, DISABLE | {"after_s": 86_400})).json()
    first = (await enabled.post(COMMANDS, token, ENABLE)).json()
    await enabled.post(COMMANDS, token, ENABLE | {"reason": "paid after all"})

    async with enabled.pool.transaction() as conn:
        [_, *told] = await audit.of_object(conn, "unit", 1)

    assert [entry.action for entry in told] == ["order_command"] * 3
    assert [entry.reason for entry in told] == [DISABLE["reason"], ENABLE["reason"], "paid after all"]
    assert [entry.after for entry in told] == [
        {
            "serial_number": unit_of(OWN),
            "command": disabled["id"],
            "kind": "set_mode",
            "mode": "offline_disabled",
            "after_s": 86_400,
            "epoch": 1,
            "new": True,
        },
        *(
            {
                "serial_number": unit_of(OWN),
                "command": first["id"],
                "kind": "set_mode",
                "mode": "enabled",
                "after_s": 0,
                "epoch": 2,
                "new": new,
            }
            for new in (True, False)
        ),
    ]


async def test_the_audit_tells_of_a_settled_drift_with_its_unit(enabled: Site) -> None:
    token = await enabled.token(Level.ADMIN)
    await enabled.reports(1, epoch=7)  # which nobody ever gave
    [found] = (await enabled.get(f"/v1/units/{unit_of(OWN)}/drifts", token)).json()["items"]
    settled = {"decision": "dismiss", "reason": "board replaced"}
    await enabled.post(f"/v1/drifts/{found['id']}/resolve", token, settled)

    async with enabled.pool.transaction() as conn:
        told = (await audit.of_object(conn, "unit", 1))[-1]

    assert (told.action, told.reason) == ("drift_resolved", "board replaced")
    assert told.after == {
        "serial_number": unit_of(OWN),
        "drift": found["id"],
        "cause": found["cause"],
        "resolution": "dismissed",
    }
