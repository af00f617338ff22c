"""What a batch of messages leaves in the tables, and what it says that it left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from protocol.codec import Cleared
from protocol.messages import BacklogEntry, Heartbeat, Mode, Presence, PresenceState
from protocol.reasons import Reason
from registry import enrolment
from runtime.settings import Database
from storage.pool import Pool, open_pool
from telemetry import dead_letters, heartbeats, status
from telemetry.arrivals import Arrival, moments
from telemetry.clocks import ClockState
from telemetry.dead_letters import Loss
from telemetry.heartbeat_rows import SHORT_READINGS
from telemetry.partitions import Days
from telemetry.presence import State, Why
from telemetry.record import Recorded, Verdict, record
from tests.builders import NOON, a_deed, a_newcomer, an_imei, keys

UNIT = 1


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database) as pool:
        async with pool.transaction() as conn:
            await enrolment.enrol_all(conn, [a_newcomer(1), a_newcomer(2)], keys(), a_deed())
        yield pool


def beat(seq: int, *, boot: int = 1, life: int = 7, **fields: Any) -> Heartbeat:
    """Build a heartbeat; what is not given does not matter."""
    return Heartbeat(
        life=life,
        boot=boot,
        seq=seq,
        **{"mode": Mode.ENABLED, "epoch": 0, "readings": {"battery_v": 12.8}, **fields},
    )


def presence(state: PresenceState, *, conn: int, boot: int = 1, life: int = 7) -> Presence:
    """Build a presence."""
    return Presence(state=state, life=life, boot=boot, conn=conn)


def arrival(message: Any, *, unit_id: int = UNIT, minute: int = 0, live: bool = True, **more: Any) -> Arrival:
    """Build an arrival at some minute after noon."""
    return Arrival(
        unit_id=unit_id, message=message, received_at=NOON + timedelta(minutes=minute), live=live, **more
    )


async def take(pool: Pool, *arrivals: Arrival) -> Recorded:
    """Record arrivals in one batch, and keep what was lost."""
    await Days(pool).ensure(moments(arrivals))
    async with pool.transaction() as conn:
        recorded = await record(conn, arrivals, now=NOON)
        await dead_letters.keep(conn, recorded.losses, gateway="gateway-0-99")
        return recorded


async def stored(pool: Pool, unit_id: int = UNIT) -> list[heartbeats.Heartbeat]:
    """Read all heartbeats of a unit, newest first."""
    async with pool.transaction() as conn:
        return await heartbeats.of_unit(
            conn, unit_id, since=NOON - timedelta(days=90), until=NOON + timedelta(days=1), limit=10_000
        )


async def standing(pool: Pool, unit_id: int = UNIT) -> status.Status:
    """Read a unit's status."""
    async with pool.transaction() as conn:
        found = await status.of_unit(conn, unit_id)
    assert found is not None
    return found


async def test_a_heartbeat_is_stored_and_becomes_the_status(pool: Pool) -> None:
    said = beat(1, ts=int(NOON.timestamp()) - 5, fw="2.4.1", output=True, next_s=900, unknown="kept")

    recorded = await take(pool, arrival(said))

    [kept] = await stored(pool)
    now = await standing(pool)
    assert recorded.verdicts == [Verdict.STORED]
    assert (recorded.new, recorded.repeated) == (1, 0)
    assert kept.at == NOON - timedelta(seconds=5)
    assert kept.readings == pytest.approx({"battery_v": 12.8})
    assert kept.fields == {"unknown": "kept"}
    assert (now.mode, now.boot, now.seq, now.fw, now.next_s) == (Mode.ENABLED, 1, 1, "2.4.1", 900)
    assert now.contact_at == NOON


async def test_lives_first_heard_in_one_batch_stand_in_the_order_of_their_arrival(pool: Pool) -> None:
    spoken = [9, 2**32 - 1, 1, 5, 3]

    await take(pool, *(arrival(beat(1, life=life)) for life in spoken))

    async with pool.transaction() as conn:
        cursor = await conn.execute("SELECT life FROM unit_life WHERE unit_id = 1 ORDER BY ordinal")
        assert [row["life"] for row in await cursor.fetchall()] == spoken
    assert (await standing(pool)).life == len(spoken)


