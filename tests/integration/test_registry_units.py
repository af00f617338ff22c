"""Units, their life and their holders, against a real database."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import psycopg
import pytest

from protocol.identity import Imei, SerialNumber
from registry import audit, enrolment, entities, lifecycle, ownership, units
from registry.entities import EntityNameTaken, EntityNotFound
from registry.lifecycle import MOVES, Lifecycle, MovedMeanwhile, MoveNotAllowed
from registry.newcomers import Newcomer
from registry.ownership import HeldAlready, ReassignedTooEarly
from registry.permissions import Scope
from registry.units import Filter, Unit, UnitNotFound
from registry.wording import BadText
from runtime.errors import HeliographError
from storage.pool import Pool
from storage.sql import Connection, execute, value
from tests.builders import NOON, a_caller, a_deed, a_newcomer, a_serial, an_imei, keys

HOUR = timedelta(hours=1)


async def a_unit(conn: Connection, number: int = 1, entity_id: int = 1) -> Unit:
    await enrolment.enrol(conn, a_newcomer(number, entity_id=entity_id), keys(), a_deed())
    return await units.by_identity(conn, an_imei(number), scope=None)


async def an_entity(conn: Connection, name: str) -> int:
    return (await entities.add(conn, name, a_deed())).id


# --- entities


async def test_entity_1_is_there_from_the_start_and_numbers_go_on_at_2(conn: Connection) -> None:
    assert [(entity.id, entity.name) for entity in await entities.page(conn, scope=None)] == [
        (1, "Unknown Entity")
    ]

    assert await an_entity(conn, "  Kivu   Energy ") == 2
    assert [entity.name for entity in await entities.page(conn, scope=None, after=1)] == ["Kivu Energy"]


async def test_an_entity_s_name_is_its_own(conn: Connection) -> None:
    await an_entity(conn, "Kivu Energy")

    with pytest.raises(EntityNameTaken):
        await an_entity(conn, "Kivu Energy")
    with pytest.raises(BadText):
        await an_entity(conn, "\x07")


async def test_entities_outside_the_scope_do_not_exist(conn: Connection) -> None:
    mine, other = await an_entity(conn, "Kivu Energy"), await an_entity(conn, "Goma Light")

    assert [entity.id for entity in await entities.page(conn, scope=frozenset({mine}))] == [mine]
    assert await entities.known(conn, {mine, other, 0, -1, 2**64}, scope=frozenset({mine})) == {mine}
    with pytest.raises(EntityNotFound):
        await entities.require(conn, {mine, other}, scope=frozenset({mine}))


# --- finding


async def test_a_unit_is_found_by_each_of_its_names_as_people_write_them(conn: Connection) -> None:
    """S1.2, S1.4, S1.5."""
    unit = await a_unit(conn)

    assert await units.by_id(conn, unit.id) == unit
    assert await units.by_imei(conn, unit.imei) == unit
    assert await units.by_serial(conn, unit.serial_number) == unit
    spaced = f"{unit.imei[:6]} {unit.imei[6:]}"
    for text in (unit.imei, spaced, unit.serial_number, f" {unit.serial_number.lower()} "):
        assert await units.by_identity(conn, text, scope=None) == unit


async def test_what_cannot_be_a_name_is_not_found_like_any_other(conn: Connection) -> None:
    await a_unit(conn)

    for text in ("", "x", "\0", "\udcff", "352099001761480", "1' OR '1'='1", an_imei(2), a_serial(2)):
        with pytest.raises(UnitNotFound):
            await units.by_identity(conn, text, scope=None)
    assert await units.by_imei(conn, an_imei(2)) is None
    assert await units.by_serial(conn, a_serial(2)) is None
    assert await units.by_id(conn, 0) is None


async def test_digits_that_are_one_unit_s_imei_and_another_s_serial_mean_the_imei(conn: Connection) -> None:
    first = await a_unit(conn)
    confusing = Newcomer(imei=an_imei(2), serial_number=SerialNumber(first.imei))
    await enrolment.enrol(conn, confusing, keys(), a_deed())

    assert (await units.by_identity(conn, first.imei, scope=None)).id == first.id


async def test_a_unit_outside_the_scope_does_not_exist(conn: Connection) -> None:
    mine, other = await an_entity(conn, "Kivu Energy"), await an_entity(conn, "Goma Light")
    unit = await a_unit(conn, entity_id=other)

    with pytest.raises(UnitNotFound) as hidden:
        await units.by_identity(conn, unit.imei, scope=frozenset({mine}))
    with pytest.raises(UnitNotFound) as absent:
        await units.by_identity(conn, an_imei(9), scope=frozenset({mine}))

    assert hidden.value.message == absent.value.message
    assert set(hidden.value.facts) == set(absent.value.facts)
    assert await units.by_identity(conn, unit.imei, scope=frozenset({mine, other})) == unit


async def test_the_list_is_paged_by_serial_and_narrowed_by_what_is_asked(conn: Connection) -> None:
    mine, other = await an_entity(conn, "Kivu Energy"), await an_entity(conn, "Goma Light")
    for number in range(10):
        await a_unit(conn, number, entity_id=(mine, other)[number % 2])
    gone = await units.by_identity(conn, a_serial(3), scope=None)
    await lifecycle.move(conn, gone.id, Lifecycle.STORED, Lifecycle.TERMINATED, a_deed())

    async def numbers(
        wanted: Filter = units.ANY, scope: Scope = None, after: str = "", limit: int = 50
    ) -> list[int]:
        page = await units.page(conn, scope=scope, wanted=wanted, after=after, limit=limit)
        return [int(unit.serial_number[2:8]) for unit in page]

    assert await numbers() == list(range(10))
    assert await numbers(limit=4) == [0, 1, 2, 3]
    assert await numbers(limit=4, after=a_serial(3)) == [4, 5, 6, 7]
    assert await numbers(scope=frozenset({mine})) == [0, 2, 4, 6, 8]
    assert await numbers(Filter(entity_id=other), scope=frozenset({mine})) == []
    assert await numbers(Filter(entity_id=other)) == [1, 3, 5, 7, 9]
    assert await numbers(Filter(lifecycle=Lifecycle.TERMINATED)) == [3]
    assert await numbers(Filter(serial_prefix="hb00000")) == list(range(10))
    assert await numbers(Filter(serial_prefix="HB000007")) == [7]
    for nothing in ("%", "HB_", "\0", "\udcff", "Z"):
        assert await numbers(Filter(serial_prefix=nothing)) == []
    assert await numbers(after="\0") == []


async def test_the_list_s_order_and_prefix_use_the_index(conn: Connection) -> None:
    await conn.execute(
        "INSERT INTO unit (imei, serial_number, broker_login) "
        "SELECT lpad(n::text, 15, '0'), 'HB' || lpad(n::text, 8, '0'), '$7$101$c2FsdA==$aGFzaA==' "
        "FROM generate_series(1, 20000) AS n"
    )
    await conn.execute("ANALYZE unit")

    plan = await conn.execute(
        f"EXPLAIN {units.SQL.page}",
        {
            "after": "HB00010000",
            "serial_prefix": "HB0001",
            "scope": None,
            "entity_id": None,
            "lifecycle": None,
            "limit": 50,
        },
    )

    text = "\n".join(line["QUERY PLAN"] for line in await plan.fetchall())
    assert "unit_serial_number_unique" in text
    assert "Seq Scan on unit" not in text


async def test_the_gateway_learns_which_imeis_are_units(conn: Connection) -> None:
    known = [await a_unit(conn, number) for number in range(3)]
    await lifecycle.move(conn, known[0].id, Lifecycle.STORED, Lifecycle.TERMINATED, a_deed())

    found = await units.ids_by_imei(conn, [*(unit.imei for unit in known), an_imei(99), "not an imei"])

    assert found == {unit.imei: unit.id for unit in known}
    assert await units.ids_by_imei(conn, []) == {}


# --- life


async def test_every_one_of_the_81_moves_does_what_the_table_says(conn: Connection) -> None:
    unit = await a_unit(conn)

    for before, to in itertools.product(Lifecycle, Lifecycle):
        await execute(conn, "UPDATE unit SET lifecycle = %(state)s", state=before)
        if to in MOVES[before]:
            await lifecycle.move(conn, unit.id, before, to, a_deed())
        else:
            with pytest.raises(MoveNotAllowed):
                await lifecycle.move(conn, unit.id, before, to, a_deed())
        assert await value(conn, "SELECT lifecycle FROM unit") == (to if to in MOVES[before] else before)


async def test_a_move_is_noted_with_who_when_and_why(conn: Connection) -> None:
    unit = await a_unit(conn)

    await lifecycle.move(
        conn, unit.id, Lifecycle.STORED, Lifecycle.SHIPPED, a_deed(now=NOON + HOUR, reason="to Goma")
    )

    [_, change] = await lifecycle.changes(conn, unit.id)
    assert (change.from_state, change.to_state) == (Lifecycle.STORED, Lifecycle.SHIPPED)
    assert (change.changed_by, change.changed_at, change.reason) == (
        "ada@example.com",
        NOON + HOUR,
        "to Goma",
    )
    [_, entry] = await audit.of_object(conn, "unit", unit.id)
    assert (entry.action, entry.before, entry.after) == (
        "unit_moved",
        {"lifecycle": "STORED"},
        {"lifecycle": "SHIPPED"},
    )


async def test_a_move_without_a_reason_is_refused(conn: Connection) -> None:
    unit = await a_unit(conn)

    with pytest.raises(BadText):
        await lifecycle.move(conn, unit.id, Lifecycle.STORED, Lifecycle.SHIPPED, a_deed(reason=" "))


async def test_of_two_moves_at_once_the_second_is_told_and_nothing_is_noted_for_it(pool: Pool) -> None:
    async with pool.transaction() as conn:
        unit = await a_unit(conn)

    async def move(to: Lifecycle) -> str:
        try:
            async with pool.transaction() as conn:
                await lifecycle.move(conn, unit.id, unit.lifecycle, to, a_deed())
        except MovedMeanwhile as error:
            return type(error).__name__
        return "moved"

    results = await asyncio.gather(move(Lifecycle.SHIPPED), move(Lifecycle.TERMINATED))

    assert sorted(results) == ["MovedMeanwhile", "moved"]
    async with pool.transaction() as conn:
        assert len(await lifecycle.changes(conn, unit.id)) == 2


# --- holders


async def test_a_unit_s_past_holders_are_remembered_with_their_dates(conn: Connection) -> None:
    second = await an_entity(conn, "Kivu Energy")
    unit = await a_unit(conn)

    await ownership.reassign(conn, unit, second, a_deed(now=NOON + HOUR, reason="sold"))

    moved = await units.by_identity(conn, unit.imei, scope=None)
    assert (moved.entity_id, moved.entity_name) == (second, "Kivu Energy")
    first, last = await ownership.history(conn, unit.id)
    assert (first.entity_id, first.started_at, first.ended_at) == (1, NOON, NOON + HOUR)
    assert (last.entity_id, last.started_at, last.ended_at) == (second, NOON + HOUR, None)
    moment = timedelta(microseconds=1)
    for when, holder in [
        (NOON - moment, None),
        (NOON, 1),
        (NOON + HOUR - moment, 1),
        (NOON + HOUR, second),
        (NOON + 9 * HOUR, second),
    ]:
        assert await ownership.entity_at(conn, unit.id, when) == holder
    assert (await audit.of_object(conn, "unit", unit.id))[-1].reason == "sold"


async def test_a_unit_cannot_be_given_away_twice_or_in_the_past_or_to_nobody(conn: Connection) -> None:
    second = await an_entity(conn, "Kivu Energy")
    unit = await a_unit(conn)

    with pytest.raises(HeldAlready):
        await ownership.reassign(conn, unit, 1, a_deed(now=NOON + HOUR))
    with pytest.raises(EntityNotFound):
        await ownership.reassign(conn, unit, 99, a_deed(now=NOON + HOUR))
    narrow = a_deed(by=a_caller(scope=frozenset({1})), now=NOON + HOUR)
    with pytest.raises(EntityNotFound):
        await ownership.reassign(conn, unit, second, narrow)
    with pytest.raises(BadText):
        await ownership.reassign(conn, unit, second, a_deed(reason=""))
    with pytest.raises(ReassignedTooEarly):
        await ownership.reassign(conn, unit, second, a_deed(now=NOON))


async def test_of_many_reassignments_at_once_the_dates_never_overlap(pool: Pool) -> None:
    async with pool.transaction() as conn:
        unit = await a_unit(conn)
        others = [await an_entity(conn, f"Entity {number}") for number in range(5)]

    async def reassign(entity_id: int, hours: int) -> None:
        try:
            async with pool.transaction() as conn:
                await ownership.reassign(conn, unit, entity_id, a_deed(now=NOON + hours * HOUR))
        except ReassignedTooEarly:
            pass

    await asyncio.gather(*(reassign(entity, hours) for hours, entity in enumerate(others, start=1)))

    async with pool.transaction() as conn:
        past = await ownership.history(conn, unit.id)
        now = await units.by_identity(conn, unit.imei, scope=None)
    assert all(one.ended_at == next_.started_at for one, next_ in itertools.pairwise(past))
    assert past[-1].ended_at is None
    assert past[-1].entity_id == now.entity_id


@pytest.mark.parametrize(
    ("statement", "violation"),
    [
        (
            "INSERT INTO unit_entity (unit_id, entity_id, started_at) SELECT id, 1, now() FROM unit",
            psycopg.errors.UniqueViolation,
        ),
        ("UPDATE unit_entity SET ended_at = started_at", psycopg.errors.CheckViolation),
        ("UPDATE unit SET entity_id = 99", psycopg.errors.ForeignKeyViolation),
        ("DELETE FROM unit", psycopg.errors.Error),
        ("INSERT INTO entity (name) VALUES (' ')", psycopg.errors.CheckViolation),
    ],
)
async def test_the_database_itself_keeps_the_holders_straight(
    conn: Connection, statement: str, violation: type[psycopg.Error]
) -> None:
    await a_unit(conn)

    with pytest.raises(violation):
        await conn.execute(statement)


async def test_imei_and_serial_come_back_as_checked_types(conn: Connection) -> None:
    unit = await a_unit(conn)

    assert type(unit.imei) is Imei
    assert type(unit.serial_number) is SerialNumber
    assert isinstance(unit.lifecycle, Lifecycle)
    assert issubclass(UnitNotFound, HeliographError)
