"""Every route for every caller, on own and foreign entities: who may do what (S1.18)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, product
from typing import Any

import pytest

from protocol.reasons import Reason
from registry.permissions import Level, Scope
from runtime import clock
from runtime.settings import Database
from telemetry import alerts, dead_letters
from telemetry.alerts import Finding, Kind
from telemetry.dead_letters import Loss
from tests.calling import FOREIGN, OWN, Site, problem, site, unit_of


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a route demands; `level` None = open to everyone."""

    level: Level | None
    success: int = 200
    everywhere: bool = False
    query: dict[str, str] | None = None
    body: dict[str, Any] | None = None
    upload: bool = False

    def status(self, level: Level, scope: Scope, entity_id: int, *, bound: bool) -> int:
        """Give what a genuine caller is answered; `bound` routes name a thing of an entity."""
        if self.level is None:
            return self.success
        if level < self.level or (self.everywhere and scope is not None):
            return 403
        return 404 if bound and scope is not None and entity_id not in scope else self.success


PING = {"kind": "ping", "reason": "matrix"}
WHY = {"reason": "matrix"}
EXPECT = {"expected_interval_s": 900, "reason": "matrix"}
MANY = {"reason": "matrix", "filter": {"all": True}}
DISMISS = {"decision": "dismiss", "reason": "matrix"}
NOT_NOW = 409
"""Let in, and told that this thing does not stand so that it could be done."""
PLAN = {"mode": "enabled", "reason": "matrix", "filter": {"all": True}}
LIST = {"mode": "enabled", "reason": "matrix"}

OPEN = Rule(level=None)
READ = Rule(level=Level.OVERVIEW)
LOSSES = Rule(level=Level.ADMIN, everywhere=True)
RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/v1/units"): READ,
    ("GET", "/v1/units/{unit}"): READ,
    ("GET", "/v1/units/{unit}/heartbeats"): READ,
    ("GET", "/v1/units/{unit}/heartbeats.csv"): READ,
    ("GET", "/v1/units/{unit}/series"): replace(READ, query={"readings": "battery_v"}),
    ("GET", "/v1/units/{unit}/holes"): READ,
    ("GET", "/v1/fleet/holes"): READ,
    ("GET", "/v1/units/{unit}/reliability"): READ,
    ("GET", "/v1/alerts"): READ,
    ("GET", "/v1/units/{unit}/alerts"): READ,
    ("POST", "/v1/alerts/{alert_id}/resolve"): Rule(level=Level.TECHNICAL, body=WHY),
    ("POST", "/v1/units/{unit}/lives"): Rule(level=Level.TECHNICAL, success=201, body=WHY),
    ("GET", "/v1/units/{unit}/commands"): READ,
    ("POST", "/v1/units/{unit}/commands"): Rule(level=Level.TECHNICAL, success=202, body=PING),
    ("GET", "/v1/commands/{command_id}"): READ,
    ("POST", "/v1/commands/{command_id}/cancel"): Rule(level=Level.TECHNICAL, body=WHY),
    ("POST", "/v1/commands/{command_id}/approve"): Rule(level=Level.ADMIN, success=NOT_NOW, body=WHY),
    ("GET", "/v1/drifts"): READ,
    ("GET", "/v1/units/{unit}/drifts"): READ,
    ("POST", "/v1/drifts/resolve"): Rule(level=Level.TECHNICAL, body=DISMISS | {"ids": [1]}),
    ("POST", "/v1/drifts/{drift_id}/resolve"): Rule(level=Level.TECHNICAL, body=DISMISS),
    ("GET", "/v1/plans"): READ,
    ("POST", "/v1/plans"): Rule(level=Level.TECHNICAL, success=201, body=PLAN),
    ("POST", "/v1/plans.csv"): Rule(level=Level.TECHNICAL, success=201, query=LIST, upload=True),
    ("GET", "/v1/plans/{plan_id}"): READ,
    ("GET", "/v1/plans/{plan_id}/units"): READ,
    ("GET", "/v1/plans/{plan_id}/units.csv"): READ,
    ("POST", "/v1/plans/{plan_id}/execute"): Rule(level=Level.TECHNICAL, success=NOT_NOW, body=WHY),
    ("POST", "/v1/plans/{plan_id}/approve"): Rule(level=Level.ADMIN, success=NOT_NOW, body=WHY),
    ("POST", "/v1/plans/{plan_id}/pause"): Rule(level=Level.TECHNICAL, success=NOT_NOW, body=WHY),
    ("POST", "/v1/plans/{plan_id}/resume"): Rule(level=Level.TECHNICAL, success=NOT_NOW, body=WHY),
    ("POST", "/v1/plans/{plan_id}/cancel"): Rule(level=Level.TECHNICAL, success=NOT_NOW, body=WHY),
    ("POST", "/v1/plans/{plan_id}/undo"): Rule(level=Level.TECHNICAL, success=NOT_NOW, body=WHY),
    ("GET", "/v1/entities"): READ,
    ("POST", "/v1/entities"): Rule(level=Level.FACTORY, everywhere=True, success=201, body={"name": "…"}),
    ("PUT", "/v1/units/{unit}/expected-interval"): Rule(level=Level.FACTORY, body=EXPECT),
    ("GET", "/v1/product-types"): READ,
    ("PUT", "/v1/product-types/{name}"): Rule(level=Level.FACTORY, everywhere=True, body=EXPECT),
    ("GET", "/v1/tokens"): READ,
    ("POST", "/v1/tokens"): Rule(level=Level.OVERVIEW, success=201, body={"name": "another"}),
    ("DELETE", "/v1/tokens/{token_id}"): Rule(level=Level.OVERVIEW, success=204),
    ("GET", "/v1/dead-letters"): LOSSES,
    ("GET", "/v1/dead-letters/strangers"): LOSSES,
    ("GET", "/v1/dead-letters/overflow"): LOSSES,
    ("GET", "/v1/dead-letters/{number}"): LOSSES,
    ("POST", "/v1/dead-letters/replay"): replace(LOSSES, success=202, body=MANY),
    ("POST", "/v1/dead-letters/discard"): replace(LOSSES, body=MANY),
    ("POST", "/v1/dead-letters/{number}/replay"): replace(LOSSES, success=202, body=WHY),
    ("POST", "/v1/dead-letters/{number}/discard"): replace(LOSSES, body=WHY),
    ("GET", "/problems/{slug}"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
}
OUTSIDE_THE_DOCUMENT = {"/metrics", "/openapi.json"}
CALLERS = [(level, scope) for level in Level for scope in (None, frozenset({OWN}))]