async def test_a_heartbeat_counts_once_however_often_it_arrives(pool: Pool) -> None:
    first = await take(pool, arrival(beat(1)), arrival(beat(1)), arrival(beat(2)))
    again = await take(pool, arrival(beat(2)), arrival(beat(1), minute=1))

    assert first.verdicts == [Verdict.STORED, Verdict.DUPLICATE, Verdict.STORED]
    assert again.verdicts == [Verdict.DUPLICATE, Verdict.DUPLICATE]
    assert (again.new, again.repeated) == (0, 2)
    assert len(await stored(pool)) == 2


async def test_numbers_far_apart_and_at_block_edges_are_kept_apart(pool: Pool) -> None:
    numbers = [1, 1023, 1024, 1025, 2047, 2048, 1_002_047, 1_002_048]

    first = await take(pool, *(arrival(beat(number)) for number in numbers))
    again = await take(pool, *(arrival(beat(number)) for number in numbers))

    assert first.new == len(numbers)
    assert again.new == 0


async def test_the_same_number_of_another_boot_or_life_is_another_heartbeat(pool: Pool) -> None:
    recorded = await take(pool, arrival(beat(1)), arrival(beat(1, boot=2)), arrival(beat(1, life=8)))

    assert recorded.new == 3
    assert {(one.life, one.boot) for one in await stored(pool)} == {(1, 1), (1, 2), (2, 1)}


async def test_a_backlog_is_stored_at_the_times_the_unit_gives_and_does_not_become_the_status(
    pool: Pool,
) -> None:
    hour = 3600
    noon = int(NOON.timestamp())
    entries = (
        BacklogEntry(seq=3, ts=noon - hour, mode=Mode.DISABLED, epoch=0),
        BacklogEntry(seq=2, boot=4, ts=noon - 2 * hour, mode=Mode.ENABLED, epoch=0),
        BacklogEntry(seq=4, mode=Mode.ENABLED, epoch=0),
    )

    recorded = await take(pool, arrival(beat(5, boot=5, ts=noon, backlog=entries)))

    rows = {(one.boot, one.seq): one.at for one in await stored(pool)}
    assert recorded.new == 4
    assert rows[5, 3] == NOON - timedelta(hours=1)
    assert rows[4, 2] == NOON - timedelta(hours=2)
    assert rows[5, 4] == NOON
    assert (await standing(pool)).seq == 5


@pytest.mark.parametrize("ts", [0, 4102444801, -1, 2**63 - 1, 1_780_000_000_000])
async def test_an_implausible_clock_places_a_heartbeat_at_its_arrival(pool: Pool, ts: int) -> None:
    await take(pool, arrival(beat(1, ts=ts)))

    [kept] = await stored(pool)
    assert kept.at == NOON
    assert kept.unit_ts == ts


async def test_any_order_of_arrival_leaves_the_same_status(pool: Pool) -> None:
    """R3: order is (life in the order first heard, boot, seq), never a clock."""
    await take(pool, arrival(beat(1, life=1)))
    messages = [
        beat(2, life=1, mode=Mode.OFFLINE_DISABLED, epoch=4),
        beat(9, life=1, boot=2, epoch=5),
        beat(3, life=1, boot=3, epoch=6, mode=Mode.DISABLED),
        beat(3, life=1, boot=2, epoch=5, ts=2_000_000_000),
    ]
    ends = set()
    for unit_id, order in enumerate(permutations(messages), start=1):
        if unit_id > 2:
            async with pool.transaction() as conn:
                await enrolment.enrol_all(conn, [a_newcomer(unit_id)], keys(), a_deed())
        await take(pool, arrival(beat(1, life=1), unit_id=unit_id))
        for minute, message in enumerate(order):
            await take(pool, arrival(message, unit_id=unit_id, minute=minute))
        end = await standing(pool, unit_id)
        ends.add((end.life, end.boot, end.seq, end.mode, end.epoch))

    assert ends == {(1, 3, 3, Mode.DISABLED, 6)}


EIGHT = dict(zip(SHORT_READINGS, (12.81, 1.23, 18.2, 2.1, 0.4, 88.0, -31.5, -71.0), strict=True))


