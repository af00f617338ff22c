"""Batches against a real database: every message gets its verdict, and only then its acknowledgement."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from gateway import ingest, metrics
from gateway.ingest import Ingest
from gateway.session import Delivery, Session
from gateway.unit_ids import UnitIds
from gateway.watchdog import STALL_S
from protocol import codec
from protocol.messages import Heartbeat, Mode
from protocol.reasons import Reason
from protocol.topics import Channel, topic
from registry import enrolment, units
from runtime.settings import Commands, Database, Gateway
from storage.errors import DatabaseUnavailable
from storage.pool import Pool, open_pool
from storage.sql import Connection
from telemetry import dead_letters, status
from telemetry.partitions import Days
from tests.builders import a_deed, a_newcomer, an_imei, keys

SETTINGS = Gateway.model_validate(
    {"broker_uplink_password": "x", "broker_downlink_password": "x", "gateway_batch_ms": 20}
)


DROP_DAYS = """
DO $$ DECLARE part regclass; BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'heartbeat'::regclass LOOP
        EXECUTE format('DROP TABLE %s', part);
    END LOOP;
END $$
"""


@dataclass
class FakeSession:
    """A connection that only remembers what was acknowledged."""

    acknowledged: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    resumed: int = 0

    def acknowledge(self, packet_ids: list[int]) -> None:
        self.acknowledged += packet_ids
        self.batches.append(len(packet_ids))

    def resume(self) -> None:
        self.resumed += 1

    def __hash__(self) -> int:
        return id(self)


@dataclass
class Bench:
    """An ingest under test."""

    ingest: Ingest
    session: FakeSession
    pool: Pool
    packet_id: int = 0

    def give(self, body: bytes, *, unit: int = 1, fault: str | None = None) -> bool:
        """Hand over one message; answers whether there is room for more."""
        self.packet_id += 1
        where = topic(an_imei(unit), Channel.HEARTBEAT)
        session = cast("Session", self.session)
        return self.ingest.take(
            [Delivery(session, self.packet_id, where, body, retained=False, again=False, fault=fault)]
        )

    async def acknowledged(self, number: int) -> list[int]:
        """Wait until so many messages are acknowledged."""
        async with asyncio.timeout(20):
            while len(self.session.acknowledged) < number:
                await asyncio.sleep(0.01)
        return self.session.acknowledged

    async def reasons(self) -> list[str]:
        async with self.pool.transaction() as conn:
            return sorted(letter.reason for letter in await dead_letters.page(conn, limit=200))

    async def count(self) -> Any:
        async with self.pool.transaction() as conn:
            return await (await conn.execute("SELECT count(*) AS n FROM heartbeat")).fetchone()


def beat(seq: int, *, boot: int = 1) -> bytes:
    """Build a heartbeat's body."""
    return codec.encode(Heartbeat(life=1, boot=boot, seq=seq, mode=Mode.ENABLED, epoch=0, readings={}))


@asynccontextmanager
async def running(database: Database, settings: Gateway = SETTINGS) -> AsyncIterator[Bench]:
    """Run an ingest until the block ends."""
    async with open_pool(database) as pool:
        async with pool.transaction(deadline_s=30) as conn:  # it is opened first, however short others last
            await enrolment.enrol_all(conn, [a_newcomer(1), a_newcomer(2)], keys(), a_deed())
        ingest = Ingest("gateway-0-99", settings, Commands(), pool, Days(pool))
        session = FakeSession()
        ingest.connected(cast("Session", session))
        stop = asyncio.Event()
        serving = asyncio.create_task(ingest.serve(stop))
        yield Bench(ingest, session, pool)
        stop.set()
        await serving


