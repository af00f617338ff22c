"""Odd input at every door: a clear problem each time, and never a failure of ours (R19)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from api.paging import cursor
from api.routes.entities import AfterEntity
from runtime.settings import Database
from tests.calling import JSON, OWN, Site, problem, site, unit_of

UNIT = f"/v1/units/{unit_of(OWN)}"
COMMANDS = f"{UNIT}/commands"
HOURLY = {"expected_interval_s": 3600, "reason": "x"}
LISTS = [
    "/v1/units",
    f"{UNIT}/heartbeats",
    COMMANDS,
    "/v1/entities",
    "/v1/product-types",
    "/v1/tokens",
    "/v1/dead-letters",
    "/v1/dead-letters/strangers",
    "/v1/dead-letters/overflow",
]
TEXTS = [
    "'; DROP TABLE unit; --",
    "<script>alert(1)</script>",
    "$(reboot)",
    "%s%n%d",
    "../../etc/passwd",
    "a\r\nX-Evil: 1",
    "\x1b[31mred",
    '=HYPERLINK("http://x")',
    "a\u0000b",
    "\ufeff",
    "\u202eabc",
    "\U0001f4a1" * 300,
    "x" * 100_000,
    "\u0663",
]


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


async def test_bounds_of_lists_are_checked_and_named(here: Site) -> None:
    token = await here.token()
    foreign = urlsafe_b64encode(b"\x00\x00\x00\x00{}").decode()
    place = cursor(AfterEntity(id=1))
    other_list = cursor(AfterEntity(id=1)).swapcase()
    wrong: list[tuple[dict[str, Any], str]] = [
        *(({"limit": limit}, "/query/limit") for limit in (0, -1, 201, 10**9, "ten", "", "9" * 5000)),
        *(({"cursor": edited}, "cursor") for edited in ("", "x", "é", "\u0000", foreign, other_list)),
        ({"cursor": place[:-1]}, "cursor"),
        ({"cursor": place + "A"}, "cursor"),
        ({"cursor": "A" * 5000}, "/query/cursor"),
        ({"colour": "red"}, "/query/colour"),
    ]

    for path in LISTS:
        for query, field in wrong:
            answer = await here.get(path, token, **query)

            assert problem(answer)[0] == 422, (path, query)
            told = answer.json()
            assert (told.get("field") or told["errors"][0]["pointer"]) == field, (path, query)


async def test_every_bit_of_a_cursor_counts(here: Site) -> None:
    token = await here.token()
    good = cursor(AfterEntity(id=1))

    for place in range(len(good)):
        edited = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]

        assert problem(await here.get("/v1/entities", token, cursor=edited)) == (422, "bad-cursor")

    assert (await here.get("/v1/entities", token, cursor=good)).status_code == 200


async def test_a_forged_cursor_is_held_to_the_same_bounds(here: Site) -> None:
    """The checksum is no secret: what it vouches for is checked all the same."""
    token = await here.token()
    beat = {"since": "2026-06-01T12:00:00Z", "at": "2026-06-01T12:00:00Z", "life": 1, "boot": 1, "seq": 1}
    forged: list[tuple[str, str, dict[str, Any]]] = [
        ("/v1/units", "AfterSerial", {"serial_number": "a\u0000b"}),
        ("/v1/entities", "AfterEntity", {"id": 2**63}),
        ("/v1/product-types", "AfterProductType", {"name": "a\u0000b"}),
        ("/v1/tokens", "AfterToken", {"id": -1}),
        ("/v1/dead-letters", "BeforeDeadLetter", {"id": "x"}),
        ("/v1/dead-letters/strangers", "BeforeStranger", {"last_at": beat["at"], "imei": "\u0000"}),
        ("/v1/dead-letters/overflow", "AfterOverflow", {"imei": "\u0000", "reason": "x"}),
        ("/v1/dead-letters/overflow", "AfterOverflow", {"imei": None, "reason": "a\u0000b"}),
        (COMMANDS, "BeforeCommand", {"id": 7}),
        (f"{UNIT}/heartbeats", "BeforeHeartbeat", beat | {"seq": 2**63}),
        (f"{UNIT}/heartbeats", "BeforeHeartbeat", beat | {"since": "2026-06-01T12:00:00"}),
        (f"{UNIT}/heartbeats", "BeforeHeartbeat", beat | {"at": "0001-01-01T00:00:00+14:00"}),
    ]

    for path, kind, place in forged:
        body = json.dumps(place).encode()
        edited = urlsafe_b64encode(sha256(kind.encode() + body).digest()[:4] + body).decode()

        assert problem(await here.get(path, token, cursor=edited)) == (422, "bad-cursor"), (kind, place)


async def test_a_cursor_of_another_list_is_refused(here: Site) -> None:
    answer = await here.get("/v1/tokens", await here.token(), cursor=cursor(AfterEntity(id=1)))

    assert problem(answer) == (422, "bad-cursor")


async def test_numbers_beyond_the_database_are_refused(here: Site) -> None:
    token = await here.token()

    for number in (0, -1, 2**63, 10**400, "1e3", "\u0663", "0x10"):
        for path in ("/v1/dead-letters/{}", "/v1/units?entity_id={}"):
            assert problem(await here.get(path.format(number), token)) == (422, "fields-not-valid")
        deleted = await here.ask("DELETE", f"/v1/tokens/{number}", token)
        assert problem(deleted) == (422, "fields-not-valid")
    for scope in ([0], [2**63], ["2"], [True], [], [1.5], {"a": 1}, list(range(1, 2000))):
        answer = await here.post("/v1/tokens", token, {"name": "n", "scope": scope})
        assert problem(answer) == (422, "fields-not-valid"), scope
    missing = await here.post("/v1/tokens", token, {"name": "n", "scope": [2**62]})
    assert problem(missing) == (404, "entity-not-found")
    assert problem(await here.get(f"/v1/dead-letters/{2**63 - 1}", token)) == (404, "dead-letter-not-found")


async def test_odd_texts_are_harmless_wherever_they_stand(here: Site) -> None:
    token = await here.token()

    for text in TEXTS:
        answers = [
            await here.get("/v1/units", token, serial=text[:2000]),
            await here.get("/v1/units", token, lifecycle=text[:2000]),
            await here.get("/v1/dead-letters", token, imei=text[:2000]),
            await here.get("/v1/units/" + escaped(text), token),
            await here.put("/v1/product-types/" + escaped(text), token, HOURLY),
            await here.put("/v1/product-types/Hub2", token, HOURLY | {"reason": text}),
            await here.put(f"{UNIT}/expected-interval", token, HOURLY | {"reason": text}),
            await here.post(COMMANDS, token, {"kind": "ping", "reason": text}),
            await here.post("/v1/dead-letters/replay", token, {"reason": text, "filter": {"all": True}}),
            await here.post("/v1/dead-letters/discard", token, {"reason": "x", "filter": {"imei": text}}),
            await here.post("/v1/entities", token, {"name": text}),
            await here.post("/v1/tokens", token, {"name": text}),
            await here.post("/v1/tokens", token, {"name": "n", "email": text}),
            await here.post("/v1/tokens", token, {"name": "n", text: text}),
        ]

        for answer in answers:
            assert answer.status_code in {200, 201, 202, 404, 422}, (text[:40], answer.text[:200])
            assert "x-evil" not in answer.headers
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-type"].startswith(("application/json", "application/problem+json"))
    assert (await here.get(UNIT, token)).status_code == 200


def escaped(text: str) -> str:
    """Give the beginning of a text as part of an address."""
    return "".join(f"%{byte:02X}" for byte in text[:2000].encode())


async def test_bodies_that_are_no_good_json_are_refused(here: Site) -> None:
    token = await here.token()
    ping = b'{"kind": "ping", "reason": "x"}'
    bodies: list[tuple[bytes, str, int]] = [
        (b"", JSON, 422),
        (b"null", JSON, 422),
        (b"[]", JSON, 422),
        (b'"x"', JSON, 422),
        (b"{", JSON, 400),
        (b"\xef\xbb\xbf" + ping, JSON, 202),
        (b'{"kind": "ping", "reason": "\xff"}', JSON, 400),
        (b'{"kind": "ping", "reason": "\\ud800"}', JSON, 422),
        (b'{"kind": "ping", "reason": "x", "\\ud800": 1}', JSON, 422),
        (b'{"kind": "ping", "reason": "x", "after_s": NaN}', JSON, 422),
        (b'{"kind": "ping", "reason": "x", "after_s": 1e999}', JSON, 422),
        (b'{"kind": "ping", "reason": "x", "after_s": ' + b"9" * 5000 + b"}", JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b'{"a":' * 100_000, JSON, 400),
        (ping, "text/plain", 415),
        (ping, "application/x-www-form-urlencoded", 415),
        (ping, "", 415),
        (b"x" * (2**20 + 1), JSON, 413),
        (b" " * (2**20 - len(ping)) + ping, JSON, 202),
    ]

    for body, media_type, status in bodies:
        headers = {"Content-Type": media_type, "Idempotency-Key": f"{len(body)} {body[:100]!r}"}
        answer = await here.ask("POST", COMMANDS, token, content=body, headers=headers)

        assert answer.status_code == status, (body[:60], answer.text[:300])
        if status >= 400:
            problem(answer)


async def test_a_body_of_unknown_length_is_bounded_too(here: Site) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    headers = {"Content-Type": JSON, "Idempotency-Key": "k"}
    answer = await here.ask("POST", COMMANDS, await here.token(), content=endless(), headers=headers)

    assert problem(answer) == (413, "body-too-large")


async def test_odd_idempotency_keys_are_refused(here: Site) -> None:
    token = await here.token()

    for key in (b"", b" ", b"k" * 201, b"a\x00b", b"\x1b[31m", b"\x80"):
        answer = await here.http.post(
            COMMANDS,
            json={"kind": "ping", "reason": "x"},
            headers=[(b"Authorization", f"Bearer {token}".encode()), (b"Idempotency-Key", key)],
        )

        assert problem(answer)[0] == 422, key