@pytest.mark.parametrize(
    "readings",
    [
        EIGHT,
        EIGHT | {"energy_wh": 12_345.67},
        EIGHT | {"tamper": False, "lvd": True},
        EIGHT | {"humidity": 41.5},
        EIGHT | {"temp_c": 12.345},
        {"battery_v": 12.81},
        {"battery_v": 327.67, "battery_a": -327.67, "panel_v": 327.68, "panel_a": -327.68},
        {"battery_v": 0.0, "battery_a": 0.005, "panel_v": 0.01, "panel_a": 1e-300, "temp_c": -0.01},
        {},
    ],
)
async def test_readings_come_back_as_they_were_said(pool: Pool, readings: dict[str, float | bool]) -> None:
    """The second heartbeat says it again: how a value stands in a column is remembered."""
    await take(pool, arrival(beat(1, readings=readings)), arrival(beat(2, readings=readings)))

    assert [kept.readings for kept in await stored(pool)] == [readings, readings]


async def test_readings_no_column_can_hold_are_kept_beside_the_columns(pool: Pool) -> None:
    readings = {"battery_v": 1e300, "panel_v": 1e-300, "energy_wh": 1e300, "humidity": 41.5, "door": True}

    await take(pool, arrival(beat(1, readings=readings)))

    [kept] = await stored(pool)
    assert kept.readings == readings


async def test_presence_goes_by_boot_and_connection_not_by_arrival(pool: Pool) -> None:
    online, offline = PresenceState.ONLINE, PresenceState.OFFLINE

    recorded = await take(
        pool,
        arrival(presence(online, conn=2)),
        arrival(presence(offline, conn=1), minute=1),
        arrival(presence(online, conn=2), minute=2),
    )

    assert recorded.verdicts == [Verdict.STORED, Verdict.DUPLICATE, Verdict.DUPLICATE]
    assert recorded.listening == [UNIT]
    assert (await standing(pool)).presence is online
    late = await take(pool, arrival(presence(offline, conn=2), minute=3), arrival(Cleared(), minute=4))
    assert late.verdicts == [Verdict.STORED, Verdict.DUPLICATE]
    assert (await standing(pool)).presence is offline


async def test_unknown_fields_of_a_presence_are_kept(pool: Pool) -> None:
    said = Presence.model_validate({"state": "online", "boot": 1, "rat": "2G"})

    await take(pool, arrival(said))

    async with pool.transaction() as conn:
        cursor = await conn.execute("SELECT presence_fields FROM unit_status")
        assert await cursor.fetchone() == {"presence_fields": {"rat": "2G"}}


async def test_what_waited_in_the_broker_is_contact_but_not_live_contact(pool: Pool) -> None:
    await take(pool, arrival(beat(1), live=False))

    async with pool.transaction() as conn:
        cursor = await conn.execute("SELECT contact_at, live_contact_at FROM unit_status")
        assert await cursor.fetchone() == {"contact_at": NOON, "live_contact_at": None}


async def test_a_live_contact_is_dated_by_the_database_whatever_the_gateways_clock_shows(pool: Pool) -> None:
    ten_years = 10 * 365 * 24 * 60
    await take(pool, arrival(beat(1), minute=ten_years))
    await take(pool, arrival(beat(2), minute=ten_years))

    now = await standing(pool)

    assert now.contact_at is not None
    assert now.live_contact_at is not None
    assert now.contact_at <= now.read_at
    assert timedelta(0) <= now.read_at - now.live_contact_at < timedelta(minutes=5)


async def test_the_time_that_the_gateway_held_a_live_contact_counts(pool: Pool) -> None:
    await take(pool, arrival(beat(1), minute=-60))

    now = await standing(pool)

    assert now.live_contact_at is not None
    assert now.read_at - now.live_contact_at >= timedelta(minutes=60)


async def test_contact_never_goes_back(pool: Pool) -> None:
    await take(pool, arrival(beat(1)))
    before = await standing(pool)

    await take(pool, arrival(beat(2), minute=-600))

    after = await standing(pool)
    assert (after.contact_at, after.live_contact_at) == (before.contact_at, before.live_contact_at)


async def test_contacts_dated_by_a_clock_that_was_set_back_count_until_the_next_one(pool: Pool) -> None:
    await take(pool, arrival(beat(1)), arrival(presence(PresenceState.ONLINE, conn=1)))
    async with pool.transaction() as conn:
        await conn.execute(
            """
            UPDATE unit_status
               SET contact_at = tomorrow, live_contact_at = tomorrow, live_online_at = tomorrow
              FROM (SELECT now() + INTERVAL '1 day' AS tomorrow) clock
            """
        )
    ahead = (await standing(pool)).present(3_600)

    await take(pool, arrival(beat(2)), arrival(presence(PresenceState.ONLINE, conn=2)))

    after = await standing(pool)
    assert (ahead.state, ahead.since) == (State.SILENT, None)
    assert after.present(3_600).state is State.ONLINE
    assert all(
        at is not None and at <= after.read_at
        for at in (after.contact_at, after.live_contact_at, after.live_online_at)
    )