async def execute(database: Database, statement: str) -> None:
    """Run one statement as the owner."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as conn:
        await conn.execute(statement.encode())


async def test_messages_are_acknowledged_in_the_order_of_their_arrival(database: Database) -> None:
    async with running(database) as bench:
        for seq in range(1, 51):
            bench.give(beat(seq))

        assert await bench.acknowledged(50) == list(range(1, 51))
        assert await bench.count() == {"n": 50}


async def test_a_message_the_database_refuses_becomes_a_dead_letter_and_costs_no_other(
    database: Database,
) -> None:
    """R5: whatever its place in the batch."""
    await execute(database, "ALTER TABLE heartbeat ADD CONSTRAINT strange CHECK (seq NOT IN (1, 13, 14, 32))")
    async with running(database) as bench:
        for seq in range(1, 33):
            bench.give(beat(seq))

        assert sorted(await bench.acknowledged(32)) == list(range(1, 33))
        assert await bench.count() == {"n": 28}
        assert await bench.reasons() == [Reason.REFUSED_BY_DATABASE] * 4


async def test_each_bad_message_is_kept_once_with_its_reason(database: Database) -> None:
    async with running(database) as bench:
        bench.give(beat(1))
        bench.give(b"")
        bench.give(b"{")
        bench.give(beat(1), unit=77)
        bench.give(b"\x30\x02", fault="not UTF-8")
        bench.give(b"{")
        bench.give(beat(2))

        await bench.acknowledged(7)
        assert await bench.count() == {"n": 2}
        assert await bench.reasons() == sorted(
            [Reason.UNSUPPORTED_ENCODING, Reason.NOT_JSON, Reason.UNKNOWN_UNIT, Reason.MALFORMED_PACKET]
        )


async def test_a_full_window_says_stop_and_an_emptied_one_says_go_on(database: Database) -> None:
    settings = SETTINGS.model_copy(update={"gateway_window": 5})
    async with running(database, settings) as bench:
        room = [bench.give(beat(seq)) for seq in range(1, 7)]

        assert room == [True] * 4 + [False] * 2
        await bench.acknowledged(6)
        assert bench.session.resumed >= 1
        assert bench.give(beat(7))


async def test_a_large_message_counts_by_its_size_in_window_and_batch(database: Database) -> None:
    """R5, R6: hundreds of oversized ones in one transaction are more than the database takes at once."""
    large = b"{" + b" " * 60 * 1024
    settings = SETTINGS.model_copy(update={"gateway_window": 300, "gateway_batch_rows": 100})
    async with running(database, settings) as bench:
        room = [bench.give(large) for _ in range(6)]

        await bench.acknowledged(6)

        assert room == [True] * 4 + [False] * 2
        assert bench.session.batches == [2, 2, 2]
        assert bench.give(beat(1))


async def test_nothing_is_acknowledged_while_the_database_does_not_answer(database: Database) -> None:
    """R7: the backend process is stopped, and goes on later."""
    patient = database.model_copy(update={"database_deadline_s": 1.0, "database_pool": 1})
    async with running(patient) as bench:
        bench.give(beat(1))
        await bench.acknowledged(1)
        async with bench.pool.transaction() as conn:
            backend = conn.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            bench.give(beat(2))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await bench.acknowledged(2)
            assert 0.0 < bench.ingest.stalled_s < STALL_S  # an outage is tried again and again
        finally:
            os.kill(backend, signal.SIGCONT)

        assert await bench.acknowledged(2) == [1, 2]
        assert await bench.count() == {"n": 2}
        assert bench.ingest.stalled_s == 0.0


async def test_what_is_held_ages_while_nobody_tries(database: Database) -> None:
    """R9: this is what the watchdog looks at."""
    async with open_pool(database) as pool:
        ingest = Ingest("gateway-0-99", SETTINGS, Commands(), pool, Days(pool))
        bench = Bench(ingest, FakeSession(), pool)
        assert (ingest.stalled_s, ingest.queued) == (0.0, 0)

        bench.give(beat(1))
        first = ingest.stalled_s
        bench.give(beat(2))

        assert 0.0 < first < ingest.stalled_s
        assert ingest.queued == 2


async def test_thousands_of_lost_pieces_of_one_message_are_kept_in_a_hundred_and_one(
    database: Database,
) -> None:
    pieces = ",".join(f'"BAD{number}":1' for number in range(3000))
    body = f'{{"v":1,"boot":1,"seq":1,"mode":"enabled","epoch":0,"readings":{{{pieces}}}}}'
    async with running(database) as bench:
        bench.give(body.encode())
        await bench.acknowledged(1)

        async with bench.pool.transaction() as conn:
            letters = await dead_letters.page(conn, limit=200)
        assert len(letters) == 101
        assert [letter.body for letter in letters if letter.is_message] == [body.encode()]
        assert await bench.count() == {"n": 1}


async def test_a_batch_that_takes_too_long_is_halved_until_it_does_not(database: Database) -> None:
    """The heartbeat numbered 7 takes longer than any transaction may; the others must not wait for it."""
    await execute(
        database,
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.seq = 7 AND (SELECT count(*) FROM unit_sequence) < 2 THEN PERFORM pg_sleep(5); END IF;"
        " RETURN NEW; END $$;"
        " CREATE TRIGGER slow BEFORE INSERT ON heartbeat FOR EACH ROW EXECUTE FUNCTION dawdle();",
    )
    hasty = database.model_copy(update={"database_deadline_s": 1.0})
    async with running(hasty) as bench:
        for seq in range(1, 9):
            bench.give(beat(seq))

        assert sorted(await bench.acknowledged(6))[:6] == [1, 2, 3, 4, 5, 6]
        await execute(database, "DROP TRIGGER slow ON heartbeat")
        assert sorted(await bench.acknowledged(8)) == list(range(1, 9))


@pytest.mark.parametrize(("second", "stored", "waiting"), [(2, 1, 1), (1, 0, 1)])
async def test_a_batch_goes_beside_a_slow_one_only_without_a_unit_in_common_and_never_past_it(
    database: Database, second: int, stored: int, waiting: int
) -> None:
    """What arrived first is acknowledged first; of one unit, it is judged first too."""
    alone = SETTINGS.model_copy(update={"gateway_batch_rows": 1})
    async with running(database, alone) as bench:
        bench.give(beat(1), unit=1)
        bench.give(beat(1), unit=2)
        await bench.acknowledged(2)
        async with bench.pool.transaction() as conn:
            await conn.execute("SELECT FROM unit_status WHERE unit_id = 1 FOR UPDATE")
            bench.give(beat(2), unit=1)
            bench.give(beat(3), unit=second)
            async with asyncio.timeout(20):
                while (await bench.count(), await lock_waits(bench.pool)) != ({"n": 2 + stored}, waiting):
                    await asyncio.sleep(0.01)

            await asyncio.sleep(0.5)  # what should not come has this long to come
            assert await bench.count() == {"n": 2 + stored}
            assert await lock_waits(bench.pool) == waiting
            assert bench.session.acknowledged == [1, 2]

        assert await bench.acknowledged(4) == [1, 2, 3, 4]


async def test_who_looks_units_up_keeps_them_while_another_forgets(database: Database) -> None:
    """One batch's database is gone, and the units of the next are no strangers for that."""
    async with running(database) as bench:
        unit_ids = UnitIds(bench.pool)
        await unit_ids.of([an_imei(1)])
        async with await psycopg.AsyncConnection.connect(database.owner_url) as conn:
            await conn.execute("LOCK TABLE unit IN ACCESS EXCLUSIVE MODE")
            asked = asyncio.create_task(unit_ids.of([an_imei(1), an_imei(2), an_imei(77), None]))
            while not await lock_waits(bench.pool):
                await asyncio.sleep(0.01)
            unit_ids.forget()

        assert await asked == {an_imei(1): 1, an_imei(2): 2}
        assert await unit_ids.of([an_imei(1)]) == {an_imei(1): 1}


