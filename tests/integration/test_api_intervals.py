"""Expected intervals through the API: of a product type, of one unit, and what goes by them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from httpx import Response

from registry.permissions import Level
from runtime import clock
from runtime.settings import Database
from tests.builders import an_imei
from tests.calling import FOREIGN, OWN, Site, problem, site, unit_of

UNIT = f"/v1/units/{unit_of(OWN)}"
OF_UNIT = f"{UNIT}/expected-interval"
OF_TYPE = "/v1/product-types/Hub2"
HOURLY = {"expected_interval_s": 3600, "reason": "the maker says so"}


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    """Give a site whose units are of one type and ten days old; the first made contact three hours ago."""
    async with site(database) as opened:
        now = clock.now()
        await opened.sql("UPDATE unit SET product_type = 'Hub2', enrolled_at = %s", now - timedelta(days=10))
        await opened.reports(1)
        await opened.sql("UPDATE unit_status SET live_contact_at = %s", now - timedelta(hours=3))
        yield opened


async def expect(here: Site, path: str, expected_interval_s: int | None) -> Any:
    body = {"expected_interval_s": expected_interval_s, "reason": "why"}
    answer = await here.put(path, await here.token(), body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def told(here: Site) -> tuple[int, str, int]:
    """Give a unit's interval, whether it is alive, and how many contacts of the last day were due."""
    token = await here.token()
    shown = (await here.get(UNIT, token)).json()
    [listed] = (await here.get("/v1/units", token, entity_id=OWN)).json()["items"]
    for one in (listed, shown):
        one["belief"]["age_s"] = 0  # a second may begin between the two
    assert listed == shown
    due = (await here.get(f"{UNIT}/reliability", token, days=1)).json()["expected"]
    return shown["expected_interval_s"], shown["presence"]["state"], due


async def test_presence_and_reliability_go_by_the_type_s_interval_unless_the_unit_has_its_own(
    here: Site,
) -> None:
    assert await told(here) == (14_400, "online", 6)

    assert await expect(here, OF_TYPE, 3600) == {"name": "Hub2", "expected_interval_s": 3600}
    assert await told(here) == (3600, "silent", 24)

    shown = await expect(here, OF_UNIT, 7200)
    assert (shown["serial_number"], shown["expected_interval_s"]) == (unit_of(OWN), 7200)
    assert await told(here) == (7200, "late", 12)

    assert (await expect(here, OF_UNIT, None))["expected_interval_s"] == 3600
    assert await told(here) == (3600, "silent", 24)


async def test_a_unit_is_named_by_its_imei_too(here: Site) -> None:
    await expect(here, f"/v1/units/{an_imei(1)}/expected-interval", 7200)

    assert (await told(here))[0] == 7200


async def test_a_type_with_a_slash_at_its_end_from_an_earlier_release_is_still_told(here: Site) -> None:
    await here.sql("INSERT INTO product_type (name, expected_interval_s) VALUES ('Hub2/', 60), ('Hub3', 60)")
    token = await here.token()

    first = (await here.get("/v1/product-types", token, limit=1)).json()
    second = (await here.get("/v1/product-types", token, limit=1, cursor=first["next"])).json()

    assert [one["name"] for one in first["items"] + second["items"]] == ["Hub2/", "Hub3"]


async def test_types_are_listed_by_name_and_in_pages(here: Site) -> None:
    for name in ("c", "a/b", "a%20b", "a"):
        await expect(here, f"/v1/product-types/{name}", 60)
    token = await here.token()

    first = (await here.get("/v1/product-types", token, limit=2)).json()
    second = (await here.get("/v1/product-types", token, limit=2, cursor=first["next"])).json()

    assert [one["name"] for one in first["items"] + second["items"]] == ["a", "a b", "a/b", "c"]
    assert second["next"] is None


@pytest.mark.parametrize("path", [OF_TYPE, OF_UNIT])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expected_interval_s": 0}, "expected_interval_s"),
        ({"expected_interval_s": 2_592_001}, "expected_interval_s"),
        ({"expected_interval_s": 10**400}, "expected_interval_s"),
        ({"expected_interval_s": "900"}, "expected_interval_s"),
        ({"expected_interval_s": 900.5}, "expected_interval_s"),
        ({"expected_interval_s": True}, "expected_interval_s"),
        ({"reason": " "}, "reason"),
        ({"reason": None}, "reason"),
        ({"reason": "a\0b"}, "reason"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_bad_value_is_told_by_its_field(
    here: Site, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await here.put(path, await here.token(), HOURLY | body)

    assert problem(answer) == (422, "fields-not-valid")
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/body/{field}"]


async def test_what_is_not_given_is_told_by_its_field_and_a_type_cannot_have_none(here: Site) -> None:
    token = await here.token()
    none = {"expected_interval_s": None, "reason": "why"}
    wrong = [
        (await here.put(OF_UNIT, token, {"reason": "why"}), "/body/expected_interval_s"),
        (await here.put(OF_TYPE, token, none), "/body/expected_interval_s"),
        (await here.put(OF_TYPE, token, {"expected_interval_s": 60}), "/body/reason"),
        (await here.put(f"/v1/product-types/{'x' * 65}", token, HOURLY), "/path/name"),
        (await here.put("/v1/product-types/a%00b", token, HOURLY), "/path/name"),
        (await here.put("/v1/product-types/", token, HOURLY), "/path/name"),
        (await here.put("/v1/product-types/Hub2/", token, HOURLY), "/path/name"),
        (await here.put("/v1/product-types//Hub2", token, HOURLY), "/path/name"),
    ]

    for answer, pointer in wrong:
        assert problem(answer) == (422, "fields-not-valid")
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert (await here.get("/v1/product-types", token)).json()["items"] == []


async def test_a_unit_that_is_not_there_is_not_found(here: Site) -> None:
    answer = await here.put("/v1/units/HB999999-G/expected-interval", await here.token(), HOURLY)

    assert problem(answer) == (404, "unit-not-found")


async def test_who_may_not(here: Site) -> None:
    admin = await here.token(Level.ADMIN)
    maker = await here.token(Level.FACTORY, frozenset({OWN}))

    async def puts(path: str, token: str | None) -> Response:
        return await here.put(path, token, HOURLY)

    foreign = f"/v1/units/{unit_of(FOREIGN)}/expected-interval"
    assert problem(await puts(OF_TYPE, None)) == (401, "unauthenticated")
    assert problem(await puts(OF_TYPE, admin)) == (403, "level-too-low")
    assert problem(await puts(OF_UNIT, admin)) == (403, "level-too-low")
    assert problem(await puts(OF_TYPE, maker)) == (403, "scope-too-narrow")
    assert problem(await puts(foreign, maker)) == (404, "unit-not-found")
    assert (await told(here))[0] == 14_400
    assert (await puts(OF_UNIT, maker)).status_code == 200