async def test_a_week_of_backlog_leaves_a_silent_unit_silent(pool: Pool) -> None:
    a_week_ago = int(NOON.timestamp()) - 7 * 86_400
    backlog = tuple(
        BacklogEntry(seq=seq, ts=a_week_ago + seq, mode=Mode.ENABLED, epoch=0) for seq in range(1, 501)
    )

    recorded = await take(pool, arrival(beat(501, backlog=backlog), live=False))

    assert recorded.new == 501
    assert (await standing(pool)).present(3_600).state is State.SILENT


async def test_a_replayed_presence_makes_no_unit_look_alive(pool: Pool) -> None:
    online = presence(PresenceState.ONLINE, conn=1)
    await take(pool, arrival(online, live=False))
    replayed = await standing(pool)

    await take(pool, arrival(presence(PresenceState.ONLINE, conn=2)))

    heard = await standing(pool)
    assert replayed.present(3_600).reason is Why.ONLY_QUEUED
    assert heard.present(3_600).reason is Why.SESSION_OPEN
    await take(pool, arrival(presence(PresenceState.ONLINE, conn=2), live=False))
    assert (await standing(pool)).live_online_at == heard.live_online_at


async def test_only_a_live_report_judges_the_clock(pool: Pool) -> None:
    an_hour_behind = int(NOON.timestamp()) - 3_600
    await take(pool, arrival(beat(1, ts=an_hour_behind), live=False))
    queued = (await standing(pool)).clock

    await take(pool, arrival(beat(2, ts=an_hour_behind)))

    live = (await standing(pool)).clock
    assert (queued.state, live.state, live.skew_s) == (ClockState.UNKNOWN, ClockState.SKEWED, -3_600)


async def test_a_lost_piece_is_a_dead_letter_and_the_same_piece_again_only_counts(pool: Pool) -> None:
    loss = Loss(
        topic="t",
        imei=an_imei(1),
        unit_id=UNIT,
        reason=Reason.INVALID_READING,
        path="/readings/x",
        detail="no",
        body=b'"\\u0000"',
        received_at=NOON,
    )

    await take(pool, arrival(beat(1), losses=(loss, loss)))
    await take(pool, arrival(beat(1), losses=(loss,)))

    async with pool.transaction() as conn:
        [letter] = await dead_letters.page(conn, limit=10)
        assert await dead_letters.by_id(conn, letter.id) == letter
    assert (letter.times, letter.reason, letter.body) == (3, Reason.INVALID_READING, b'"\\u0000"')


async def test_an_unknown_imei_is_listed_for_enrolment_until_it_is_enrolled(pool: Pool) -> None:
    hour = timedelta(hours=1)

    def stranger(number: int) -> Loss:
        return Loss(
            topic=f"scu/v1/00/{an_imei(number)}/heartbeat",
            imei=an_imei(number),
            unit_id=None,
            reason=Reason.UNKNOWN_UNIT,
            path="",
            detail="",
            body=b"{}",
            received_at=NOON,
        )

    async with pool.transaction() as conn:
        await dead_letters.keep(conn, [stranger(1), stranger(50), stranger(50)], gateway="g")
        [listed] = await dead_letters.strangers(conn, limit=10)

        await dead_letters.keep(
            conn,
            [replace(stranger(50), body=b"%d" % number, received_at=NOON + hour) for number in range(3)],
            gateway="g",
            share=2,
        )
        [more] = await dead_letters.strangers(conn, limit=10)

    assert (listed.imei, listed.messages) == (an_imei(50), 2)
    assert (more.messages, more.first_at, more.last_at) == (5, NOON, NOON + hour)


async def test_two_gateways_that_share_units_in_crossed_order_do_not_block_each_other(pool: Pool) -> None:
    async def batches(units: Sequence[int], first: int) -> int:
        new = 0
        for number in range(first, first + 20):
            recorded = await take(pool, *(arrival(beat(number), unit_id=unit_id) for unit_id in units))
            new += recorded.new
        return new

    counts = await asyncio.gather(batches([1, 2], 1), batches([2, 1], 1), batches([2, 1], 11))

    assert sum(counts) == 60
    assert len(await stored(pool, 1)) == len(await stored(pool, 2)) == 30
