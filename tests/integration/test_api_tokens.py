"""Tokens and entities through the API: shown once, never above the account, added once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from registry import audit
from registry.permissions import Level
from runtime.settings import Database
from storage.sql import value
from tests.calling import FOREIGN, OWN, Site, problem, site


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


async def test_a_new_token_opens_the_door_and_is_kept_nowhere(here: Site) -> None:
    token = await here.token(Level.TECHNICAL, frozenset({OWN}))

    issued = (await here.post("/v1/tokens", token, {"name": "cron", "days": 7})).json()
    listed = (await here.get("/v1/tokens", issued["token"])).json()["items"]
    async with here.pool.transaction() as conn:
        kept = await value(
            conn,
            "SELECT (SELECT string_agg(i::text, '') FROM idempotency i)"
            " || (SELECT string_agg(a::text, '') FROM audit a)"
            " || (SELECT string_agg(t::text, '') FROM api_token t)",
        )

    assert (issued["level"], issued["scope"]) == ("technical", [OWN])
    assert [one["name"] for one in listed] == ["a program", "cron"]
    assert all("token" not in one for one in listed)
    assert issued["token"] not in kept


async def test_a_repeated_key_is_told_that_the_token_was_shown(here: Site) -> None:
    token = await here.token()

    first = await here.post("/v1/tokens", token, {"name": "cron"}, key="k")
    again = await here.post("/v1/tokens", token, {"name": "cron"}, key="k")
    other = await here.post("/v1/tokens", token, {"name": "other"}, key="k")

    assert first.status_code == 201
    assert problem(again) == (409, "token-shown-already")
    assert again.json()["token_id"] == first.json()["id"]
    assert first.json()["token"] not in again.text
    assert problem(other) == (409, "idempotency-key-reused")


async def test_nobody_gives_more_than_they_have(here: Site) -> None:
    admin = await here.token(Level.ADMIN, frozenset({OWN}))
    lesser = (await here.post("/v1/tokens", admin, {"name": "n", "level": "overview"})).json()["token"]

    above = await here.post("/v1/tokens", admin, {"name": "n", "level": "system"})
    beyond = await here.post("/v1/tokens", admin, {"name": "n", "scope": [OWN, FOREIGN]})
    regained = await here.post("/v1/tokens", lesser, {"name": "n", "level": "admin"})
    default = await here.post("/v1/tokens", lesser, {"name": "n"})

    assert problem(above) == (422, "beyond-account")
    assert problem(beyond) == (404, "entity-not-found")
    assert problem(regained) == (403, "level-too-low")
    assert default.json()["level"] == "overview"


async def test_no_token_outlives_the_one_that_issued_it(here: Site) -> None:
    """Who got hold of a token for a while would else have another one for a year, and so on."""
    short = await here.token(Level.ADMIN, days=3)
    [parent] = (await here.get("/v1/tokens", short)).json()["items"]

    fits = await here.post("/v1/tokens", short, {"name": "fits", "days": 2})
    cut = await here.post("/v1/tokens", short, {"name": "cut"})
    longer = await here.post("/v1/tokens", short, {"name": "longer", "days": 4})
    grandchild = await here.post("/v1/tokens", fits.json()["token"], {"name": "n", "days": 3})

    assert fits.json()["expires_at"] < parent["expires_at"]
    assert (cut.status_code, cut.json()["expires_at"]) == (201, parent["expires_at"])
    assert problem(longer) == problem(grandchild) == (422, "bad-lifetime")
    told = longer.json()
    assert (told["field"], told["given"]) == ("days", 4)
    assert datetime.fromisoformat(told["until"]) == datetime.fromisoformat(parent["expires_at"])


async def test_nor_does_one_that_is_issued_for_another_account(here: Site) -> None:
    await here.token(Level.TECHNICAL, name="tess")
    system = await here.token(days=1)
    wanted = {"name": "n", "email": "tess-technical-@example.com"}

    cut = await here.post("/v1/tokens", system, wanted)
    longer = await here.post("/v1/tokens", system, wanted | {"days": 2})

    [own] = [
        one for one in (await here.get("/v1/tokens", system)).json()["items"] if one["level"] == "system"
    ]
    assert cut.json()["expires_at"] == own["expires_at"]
    assert problem(longer) == (422, "bad-lifetime")


async def test_the_audit_tells_which_token_issued_a_token(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    [parent] = (await here.get("/v1/tokens", token)).json()["items"]
    issued = (await here.post("/v1/tokens", token, {"name": "n", "days": 1})).json()

    async with here.pool.transaction() as conn:
        [entry] = await audit.of_object(conn, "api_token", issued["id"])
        [by_shell] = await audit.of_object(conn, "api_token", parent["id"])

    assert entry.after is not None
    assert entry.after["by_token"] == parent["id"]
    assert by_shell.after is not None
    assert by_shell.after["by_token"] is None


async def test_only_who_manages_accounts_issues_for_others(here: Site) -> None:
    await here.token(Level.TECHNICAL, name="tess")
    wanted = {"name": "n", "email": "Tess-technical-@example.com"}

    admin = await here.post("/v1/tokens", await here.token(Level.ADMIN), wanted)
    scoped = await here.post("/v1/tokens", await here.token(Level.SYSTEM, frozenset({OWN})), wanted)
    system = await here.post("/v1/tokens", await here.token(Level.SYSTEM), wanted)
    nobody = await here.post("/v1/tokens", await here.token(), wanted | {"email": "x@example.com"})
    odd = await here.post("/v1/tokens", await here.token(), wanted | {"email": "x\u0000@"})

    assert problem(admin) == (403, "level-too-low")
    assert problem(scoped) == (403, "scope-too-narrow")
    assert (system.status_code, system.json()["level"]) == (201, "technical")
    assert problem(nobody) == (404, "account-not-found")
    assert problem(odd) == (422, "not-an-email")


async def test_a_revoked_token_is_out_at_once(here: Site) -> None:
    token = await here.token()
    issued = (await here.post("/v1/tokens", token, {"name": "n"})).json()

    revoked = await here.ask("DELETE", f"/v1/tokens/{issued['id']}", token)
    used = await here.get("/v1/units", issued["token"])
    again = await here.ask("DELETE", f"/v1/tokens/{issued['id']}", token)

    assert (revoked.status_code, revoked.content) == (204, b"")
    assert problem(used) == (401, "unauthenticated")
    assert problem(again) == (409, "token-revoked")


async def test_a_token_in_wrong_hands_takes_with_it_all_that_it_issued_and_no_other(here: Site) -> None:
    """A program that renews its token ends the old one alone."""
    await here.token(Level.TECHNICAL, name="tess")
    owner = await here.token()
    stolen = (await here.post("/v1/tokens", owner, {"name": "stolen", "days": 9})).json()
    child = (await here.post("/v1/tokens", stolen["token"], {"name": "child"})).json()
    wanted = {"name": "n", "email": "tess-technical-@example.com"}
    grandchild = (await here.post("/v1/tokens", child["token"], wanted)).json()
    sibling = (await here.post("/v1/tokens", owner, {"name": "sibling"})).json()
    ended = f"/v1/tokens/{stolen['id']}"

    async def opens() -> list[bool]:
        return [
            (await here.get("/v1/units", one["token"])).status_code == 200
            for one in (stolen, child, grandchild, sibling)
        ]

    alone = await here.ask("DELETE", ended, owner)
    after_alone = await opens()
    line = await here.ask("DELETE", f"{ended}?with_issued=true", owner)
    again = await here.ask("DELETE", f"{ended}?with_issued=true", owner)

    assert (alone.status_code, line.status_code) == (204, 204)
    assert after_alone == [False, True, True, True]
    assert await opens() == [False, False, False, True]
    assert problem(again) == (409, "token-revoked")
    assert (child["issued_by"], grandchild["issued_by"]) == (stolen["id"], child["id"])
    async with here.pool.transaction() as conn:
        [entry] = [
            one
            for one in await audit.of_object(conn, "api_token", grandchild["id"])
            if one.action == "token_revoked"
        ]
    assert entry.before == {"email": "tess-technical-@example.com"}
    assert entry.after == {"with": stolen["id"]}


async def test_a_token_ends_itself_and_none_of_more_rights(here: Site) -> None:
    """A screen's token in wrong hands must not end what an account works with."""
    admin = await here.token(Level.ADMIN)
    [strong] = (await here.get("/v1/tokens", admin)).json()["items"]
    wanted = {"name": "screen", "level": "overview"}
    screen = (await here.post("/v1/tokens", admin, wanted)).json()
    kiosk = (await here.post("/v1/tokens", admin, wanted | {"scope": [OWN]})).json()

    above = await here.ask("DELETE", f"/v1/tokens/{strong['id']}", screen["token"])
    beyond = await here.ask("DELETE", f"/v1/tokens/{screen['id']}", kiosk["token"])
    less = await here.ask("DELETE", f"/v1/tokens/{kiosk['id']}", screen["token"])
    itself = await here.ask("DELETE", f"/v1/tokens/{screen['id']}", screen["token"])

    assert problem(above) == (403, "level-too-low")
    assert problem(beyond) == (403, "scope-too-narrow")
    assert (less.status_code, itself.status_code) == (204, 204)
    assert (await here.get("/v1/units", admin)).status_code == 200


