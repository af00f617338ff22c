"""Dead letters through the API: listed, opened, decided about, and the strangers among them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from protocol.reasons import Reason
from protocol.topics import Channel, topic
from registry.permissions import Level
from runtime.settings import Database
from telemetry import dead_letters
from telemetry.dead_letters import Loss
from tests.builders import NOON, an_imei
from tests.calling import OWN, Site, problem, site

BEAT = b'{"v":1,"boot":1,"seq":1,"mode":"enabled","epoch":0}'


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


def loss_of(body: bytes, reason: Reason, unit: int, *, minute: int = 0, path: str = "", **more: Any) -> Loss:
    """Make a loss of some unit, some minutes after noon."""
    told = {"topic": f"hg/v1/{unit}", "imei": an_imei(unit), **more}
    return Loss(
        unit_id=None,
        reason=reason,
        path=path,
        detail="<script>alert(1)</script>\x1b[31m",
        body=body,
        received_at=NOON + timedelta(minutes=minute),
        **told,
    )


async def lose(here: Site, body: bytes, reason: Reason = Reason.NOT_JSON, unit: int = 1, **more: Any) -> None:
    async with here.pool.transaction() as conn:
        await dead_letters.keep(conn, [loss_of(body, reason, unit, **more)], gateway="gateway-0-99")


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


async def heard(here: Site, unit: int, body: bytes = BEAT) -> None:
    """Keep what a unit that is not enrolled said."""
    await lose(here, body, Reason.UNKNOWN_UNIT, unit, topic=topic(an_imei(unit), Channel.HEARTBEAT))


async def test_a_dead_letter_says_what_it_is_and_whether_it_would_be_taken_today(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    await heard(here, 1)
    await heard(here, 9)
    await heard(here, 1, BEAT[:-8])
    await heard(here, 1, b"\xff\x00")

    known, stranger, broken, binary = [
        (await here.get(f"/v1/dead-letters/{number}", token)).json() for number in (1, 2, 3, 4)
    ]

    assert (known["refusal"], known["obstacle"], known["findings"], known["complete"]) == (
        None,
        None,
        [],
        True,
    )
    assert known["document"]["mode"] == "enabled"
    assert known["levels"] == ["scu", "v1", an_imei(1).partition, an_imei(1), "heartbeat"]
    assert stranger["refusal"]["reason"] == "unknown_unit"
    assert (broken["refusal"]["reason"], broken["complete"]) == ("not_json", False)
    assert broken["document"] == {"v": 1, "boot": 1, "seq": 1, "mode": "enabled"}
    assert (binary["document"], binary["text"]) == (None, None)


async def test_one_is_marked_and_discarded_with_a_reason_under_a_key(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    await heard(here, 1)
    await heard(here, 2)
    why = {"reason": "enrolled now"}

    marked = await here.post("/v1/dead-letters/1/replay", token, why, key="same")
    again = await here.post("/v1/dead-letters/1/replay", token, why, key="same")
    twice = await here.post("/v1/dead-letters/1/replay", token, why)
    discarded = await here.post("/v1/dead-letters/2/discard", token, why)
    missing = await here.post("/v1/dead-letters/77/discard", token, why)

    assert (marked.status_code, discarded.status_code) == (202, 200)
    assert marked.json() == again.json()
    assert (marked.json()["state"], marked.json()["fate"]["why"]) == ("marked", "enrolled now")
    assert marked.json()["fate"]["verdict"] is None
    assert problem(twice) == (409, "decided-already")
    assert twice.json()["state"] == "marked"
    assert problem(missing) == (404, "dead-letter-not-found")
    states = {
        state: [one["id"] for one in (await here.get("/v1/dead-letters", token, state=state)).json()["items"]]
        for state in ("open", "marked", "replayed", "discarded")
    }
    assert states == {"open": [], "marked": [1], "replayed": [], "discarded": [2]}


async def test_many_are_decided_by_a_filter_or_all(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    for unit in (1, 2):
        await heard(here, unit)
    await lose(here, b'"x"', Reason.INVALID_READING, path="/readings/panel_v")
    many = {"reason": "enrolled now", "filter": {"reason": "unknown_unit"}}

    replay = await here.post("/v1/dead-letters/replay", token, many)
    everything = await here.post("/v1/dead-letters/replay", token, many | {"filter": {"all": True}})
    discard = await here.post("/v1/dead-letters/discard", token, many | {"filter": {"imei": an_imei(1)}})

    assert (replay.status_code, replay.json()) == (202, {"number": 2, "not_replayable": 0, "more": False})
    assert everything.json() == {"number": 0, "not_replayable": 1, "more": False}
    assert (discard.status_code, discard.json()["number"]) == (200, 1)


async def test_a_piece_of_a_message_is_not_replayed_and_the_answer_says_why(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    await lose(here, b'"x"', Reason.INVALID_READING, path="/readings/panel_v")

    refused = await here.post("/v1/dead-letters/1/replay", token, {"reason": "x"})

    assert problem(refused) == (409, "not-replayable")
    assert (refused.json()["path"], "piece" in refused.json()["detail"]) == ("/readings/panel_v", True)
    assert (await here.get("/v1/dead-letters/1", token)).json()["obstacle"] == refused.json()["detail"]


@pytest.mark.parametrize("act", ["replay", "discard"])
@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"reason": "x", "filter": {}}, 422, "nothing-chosen"),
        ({"reason": "x", "filter": {"all": False}}, 422, "nothing-chosen"),
        ({"reason": "x", "filter": {"all": True, "imei": an_imei(1)}}, 422, "nothing-chosen"),
        ({"reason": "x", "filter": {"reason": "bad_luck"}}, 422, "fields-not-valid"),
        ({"reason": "x", "filter": {"imei": "1"}}, 422, "fields-not-valid"),
        ({"reason": "x", "filter": {"before": 1_700_000_000}}, 422, "fields-not-valid"),
        ({"reason": "x", "filter": {"before": "2026-06-01T12:00:00"}}, 422, "fields-not-valid"),
        ({"reason": "x", "filter": {"after": "9999-12-31T23:59:59Z"}}, 422, "fields-not-valid"),
        ({"reason": "x", "filter": {"all": "yes"}}, 422, "fields-not-valid"),
        ({"reason": "x", "filter": {"all": 1}}, 422, "fields-not-valid"),
        ({"reason": "x", "filter": {"colour": "red"}}, 422, "fields-not-valid"),
        ({"reason": "x", "filter": None}, 422, "fields-not-valid"),
        ({"reason": "x"}, 422, "fields-not-valid"),
        ({"reason": " ", "filter": {"all": True}}, 422, "fields-not-valid"),
        ({"reason": "a\u0000b", "filter": {"all": True}}, 422, "fields-not-valid"),
        ({"reason": "x" * 501, "filter": {"all": True}}, 422, "fields-not-valid"),
        ({"filter": {"all": True}}, 422, "fields-not-valid"),
    ],
)
async def test_a_decision_about_nobody_knows_what_is_none(
    here: Site, act: str, body: dict[str, object], status: int, kind: str
) -> None:
    await heard(here, 1)
    token = await here.token(Level.ADMIN)

    assert problem(await here.post(f"/v1/dead-letters/{act}", token, body)) == (status, kind)
    assert (await here.get("/v1/dead-letters/1", token)).json()["state"] == "open"


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**400, "1e3", "\u0663", "0x10"])
async def test_numbers_beyond_the_database_are_refused(here: Site, number: object) -> None:
    token = await here.token(Level.ADMIN)

    for act in ("replay", "discard"):
        answer = await here.post(f"/v1/dead-letters/{number}/{act}", token, {"reason": "x"})
        assert problem(answer) == (422, "fields-not-valid")


async def test_what_is_only_counted_is_listed_by_imei(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    losses = [
        loss_of(b"%d" % number, Reason.NOT_JSON, unit, imei=None if unit == 0 else an_imei(unit))
        for unit in (2, 0, 1)
        for number in range(3)
    ]
    async with here.pool.transaction() as conn:
        await dead_letters.keep(conn, losses, gateway="g", share=1)

    first = (await here.get("/v1/dead-letters/overflow", token, limit=2)).json()
    rest = (await here.get("/v1/dead-letters/overflow", token, cursor=first["next"])).json()

    told = first["items"] + rest["items"]
    assert [(one["imei"], one["times"]) for one in told] == [(None, 2), (an_imei(1), 2), (an_imei(2), 2)]
    assert rest["next"] is None


async def test_a_very_odd_body_is_shown(here: Site) -> None:
    token = await here.token(Level.ADMIN)
    bodies = [
        b'{"a":' * 9_000,
        b'{"a":NaN,"b":[1e999]}',
        b'{"x":' + b"9" * 4_000 + b"}",
        b'{"x":"\\u0000"}',
        b"",
    ]
    for body in bodies:
        await heard(here, 1, body)

    for number in range(1, len(bodies) + 1):
        assert (await here.get(f"/v1/dead-letters/{number}", token)).status_code == 200