@pytest.fixture
async def full(database: Database) -> AsyncIterator[Site]:
    """Give a site where there is one of everything."""
    async with site(database) as opened:
        await lose(opened, b"?")
        async with opened.pool.transaction() as conn:
            findings = [Finding(unit_id, Kind.TWO_UNITS, {}) for unit_id in (1, 2)]
            await alerts.raise_all(conn, findings, now=clock.now())
        for unit_id in (1, 2):
            await opened.reports(unit_id, epoch=7)  # which nobody ever gave: a drift
        yield opened


async def lose(full: Site, body: bytes) -> int:
    """Make a dead letter and give its number."""
    loss = Loss(
        topic="t",
        imei=None,
        unit_id=None,
        reason=Reason.NOT_JSON,
        path="",
        detail="",
        body=body,
        received_at=clock.now(),
    )
    async with full.pool.transaction() as conn:
        await dead_letters.keep(conn, [loss], gateway="g")
        [newest] = await dead_letters.page(conn, limit=1)
    return newest.id


async def test_a_route_without_a_rule_does_not_exist(full: Site) -> None:
    described = {
        (method.upper(), path) for path, methods in full.app.openapi()["paths"].items() for method in methods
    }

    assert described == RULES.keys()
    answers = [(path, (await full.get(path)).status_code) for path in ("/docs", "/redoc", "/metrics")]
    assert answers == [("/docs", 404), ("/redoc", 404), ("/metrics", 200)]


async def test_every_caller_gets_what_the_rules_say_and_nothing_else(full: Site) -> None:
    """R18: wrong cells 0."""
    system = await full.token()
    strangers = [None, "hg_wrong", await full.expired(), await full.revoked()]
    genuine = [(level, scope, await full.token(level, scope)) for level, scope in CALLERS]
    names, wrong = count(), []
    for (route, rule), entity_id in product(RULES.items(), (OWN, FOREIGN)):
        if route == ("DELETE", "/v1/tokens/{token_id}"):
            continue  # bound to an account and not to an entity: below
        ordered = await full.post(f"/v1/units/{unit_of(entity_id)}/commands", system, PING)
        raised = await full.get(f"/v1/units/{unit_of(entity_id)}/alerts", system)
        drifted = await full.get(f"/v1/units/{unit_of(entity_id)}/drifts", system)
        planned = await full.post("/v1/plans", system, PLAN | {"filter": {"entity_id": entity_id}})
        assert (await full.post(f"/v1/plans/{planned.json()['id']}/cancel", system, WHY)).status_code == 200
        target = {
            "unit": unit_of(entity_id),
            "command_id": ordered.json()["id"],
            "alert_id": raised.json()["items"][-1]["id"],
            "drift_id": drifted.json()["items"][-1]["id"],
            "plan_id": planned.json()["id"],
        }
        call = partial(_call, full, route, rule, target, names)
        bound = any(f"{{{name}}}" in route[1] for name in target)
        expected = [(token, "nobody", rule.success if rule.level is None else 401) for token in strangers]
        expected += [
            (token, f"{level} {scope}", rule.status(level, scope, entity_id, bound=bound))
            for level, scope, token in genuine
        ]
        got = [await call(token) for token, _, _ in expected]
        wrong += [
            (route, entity_id, who, status)
            for (_, who, due), status in zip(expected, got, strict=True)
            if status != due
        ]

    assert wrong == []