async def test_no_more_units_are_remembered_than_there_is_room_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that has heard a fleet of any size holds so much of it; the rest is looked up again."""
    asked: list[list[str]] = []

    async def look_up(conn: Connection, imeis: Sequence[str]) -> dict[str, int]:
        asked.append(list(imeis))
        return await units.ids_by_imei(conn, imeis)

    monkeypatch.setattr("gateway.unit_ids.REMEMBERED", 1)
    monkeypatch.setattr("gateway.unit_ids.units", SimpleNamespace(ids_by_imei=look_up))
    async with running(database) as bench:
        unit_ids = UnitIds(bench.pool)

        for number in (1, 1, 2, 1):
            assert await unit_ids.of([an_imei(number)]) == {an_imei(number): number}

    assert asked == [[an_imei(1)], [an_imei(2)], [an_imei(1)]]


async def lock_waits(pool: Pool) -> int:
    """Count the sessions that wait for a lock in this database."""
    async with pool.transaction() as conn:
        cursor = await conn.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return cursor.rowcount


async def test_a_database_that_is_away_while_a_message_is_given_up_is_no_standstill(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog would end the gateway."""
    tries, began = 0, 0.0

    async def fails(*_given: Any, **_more: Any) -> None:
        nonlocal tries, began
        tries += 1
        if tries <= 2:
            raise psycopg.errors.CheckViolation
        began = began or time.monotonic()
        raise DatabaseUnavailable("It is away.")

    async with running(database) as bench:
        monkeypatch.setattr("gateway.lane.judge", fails)
        bench.give(beat(1))
        async with asyncio.timeout(30):
            while tries < 6:
                await asyncio.sleep(0.01)
        away_s, stalled_s = time.monotonic() - began, bench.ingest.stalled_s
        monkeypatch.undo()

        await bench.acknowledged(1)

    assert stalled_s < away_s / 2


