"""Expected intervals against a real database: a unit's own, else its type's, else the fleet's."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import psycopg
import pytest

from registry import audit, enrolment, intervals, product_types, units
from registry.intervals import INTERVAL_MAX_S, BadInterval
from registry.product_types import ProductType
from registry.units import Unit
from registry.wording import BadText
from storage.pool import Pool
from storage.sql import Connection
from tests.builders import a_deed, a_newcomer, an_imei, keys


async def a_unit(
    conn: Connection, product_type: str | None = "Hub2", own_s: int | None = None, *, number: int = 1
) -> Unit:
    newcomer = replace(a_newcomer(number), product_type=product_type, expected_interval_s=own_s)
    await enrolment.enrol(conn, newcomer, keys(), a_deed())
    return await units.by_identity(conn, an_imei(number), scope=None)


async def expect_of_type(conn: Connection, name: str, expected_interval_s: int, reason: str = "why") -> None:
    wanted = ProductType(name=name, expected_interval_s=expected_interval_s)
    await product_types.expect(conn, wanted, a_deed(reason=reason))


async def holding(conn: Connection, unit: Unit) -> int:
    """Give the interval that holds of a unit, alone and in the list."""
    found = await units.by_id(conn, unit.id)
    assert found is not None
    assert found in await units.page(conn, scope=None)
    return found.expected_interval_s


async def test_a_unit_s_own_interval_goes_before_its_type_s_and_that_before_the_fleet_s(
    conn: Connection,
) -> None:
    unit = await a_unit(conn)
    assert await holding(conn, unit) == 14_400

    await expect_of_type(conn, "Hub2", 900)
    assert await holding(conn, unit) == 900
    await intervals.expect(conn, unit.id, 14_400, a_deed())
    assert await holding(conn, unit) == 14_400
    await intervals.expect(conn, unit.id, None, a_deed())
    assert await holding(conn, unit) == 900


async def test_units_of_another_type_of_none_and_with_their_own_from_the_start_do_not_follow(
    conn: Connection,
) -> None:
    other = await a_unit(conn, "Home2", number=1)
    typeless = await a_unit(conn, None, number=2)
    own = await a_unit(conn, "Hub2", 60, number=3)

    await expect_of_type(conn, "Hub2", 900)

    assert [await holding(conn, unit) for unit in (other, typeless, own)] == [14_400, 14_400, 60]


async def test_a_type_is_named_as_its_units_are(conn: Connection) -> None:
    await expect_of_type(conn, "  Hub   2 ", 900)

    assert await holding(conn, await a_unit(conn, " Hub 2")) == 900


async def test_types_are_listed_by_name(conn: Connection) -> None:
    for name in ("b", "B", "a"):
        await expect_of_type(conn, name, 60)

    assert [one.name for one in await product_types.page(conn)] == ["B", "a", "b"]
    assert [one.name for one in await product_types.page(conn, after="B", limit=1)] == ["a"]


async def test_what_is_expected_of_a_type_is_noted_with_what_was_before(conn: Connection) -> None:
    await expect_of_type(conn, "Hub2", 900, "the maker says so")
    await expect_of_type(conn, "Hub2", 900, "once more")
    await expect_of_type(conn, "Hub2", 600, "new firmware")

    noted = await audit.of_object(conn, "product_type", "Hub2")
    assert {entry.action for entry in noted} == {"product_type_changed"}
    assert [(entry.before, entry.after, entry.reason) for entry in noted] == [
        (None, {"expected_interval_s": 900}, "the maker says so"),
        ({"expected_interval_s": 900}, {"expected_interval_s": 600}, "new firmware"),
    ]


async def test_what_is_expected_of_a_unit_is_noted_with_what_was_before(conn: Connection) -> None:
    unit = await a_unit(conn)

    for expected_interval_s in (None, 900, 900, 600, None):
        await intervals.expect(conn, unit.id, expected_interval_s, a_deed(reason="a wrong import"))

    [_, *noted] = await audit.of_object(conn, "unit", unit.id)
    assert {(entry.action, entry.reason) for entry in noted} == {("unit_interval_changed", "a wrong import")}
    own = [(entry.before or {}, entry.after or {}) for entry in noted]
    assert [(before["expected_interval_s"], after["expected_interval_s"]) for before, after in own] == [
        (None, 900),
        (900, 600),
        (600, None),
    ]


async def test_of_many_changes_at_once_each_is_noted_with_the_one_before_it(pool: Pool) -> None:
    async with pool.transaction() as conn:
        unit = await a_unit(conn)

    async def expect(expected_interval_s: int) -> None:
        async with pool.transaction() as conn:
            await expect_of_type(conn, "Hub2", expected_interval_s)
            await intervals.expect(conn, unit.id, expected_interval_s, a_deed())

    await asyncio.gather(*map(expect, range(60, 66)))

    async with pool.transaction() as conn:
        of_type = await audit.of_object(conn, "product_type", "Hub2")
        [_, *of_unit] = await audit.of_object(conn, "unit", unit.id)
    assert (of_type[0].before, of_unit[0].before) == (None, {"expected_interval_s": None})
    for noted in (of_type, of_unit):
        assert len(noted) == 6
        assert all(earlier.after == later.before for earlier, later in pairwise(noted))


async def test_a_change_without_a_reason_is_refused(conn: Connection) -> None:
    unit = await a_unit(conn)

    with pytest.raises(BadText):
        await expect_of_type(conn, "Hub2", 900, " ")
    with pytest.raises(BadText):
        await intervals.expect(conn, unit.id, None, a_deed(reason=""))


@pytest.mark.parametrize("expected_interval_s", [0, -1, INTERVAL_MAX_S + 1, 2**70])
async def test_an_interval_has_bounds(conn: Connection, expected_interval_s: int) -> None:
    unit = await a_unit(conn)

    with pytest.raises(BadInterval):
        await expect_of_type(conn, "Hub2", expected_interval_s)
    with pytest.raises(BadInterval):
        await intervals.expect(conn, unit.id, expected_interval_s, a_deed())


@pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 65])
async def test_a_type_has_a_name(conn: Connection, name: str) -> None:
    with pytest.raises(BadText):
        await expect_of_type(conn, name, 900)


@pytest.mark.parametrize(("name", "expected_interval_s"), [("", 60), ("x" * 65, 60), ("x", 0), ("x", 2**22)])
async def test_the_database_itself_refuses_a_wrong_type(
    conn: Connection, name: str, expected_interval_s: int
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await conn.execute("INSERT INTO product_type VALUES (%s, %s)", [name, expected_interval_s])