async def test_a_token_of_a_lowered_account_ends_nobody_else_s(here: Site) -> None:
    """Who had issued tokens for others may no longer end them: not one by one, nor all at once."""
    ada = await here.token(Level.SYSTEM, name="ada")
    await here.token(Level.SYSTEM, name="bob")
    wanted = {"name": "n", "email": "bob-system-@example.com"}
    bob = (await here.post("/v1/tokens", ada, wanted)).json()
    await here.sql("UPDATE account SET level = 'overview' WHERE email LIKE 'ada%%'")

    one = await here.ask("DELETE", f"/v1/tokens/{bob['id']}", ada)
    line = await here.ask("DELETE", f"/v1/tokens/{bob['issued_by']}?with_issued=true", ada)

    assert problem(one) == (404, "token-not-found")
    assert problem(line) == (403, "level-too-low")
    assert (await here.get("/v1/units", bob["token"])).status_code == 200


async def test_a_token_issues_many_at_once(here: Site) -> None:
    """Its first use is noted meanwhile."""
    for name in ("a", "b", "c"):
        token = await here.token(Level.ADMIN, name=name)
        issued = await asyncio.gather(*(here.post("/v1/tokens", token, {"name": "n"}) for _ in range(12)))
        assert {one.status_code for one in issued} == {201}


