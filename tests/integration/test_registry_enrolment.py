"""How units come in, one by one and by file, against a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta

import psycopg
import pytest

from protocol.identity import Imei, SerialNumber
from registry import audit, enrolment, entities, lifecycle, ownership, units
from registry.enrolment import AlreadyEnrolled, ImeiTaken, NoNewerKey, SerialNumberTaken
from registry.entities import EntityNotFound
from registry.lifecycle import Lifecycle
from registry.newcomers import BadHeader, Newcomer, Outcome, Verdict
from runtime.errors import HeliographError
from runtime.settings import Database
from storage.pool import Pool
from storage.sql import Connection, value
from tests.builders import NOON, a_caller, a_deed, a_newcomer, a_serial, an_imei, keys

VECTOR = Newcomer(
    imei=Imei("352099001761481"),
    serial_number=SerialNumber("BB17SMART-150127-0608"),
    product_type="BB17SMART_v1",
    expected_interval_s=900,
)


async def import_lines(
    pool: Pool, *lines: str, header: str = "imei,serial_number,entity_id", minutes: int = 0
) -> list[Verdict]:
    deed = a_deed(now=NOON + timedelta(minutes=minutes))
    text = [f"{line}\n" for line in (header, *lines)]
    return [
        verdict
        async for batch in enrolment.import_csv(pool.transaction, text, keys(), deed)
        for verdict in batch
    ]


def told(verdicts: Sequence[Verdict]) -> list[tuple[int, Outcome, str | None]]:
    return [(verdict.line, verdict.outcome, verdict.field) for verdict in verdicts]


async def test_an_enrolled_unit_is_stored_and_its_credentials_are_those_of_the_wire_contract(
    conn: Connection,
) -> None:
    credentials = await enrolment.enrol(conn, VECTOR, keys(), a_deed())

    unit = await units.by_imei(conn, VECTOR.imei)
    assert unit is not None
    assert unit.lifecycle is Lifecycle.STORED
    assert (unit.entity_id, unit.entity_name) == (1, "Unknown Entity")
    assert (unit.serial_number, unit.product_type) == (VECTOR.serial_number, "BB17SMART_v1")
    assert (unit.expected_interval_s, unit.key_generation, unit.enrolled_at) == (900, 1, NOON)
    assert credentials.login == VECTOR.imei
    assert credentials.password == "kq3vhjp4uc6r5aiionbsqeaotw7yzhzr"  # noqa: S105 - the published test vector
    assert credentials.key.hex() == "4268c35fc0c9219201f501ba4b0f08009a7e7a62b3b604af6f4c11b14bd4ed0b"


async def test_enrolment_notes_birth_holder_and_deed_and_no_secret(conn: Connection) -> None:
    credentials = await enrolment.enrol(conn, VECTOR, keys(), a_deed(reason="new delivery"))

    unit = await units.by_identity(conn, VECTOR.imei, scope=None)
    [born] = await lifecycle.changes(conn, unit.id)
    [held] = await ownership.history(conn, unit.id)
    [entry] = await audit.of_object(conn, "unit", unit.id)
    assert (born.from_state, born.to_state) == (Lifecycle.NON_EXISTANT, Lifecycle.STORED)
    assert (held.entity_id, held.started_at, held.ended_at) == (1, NOON, None)
    assert (entry.action, entry.actor, entry.origin) == ("unit_enrolled", "ada@example.com", "test:127.0.0.1")
    assert entry.reason == "new delivery"
    stored = await value(conn, "SELECT string_agg(unit::text || audit::text, ' ') FROM unit CROSS JOIN audit")
    assert credentials.password not in stored
    assert credentials.key.hex() not in stored
    assert credentials.password not in repr(credentials)


async def test_names_are_unique_both_ways(conn: Connection) -> None:
    """S1.5."""
    await enrolment.enrol(conn, a_newcomer(1), keys(), a_deed())

    with pytest.raises(AlreadyEnrolled):
        await enrolment.enrol(conn, a_newcomer(1), keys(), a_deed())
    with pytest.raises(ImeiTaken) as imei_taken:
        await enrolment.enrol(conn, Newcomer(imei=an_imei(1), serial_number=a_serial(2)), keys(), a_deed())
    with pytest.raises(SerialNumberTaken) as serial_taken:
        await enrolment.enrol(conn, Newcomer(imei=an_imei(2), serial_number=a_serial(1)), keys(), a_deed())
    assert imei_taken.value.facts["serial_number"] == a_serial(1)
    assert serial_taken.value.facts["imei"] == an_imei(1)
    assert await value(conn, "SELECT count(*) FROM unit") == 1


async def test_a_unit_is_enrolled_only_into_an_entity_that_the_caller_sees(conn: Connection) -> None:
    mine = await entities.add(conn, "Kivu Energy", a_deed())
    other = await entities.add(conn, "Goma Light", a_deed())
    scoped = a_deed(by=a_caller(scope=frozenset({mine.id})))

    await enrolment.enrol(conn, a_newcomer(1, entity_id=mine.id), keys(), scoped)

    for unseen in (other.id, 99, 2**70):
        with pytest.raises(EntityNotFound):
            await enrolment.enrol(conn, a_newcomer(2, entity_id=unseen), keys(), scoped)


async def test_of_two_enrolments_at_once_one_wins(pool: Pool) -> None:
    pairs = [
        (a_newcomer(1), a_newcomer(1)),
        (a_newcomer(2), Newcomer(imei=an_imei(2), serial_number=a_serial(12))),
        (a_newcomer(3), Newcomer(imei=an_imei(13), serial_number=a_serial(3))),
    ]

    async def enrol(newcomer: Newcomer) -> str:
        try:
            async with pool.transaction() as conn:
                await enrolment.enrol(conn, newcomer, keys(), a_deed())
        except HeliographError as error:
            return type(error).__name__
        return "enrolled"

    for one, rival in pairs:
        results = await asyncio.gather(enrol(one), enrol(rival), enrol(one))

        assert results.count("enrolled") == 1
    async with pool.transaction() as conn:
        assert await value(conn, "SELECT count(*) FROM unit") == len(pairs)
        assert await value(conn, "SELECT count(*) FROM audit") == len(pairs)


async def test_the_waiting_rival_learns_who_won(pool: Pool) -> None:
    rival = Newcomer(imei=an_imei(2), serial_number=a_serial(1))

    async def enrol_rival() -> None:
        async with pool.transaction() as conn:
            await enrolment.enrol(conn, rival, keys(), a_deed())

    async with pool.transaction() as conn:
        await enrolment.enrol(conn, a_newcomer(1), keys(), a_deed())
        late = asyncio.create_task(enrol_rival())
        await blocked(pool)

    with pytest.raises(SerialNumberTaken):
        await late


async def test_a_csv_enrols_the_good_lines_and_tells_the_bad_ones_by_number(pool: Pool) -> None:
    async with pool.transaction() as conn:
        await enrolment.enrol(conn, a_newcomer(1), keys(), a_deed())

    verdicts = await import_lines(
        pool,
        f"{an_imei(1)},{a_serial(1)},",
        f"{an_imei(1)},{a_serial(9)},",
        f"{an_imei(8)},{a_serial(1)},",
        f"{an_imei(2)},{a_serial(2)},",
        f"{an_imei(2)},{a_serial(2)},",
        f"{an_imei(2)},{a_serial(3)},",
        f"{an_imei(3)},{a_serial(2)},",
        f"{an_imei(4)},{a_serial(4)},77",
        "35209900176148,HB1-G,",
        f"{an_imei(5)},=cmd(),",
        f"{an_imei(6)},{a_serial(6).lower()},1",
        minutes=1,
    )

    assert told(verdicts) == [
        (2, Outcome.ALREADY_ENROLLED, None),
        (3, Outcome.REFUSED, "imei"),
        (4, Outcome.REFUSED, "serial_number"),
        (5, Outcome.ENROLLED, None),
        (6, Outcome.REFUSED, "imei"),
        (7, Outcome.REFUSED, "imei"),
        (8, Outcome.REFUSED, "serial_number"),
        (9, Outcome.REFUSED, "entity_id"),
        (10, Outcome.REFUSED, "imei"),
        (11, Outcome.REFUSED, "serial_number"),
        (12, Outcome.ENROLLED, None),
    ]
    in_file = [verdict.line for verdict in verdicts if "earlier line" in (verdict.reason or "")]
    assert in_file == [6, 7, 8]
    async with pool.transaction() as conn:
        page = await units.page(conn, scope=None)
        assert [unit.imei for unit in page] == [an_imei(1), an_imei(2), an_imei(6)]


async def test_the_same_csv_once_more_changes_nothing(pool: Pool) -> None:
    lines = [f"{an_imei(number)},{a_serial(number)}," for number in range(3)]
    await import_lines(pool, *lines)

    verdicts = await import_lines(pool, *lines, minutes=1)

    assert {verdict.outcome for verdict in verdicts} == {Outcome.ALREADY_ENROLLED}


async def test_a_duplicate_far_down_the_file_is_still_told_as_one(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4.51."""
    monkeypatch.setattr(enrolment, "BATCH", 2)
    lines = [f"{an_imei(number)},{a_serial(number)}," for number in range(5)]

    verdicts = await import_lines(pool, *lines, f"{an_imei(0)},{a_serial(0)},")

    assert told(verdicts)[-1] == (7, Outcome.REFUSED, "imei")
    assert "earlier line" in (verdicts[-1].reason or "")