async def _call(
    full: Site,
    route: tuple[str, str],
    rule: Rule,
    target: dict[str, Any],
    names: count[int],
    token: str | None,
) -> int:
    method, path = route
    number = await lose(full, b"%d" % next(names)) if "{number}" in path else 0  # each is decided once
    where = path.format(**target, number=number, name="Hub2", slug="invalid")
    if rule.upload:
        headers = {"Idempotency-Key": f"list-{next(names)}", "Content-Type": "text/csv"}
        return (await full.ask(method, where, token, params=rule.query, headers=headers)).status_code
    if rule.body is None:
        return (await full.ask(method, where, token, params=rule.query)).status_code
    body = rule.body | ({"name": f"n{next(names)}"} if "name" in rule.body else {})
    send = full.put if method == "PUT" else full.post
    return (await send(where, token, body)).status_code


async def test_tokens_belong_to_their_account_unless_one_manages_all(full: Site) -> None:
    async def its_id(token: str) -> int:
        answer = await full.post("/v1/tokens", token, {"name": "to be revoked"})
        return int(answer.json()["id"])

    victim = await full.token(Level.OVERVIEW, name="victim")
    wrong = []
    for level, scope in CALLERS:
        token = await full.token(level, scope)
        manages = level is Level.SYSTEM and scope is None
        own = await full.ask("DELETE", f"/v1/tokens/{await its_id(token)}", token)
        other = await full.ask("DELETE", f"/v1/tokens/{await its_id(victim)}", token)
        seen = {one["email"] for one in (await full.get("/v1/tokens", token, limit=200)).json()["items"]}
        if (own.status_code, other.status_code) != (204, 204 if manages else 404) or (
            len(seen) > 1
        ) != manages:
            wrong.append((level, scope, own.status_code, other.status_code, seen))
    for shown in (None, "hg_wrong", await full.expired(), await full.revoked()):
        assert problem(await full.ask("DELETE", "/v1/tokens/1", shown)) == (401, "unauthenticated")

    assert wrong == []


async def test_lists_hold_only_what_is_in_scope(full: Site) -> None:
    token = await full.token(Level.SYSTEM, frozenset({OWN}))

    units = (await full.get("/v1/units", token)).json()["items"]
    foreign = (await full.get("/v1/units", token, entity_id=FOREIGN)).json()["items"]
    entities = (await full.get("/v1/entities", token)).json()["items"]

    assert [unit["serial_number"] for unit in units] == [unit_of(OWN)]
    assert foreign == []
    assert [entity["id"] for entity in entities] == [OWN]


async def test_a_foreign_unit_cannot_be_told_from_one_that_is_not_there(full: Site) -> None:
    token = await full.token(Level.ADMIN, frozenset({OWN}))

    foreign = await full.get(f"/v1/units/{unit_of(FOREIGN)}", token)
    missing = await full.get("/v1/units/HB999999-G", token)

    def anonymous(told: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in told.items() if name not in {"given", "request_id"}}

    assert anonymous(foreign.json()) == anonymous(missing.json())


async def test_a_token_follows_its_account_down(full: Site) -> None:
    token = await full.token(Level.SYSTEM, name="demoted")
    assert (await full.get("/v1/dead-letters", token)).status_code == 200

    await full.sql("UPDATE account SET level = 'technical' WHERE email LIKE 'demoted%%'")
    assert problem(await full.get("/v1/dead-letters", token)) == (403, "level-too-low")
    await full.sql("UPDATE account SET disabled_at = now() WHERE email LIKE 'demoted%%'")

    assert problem(await full.get("/v1/units", token)) == (401, "unauthenticated")


async def test_only_the_owner_of_an_expired_token_learns_that_it_expired(full: Site) -> None:
    details = {
        name: (await full.get("/v1/units", token)).json()["detail"]
        for name, token in {
            "unknown": "hg_unknown",
            "revoked": await full.revoked(),
            "expired": await full.expired(),
        }.items()
    }

    assert details["unknown"] == details["revoked"]
    assert "expired" in details["expired"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Basic aGc6aGc=")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer \x00\xff")],
        [("Authorization", "Bearer " + "x" * 5000)],
        [("Authorization", "Bearer {token}"), ("Authorization", "Bearer {token}")],
        [("Cookie", "session={token}")],
    ],
)
async def test_credentials_of_any_other_form_are_none(full: Site, headers: list[tuple[str, str]]) -> None:
    token = await full.token()
    filled = [(name, value.replace("{token}", token).encode("latin-1")) for name, value in headers]

    answer = await full.http.get("/v1/units", headers=[(name.encode(), value) for name, value in filled])

    assert problem(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