async def test_a_token_of_a_lowered_account_ends_itself(here: Site) -> None:
    token = await here.token(Level.ADMIN, name="demoted")
    [own] = (await here.get("/v1/tokens", token)).json()["items"]
    await here.sql("UPDATE account SET level = 'overview' WHERE email LIKE 'demoted%%'")

    assert (await here.ask("DELETE", f"/v1/tokens/{own['id']}", token)).status_code == 204


async def test_tokens_are_paged(here: Site) -> None:
    token = await here.token()
    for number in range(4):
        await here.post("/v1/tokens", token, {"name": f"n{number}"})

    first = (await here.get("/v1/tokens", token, limit=3)).json()
    second = (await here.get("/v1/tokens", token, limit=3, cursor=first["next"])).json()

    names = [one["name"] for one in first["items"] + second["items"]]
    assert names == ["a program", "n0", "n1", "n2", "n3"]


async def test_an_entity_is_added_once_per_key_and_its_name_is_unique(here: Site) -> None:
    token = await here.token(Level.FACTORY)

    first = await here.post("/v1/entities", token, {"name": "  Sol   e Mar "}, key="k")
    again = await here.post("/v1/entities", token, {"name": "  Sol   e Mar "}, key="k")
    taken = await here.post("/v1/entities", token, {"name": "Sol e Mar"})
    unprintable = await here.post("/v1/entities", token, {"name": "a\u0000b"})
    page = (await here.get("/v1/entities", token, limit=3)).json()
    rest = (await here.get("/v1/entities", token, cursor=page["next"])).json()

    assert (first.status_code, first.json()["name"]) == (201, "Sol e Mar")
    assert again.json() == first.json()
    assert problem(taken) == (409, "entity-name-taken")
    assert problem(unprintable) == (422, "bad-text")
    names = [one["name"] for one in page["items"] + rest["items"]]
    assert names == ["Unknown Entity", "Own", "Foreign", "Sol e Mar"]