async def test_an_import_inside_one_transaction_can_be_undone(pool: Pool) -> None:
    lines = ["imei,serial_number\n", f"{an_imei(1)},{a_serial(1)}\n"]

    async def enrol_and_fail() -> None:
        async with pool.transaction() as conn:
            async for [verdict] in enrolment.import_csv(lambda: nullcontext(conn), lines, keys(), a_deed()):
                raise LookupError(verdict.outcome)

    with pytest.raises(LookupError, match="enrolled"):
        await enrol_and_fail()

    async with pool.transaction() as conn:
        assert await units.by_imei(conn, an_imei(1)) is None


async def test_a_wrong_header_enrols_nothing(pool: Pool) -> None:
    with pytest.raises(BadHeader):
        await import_lines(pool, f"{an_imei(1)},{a_serial(1)},", header="imei;serial_number")


async def test_a_new_key_needs_a_new_generation(conn: Connection) -> None:
    first = await enrolment.enrol(conn, VECTOR, keys(1), a_deed())
    unit = await units.by_identity(conn, VECTOR.imei, scope=None)
    before = await value(conn, "SELECT broker_login FROM unit")

    with pytest.raises(NoNewerKey):
        await enrolment.rekey(conn, unit, keys(1), a_deed())
    second = await enrolment.rekey(conn, unit, keys(1, 2), a_deed(reason="key was read out"))

    assert second.login == first.login
    assert second.password != first.password
    assert second.key != first.key
    assert await value(conn, "SELECT broker_login FROM unit") != before
    unit = await units.by_identity(conn, VECTOR.imei, scope=None)
    assert unit.key_generation == 2


