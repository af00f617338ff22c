"""Dead letters through the API: listed, opened with their bytes, and the strangers among them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from protocol.reasons import Reason
from registry.permissions import Level
from runtime.settings import Database
from telemetry import dead_letters
from telemetry.dead_letters import Loss
from tests.builders import NOON, an_imei
from tests.calling import OWN, Site, problem, site


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


async def lose(
    here: Site, body: bytes, reason: Reason = Reason.NOT_JSON, unit: int = 1, minute: int = 0
) -> None:
    loss = Loss(
        topic=f"hg/v1/{unit}",
        imei=an_imei(unit),
        unit_id=None,
        reason=reason,
        path="",
        detail="<script>alert(1)</script>\x1b[31m",
        body=body,
        received_at=NOON + timedelta(minutes=minute),
    )
    async with here.pool.transaction() as conn:
        await dead_letters.keep(conn, [loss], gateway="gateway-0-99")


async def test_dead_letters_are_listed_newest_first_and_narrowed(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    for number in range(4):
        await lose(here, b"%d" % number, unit=number % 2)
    await lose(here, b"x", Reason.NOT_UTF8)

    first = (await here.get("/v1/dead-letters", token, limit=3)).json()
    rest = (await here.get("/v1/dead-letters", token, cursor=first["next"])).json()
    narrowed = (await here.get("/v1/dead-letters", token, reason="not_utf8")).json()["items"]
    of_one = (await here.get("/v1/dead-letters", token, imei=an_imei(0))).json()["items"]
    unknown = await here.get("/v1/dead-letters", token, reason="bad_luck")

    assert [one["id"] for one in first["items"] + rest["items"]] == [5, 4, 3, 2, 1]
    assert [one["meaning"] for one in narrowed] == [Reason.NOT_UTF8.meaning]
    assert [one["id"] for one in of_one] == [3, 1]
    assert problem(unknown) == (422, "fields-not-valid")


async def test_a_dead_letter_is_opened_with_its_very_bytes(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    await lose(here, b'{"seq": "7"}')
    await lose(here, b"\xff\x00")

    readable = (await here.get("/v1/dead-letters/1", token)).json()
    bytes_only = (await here.get("/v1/dead-letters/2", token)).json()
    missing = await here.get("/v1/dead-letters/3", token)

    assert (readable["text"], readable["size"]) == ('{"seq": "7"}', 12)
    assert (bytes_only["text"], b64decode(bytes_only["base64"])) == (None, b"\xff\x00")
    assert problem(missing) == (404, "dead-letter-not-found")


async def test_who_speaks_and_is_not_enrolled_is_listed_for_enrolment(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    for unit in (1, 7, 8, 9):
        await lose(here, b"a", Reason.UNKNOWN_UNIT, unit, minute=unit)
    await lose(here, b"b", Reason.UNKNOWN_UNIT, 8, minute=9)

    first = (await here.get("/v1/dead-letters/strangers", token, limit=2)).json()
    rest = (await here.get("/v1/dead-letters/strangers", token, cursor=first["next"])).json()

    found = {one["imei"]: one["messages"] for one in first["items"] + rest["items"]}
    assert found == {an_imei(7): 1, an_imei(8): 2, an_imei(9): 1}
    assert rest["items"][0]["imei"] == an_imei(7)


async def test_dead_letters_take_every_entity_in_scope(here: Site) -> None:
    answer = await here.get("/v1/dead-letters", await here.token(Level.SYSTEM, frozenset({OWN})))

    assert problem(answer) == (403, "scope-too-narrow")
    assert answer.json()["have"] == [OWN]