async def test_a_database_that_takes_nothing_for_a_while_is_waited_for(database: Database) -> None:
    """It stands by for another, or its disk is full."""
    async with open_pool(database) as pool:
        with pytest.raises(DatabaseUnavailable):
            async with pool.transaction() as conn:
                await conn.execute("SET TRANSACTION READ ONLY")
                await conn.execute("UPDATE unit_status SET seq = seq")


async def test_a_restored_database_is_not_taken_for_the_old_one(database: Database) -> None:
    """What was remembered of it (units, days) is asked again before a message is called refused."""
    async with running(database) as bench:
        bench.give(beat(1))
        await bench.acknowledged(1)
        await execute(database, DROP_DAYS)

        bench.give(beat(2))

        await bench.acknowledged(2)
        assert await bench.count() == {"n": 1}
        assert await bench.reasons() == []


@pytest.mark.parametrize(("patience_s", "live"), [(0.0, False), (60.0, True)])
async def test_what_comes_after_a_long_pause_may_have_waited(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, patience_s: float, live: bool
) -> None:
    """Nothing was read meanwhile, and the connection stayed: the broker kept what units said."""
    monkeypatch.setattr(ingest, "PAUSE_S", patience_s)
    async with running(database, SETTINGS.model_copy(update={"gateway_window": 1})) as bench:
        bench.ingest.nothing_queued()
        assert not bench.give(beat(1), unit=2)
        await bench.acknowledged(1)
        assert bench.session.resumed == 1

        bench.give(beat(1), unit=1)

        await bench.acknowledged(2)
        async with bench.pool.transaction() as conn:
            told = (await status.of_units(conn, [1]))[1]
    assert (told.live_contact_at is not None, told.reported_live) == (live, live)