@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ("imei", "35209900176148"),
        ("imei", "35209900176148a"),
        ("serial_number", ""),
        ("lifecycle", "SOLD"),
        ("key_generation", 0),
        ("broker_login", "secret"),
        ("broker_login", "$7$101$c2FsdA==$aGFzaA==\nroot:$7$101$c2FsdA==$aGFzaA=="),
        ("expected_interval_s", 0),
        ("product_type", ""),
    ],
)
async def test_the_database_itself_refuses_a_wrong_unit(conn: Connection, column: str, wrong: object) -> None:
    await enrolment.enrol(conn, VECTOR, keys(), a_deed())

    with pytest.raises(psycopg.errors.CheckViolation):
        await conn.execute(
            psycopg.sql.SQL("UPDATE unit SET {} = %s").format(psycopg.sql.Identifier(column)), [wrong]
        )


async def test_the_broker_is_told_when_a_login_comes_changes_or_goes(pool: Pool, database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as listener:
        await listener.execute("LISTEN unit_login")

        async def notices() -> int:
            """Count those before one of our own: they come in the order of the commits."""
            async with pool.transaction() as conn:
                await conn.execute("NOTIFY unit_login, 'ours'")
            number = 0
            async for notice in listener.notifies(timeout=20):
                if notice.payload == "ours":
                    return number
                number += 1
            raise AssertionError("not even our own came")

        async with pool.transaction() as conn:
            await enrolment.enrol(conn, VECTOR, keys(), a_deed())
        assert await notices() == 1

        async with pool.transaction() as conn:
            unit = await units.by_identity(conn, VECTOR.imei, scope=None)
            await lifecycle.move(conn, unit.id, Lifecycle.STORED, Lifecycle.SHIPPED, a_deed())
        assert await notices() == 0

        async with pool.transaction() as conn:
            await enrolment.rekey(conn, unit, keys(1, 2), a_deed())
        assert await notices() == 1

        async with pool.transaction() as conn:
            await lifecycle.move(conn, unit.id, Lifecycle.SHIPPED, Lifecycle.TERMINATED, a_deed())
        assert await notices() == 1


async def blocked(pool: Pool) -> None:
    """Wait until somebody in this database waits for a lock."""
    async with asyncio.timeout(5):
        while True:
            async with pool.transaction() as conn:
                waiting = await value(
                    conn,
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
                )
            if waiting:
                return
            await asyncio.sleep(0.01)