async def test_a_drain_that_fills_the_window_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short its pauses are, and however long it takes."""
    passed_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed_s)
    monkeypatch.setattr(ingest, "time", clock)
    async with running(database, SETTINGS.model_copy(update={"gateway_window": 1})) as bench:

        async def live_after(seconds: float, seq: int) -> bool | None:
            nonlocal passed_s
            passed_s += seconds
            bench.give(beat(seq))
            await bench.acknowledged(seq)
            async with bench.pool.transaction() as conn:
                return (await status.of_units(conn, [1]))[1].reported_live

        draining = [await live_after(0.7 * ingest.QUEUED_S, seq) for seq in range(1, 5)]

        assert draining == [False] * 4
        assert await live_after(1.1 * ingest.QUEUED_S, 5)


async def test_what_a_unit_says_again_and_again_is_so_many_contacts_though_it_is_read_at_once(
    database: Database,
) -> None:
    async with running(database) as bench:
        session = cast("Session", bench.session)
        bench.ingest.take(
            [
                Delivery(
                    session,
                    seq,
                    topic(an_imei(unit), Channel.HEARTBEAT),
                    beat(seq),
                    retained=False,
                    again=False,
                )
                for seq, unit in enumerate((1, 1, 2, 1), 1)
            ]
        )

        await bench.acknowledged(4)
        async with bench.pool.transaction() as conn:
            found = await (
                await conn.execute("SELECT unit_id, received_at FROM heartbeat ORDER BY received_at")
            ).fetchall()
    assert [row["unit_id"] for row in found if row["received_at"] == found[0]["received_at"]] == [1, 2]
    assert len({row["received_at"] for row in found if row["unit_id"] == 1}) == 3


async def test_what_a_new_session_brings_is_live_and_what_a_kept_one_brings_may_have_waited(
    database: Database,
) -> None:
    async with running(database) as bench:
        bench.give(beat(1), unit=1)
        bench.ingest.nothing_queued()
        bench.give(beat(1), unit=2)

        await bench.acknowledged(2)

        async with bench.pool.transaction() as conn:
            told = await status.of_units(conn, [1, 2])
    assert (told[1].live_contact_at is None, told[1].reported_live) == (True, False)
    assert (told[2].live_contact_at is None, told[2].reported_live) == (False, True)


async def test_what_leaps_is_a_dead_letter_with_its_bytes_and_every_message_has_one_verdict(
    database: Database,
) -> None:
    """R4; of a backlog only the entry is lost, and is pointed to where it stood when it was sent."""
    entries = (
        b'[{"seq":0},{"seq":7,"boot":900000,"mode":"enabled","epoch":0},{"seq":1,"mode":"enabled","epoch":0}]'
    )
    with_backlog = beat(3)[:-1] + b',"backlog":' + entries + b"}"
    before = figures()
    async with running(database) as bench:
        for body in (beat(2), beat(2), beat(9, boot=900_000), with_backlog):
            bench.give(body)
        await bench.acknowledged(4)

        async with bench.pool.transaction() as conn:
            letters = {letter.path: letter for letter in await dead_letters.page(conn, limit=9)}
        assert await bench.count() == {"n": 3}
    assert {path: letter.reason for path, letter in letters.items()} == {
        "/boot": Reason.COUNTER_JUMP,
        "/backlog/0": Reason.INVALID_BACKLOG_ENTRY,
        "/backlog/1": Reason.COUNTER_JUMP,
    }
    assert letters["/boot"].body == beat(9, boot=900_000)
    assert json.loads(letters["/backlog/1"].body) == {
        "seq": 7,
        "boot": 900_000,
        "mode": "enabled",
        "epoch": 0,
    }
    assert all(letter.unit_id for letter in letters.values())
    assert {name: after - before.get(name, 0) for name, after in figures().items()} == {
        "received": 4,
        "stored": 2,
        "duplicate": 1,
        "dead_letter": 1,
        "new": 3,
        "repeated": 1,
        "counter_jump": 2,
        "raised": 1,
    }


def figures() -> dict[str, float]:
    """Give what the gateway has counted."""
    verdicts = {
        verdict: metrics.VERDICTS.labels(verdict) for verdict in ("stored", "duplicate", "dead_letter")
    }
    kinds = {kind: metrics.HEARTBEATS.labels(kind) for kind in ("new", "repeated")}
    counters = {"received": metrics.RECEIVED, **verdicts, **kinds}
    counters["counter_jump"] = metrics.DEAD_LETTERS.labels("counter_jump")
    counters["raised"] = metrics.ALERTS.labels("counter_jump")
    return {
        name: next(sample.value for metric in counter.collect() for sample in metric.samples)
        for name, counter in counters.items()
    }
