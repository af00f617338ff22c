"""What a unit's counters tell: leaps, boots too old, lost memory, two units in turn (issue 3.4, R10)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from protocol.codec import decode
from protocol.messages import BacklogEntry, Heartbeat, Mode, Presence, PresenceState
from protocol.reasons import Reason
from protocol.topics import Channel, topic
from registry import audit, enrolment, units
from registry.permissions import Level, LevelTooLow
from registry.wording import BadText
from runtime.settings import Database
from storage.pool import Pool, open_pool
from telemetry import alerts, holes, lives, memory, missing, status
from telemetry.alerts import Kind
from telemetry.arrivals import Arrival, moments
from telemetry.counters import BOOT_LEAP, SEQ_LEAP
from telemetry.doubts import WINDOW
from telemetry.memory import LivesExhausted, NeverHeard
from telemetry.missing import BOOTS
from telemetry.partitions import Days
from telemetry.record import Recorded, Verdict, record
from tests.builders import NOON, a_caller, a_deed, a_newcomer, an_imei, keys

STORED, DUPLICATE, DEAD = Verdict.STORED, Verdict.DUPLICATE, Verdict.DEAD_LETTER
Name = tuple[int, int, int]


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database) as pool:
        async with pool.transaction() as conn:
            await enrolment.enrol_all(conn, [a_newcomer(1), a_newcomer(2)], keys(), a_deed())
        yield pool


def beat(boot: int, seq: int, *, life: int = 7, **fields: Any) -> Heartbeat:
    """Build a heartbeat; its reading tells it from another of the same name."""
    return Heartbeat(life=life, boot=boot, seq=seq, **{"mode": Mode.ENABLED, "epoch": 0, **fields})


def told(boot: int, seq: int, volts: float = 12.5, **more: Any) -> Heartbeat:
    """Build a heartbeat that says something."""
    return beat(boot, seq, readings={"battery_v": volts}, **more)


async def take(
    pool: Pool, *said: Heartbeat | Presence, live: bool = True, minute: float = 0, unit_id: int = 1
) -> Recorded:
    """Record messages in one batch."""
    at = NOON + timedelta(minutes=minute)
    arrivals = [Arrival(unit_id=unit_id, message=message, received_at=at, live=live) for message in said]
    await Days(pool).ensure(moments(arrivals))
    async with pool.transaction() as conn:
        return await record(conn, arrivals, now=at)


async def each(pool: Pool, *said: Heartbeat, **more: Any) -> list[Recorded]:
    """Record messages in a batch each."""
    return [await take(pool, message, **more) for message in said]


async def stored(pool: Pool) -> list[Name]:
    """Give the names under which heartbeats are stored, lives by their ordinals."""
    async with pool.transaction() as conn:
        cursor = await conn.execute("SELECT life, boot, seq FROM heartbeat ORDER BY life, boot, seq")
        return [(row["life"], row["boot"], row["seq"]) for row in await cursor.fetchall()]


async def newest(pool: Pool) -> Name:
    async with pool.transaction() as conn:
        found = await status.of_unit(conn, 1)
    assert found is not None
    assert found.life is not None
    assert found.boot is not None
    assert found.seq is not None
    return found.life, found.boot, found.seq


async def raised(pool: Pool) -> dict[Kind, int]:
    """Give the alerts of the unit, and how often each was found."""
    async with pool.transaction() as conn:
        return {alert.kind: alert.times for alert in await alerts.of_unit(conn, 1, limit=99)}


def refused(recorded: Recorded) -> list[tuple[int, Reason, int | None]]:
    return [(one.place, one.reason, one.entry) for one in recorded.refusals]


# --- leaps


@pytest.mark.parametrize(
    ("leap", "field"),
    [
        (beat(5 + BOOT_LEAP + 1, 1), "boot"),
        (beat(2**32 - 1, 2**32 - 1), "boot"),
        (beat(5, 9 + SEQ_LEAP + 1), "seq"),
        (beat(6, SEQ_LEAP + 1), "seq"),
        (beat(4, SEQ_LEAP + 1), "seq"),
        (beat(1, SEQ_LEAP + 1, life=8), "seq"),
    ],
)
async def test_a_leap_is_refused_and_believed_by_nothing(pool: Pool, leap: Heartbeat, field: str) -> None:
    await take(pool, beat(5, 9))

    recorded = await take(pool, leap, beat(5, 10), minute=1)

    assert recorded.verdicts == [DEAD, STORED]
    assert refused(recorded) == [(0, Reason.COUNTER_JUMP, None)]
    assert recorded.refusals[0].field == field
    assert (recorded.new, recorded.repeated) == (1, 0)
    assert recorded.raised == {Kind.COUNTER_JUMP: 1}
    assert await stored(pool) == [(1, 5, 9), (1, 5, 10)]
    assert await newest(pool) == (1, 5, 10)


@pytest.mark.parametrize(
    "bold",
    [
        beat(5 + BOOT_LEAP, 1),
        beat(5, 9 + SEQ_LEAP),
        beat(6, SEQ_LEAP),
        beat(2**32 - 1, SEQ_LEAP, life=8),
    ],
)
async def test_what_a_unit_can_count_is_believed(pool: Pool, bold: Heartbeat) -> None:
    await take(pool, beat(5, 9))

    recorded = await take(pool, bold)

    assert recorded.verdicts == [STORED]
    assert await raised(pool) == {}


async def test_the_first_boot_of_a_life_is_taken_as_it_is_and_the_first_number_of_a_boot_is_not(
    pool: Pool,
) -> None:
    first = await take(pool, beat(4_000_000_000, 1))
    leap = await take(pool, beat(1, SEQ_LEAP + 1), unit_id=2)

    assert (first.verdicts, leap.verdicts) == ([STORED], [DEAD])


async def test_a_leap_is_measured_from_what_a_backlog_told_too(pool: Pool) -> None:
    told_late = BacklogEntry(boot=5 + BOOT_LEAP, seq=900_000, mode=Mode.ENABLED, epoch=0)
    await take(pool, beat(5, 9, backlog=(told_late,)))

    recorded = await take(pool, beat(5 + 2 * BOOT_LEAP, 1), beat(5 + BOOT_LEAP, 900_000 + SEQ_LEAP))

    assert recorded.verdicts == [STORED, STORED]


async def test_a_backlog_entry_that_leaps_costs_only_itself(pool: Pool) -> None:
    entries = [
        BacklogEntry(boot=boot, seq=seq, mode=Mode.ENABLED, epoch=0)
        for boot, seq in [(4, 7), (5 + BOOT_LEAP + 1, 1), (5, 8), (5, SEQ_LEAP + 9)]
    ]

    recorded = await take(pool, beat(5, 9, backlog=tuple(entries)))

    assert recorded.verdicts == [STORED]
    assert refused(recorded) == [(0, Reason.COUNTER_JUMP, 1)]
    assert await stored(pool) == [(1, 4, 7), (1, 5, 8), (1, 5, 9), (1, 5, SEQ_LEAP + 9)]


async def test_leaps_count_up_one_alert(pool: Pool) -> None:
    await take(pool, beat(5, 9))

    recorded = await each(pool, *[beat(900_000, seq) for seq in (1, 2, 3)])

    assert [one.raised for one in recorded] == [{Kind.COUNTER_JUMP: 1}, {}, {}]
    assert await raised(pool) == {Kind.COUNTER_JUMP: 3}


# --- memory lost


async def test_three_live_heartbeats_of_a_lower_boot_begin_a_new_life(pool: Pool) -> None:
    await each(pool, beat(50, 1), beat(50, 2))

    recorded = await each(pool, *[told(3, seq) for seq in (4, 5, 7)], minute=1)

    assert [one.verdicts for one in recorded] == [[STORED]] * 3
    assert [one.raised for one in recorded] == [{}, {}, {Kind.MEMORY_LOST: 1}]
    assert await newest(pool) == (2, 3, 7)
    assert await stored(pool) == [(1, 3, 4), (1, 3, 5), (1, 50, 1), (1, 50, 2), (2, 3, 7)]
    after = await each(pool, told(3, 8), told(3, 5), told(4, 1), minute=2)
    assert [one.verdicts for one in after] == [[STORED], [DUPLICATE], [STORED]]
    assert await newest(pool) == (2, 4, 1)
    async with pool.transaction() as conn:
        later = [boot for boot in await holes.of_unit(conn, 1) if boot.boot == 3 and boot.newest == 8]
    assert [(hole.first, hole.last) for boot in later for hole in boot.holes] == [(1, 3), (6, 6)]


@pytest.mark.parametrize("cut", [1, 2, 3])
async def test_what_showed_a_new_life_is_neither_lost_nor_doubled_though_its_numbers_were_heard_before(
    pool: Pool, cut: int
) -> None:
    """However the three are cut into batches."""
    await each(pool, *[told(1, seq, 12.0) for seq in (1, 2, 3)], told(50, 1))
    anew = [told(1, seq, 13.0) for seq in (1, 2, 3)]

    for first in range(0, 3, cut):
        await take(pool, *anew[first : first + cut], minute=1)

    assert await stored(pool) == [
        (1, 1, 1),
        (1, 1, 2),
        (1, 1, 3),
        (1, 50, 1),
        (2, 1, 1),
        (2, 1, 2),
        (2, 1, 3),
    ]
    assert await newest(pool) == (2, 1, 3)
    assert (await take(pool, *anew)).verdicts == [DUPLICATE] * 3
    assert await raised(pool) == {Kind.MEMORY_LOST: 1}


async def test_a_redelivery_is_no_evidence_even_if_it_is_taken_for_live(pool: Pool) -> None:
    """Two gateways of overlapping ranges, one of them behind: what it brings says what is stored."""
    early = [told(1, seq, 12.1 + seq, fw="2.4.1", ts=int(NOON.timestamp())) for seq in (1, 2, 3, 4)]
    await each(pool, *early, told(2, 1))

    recorded = await each(pool, *early, minute=30)

    assert [one.verdicts for one in recorded] == [[DUPLICATE]] * 4
    assert await newest(pool) == (1, 2, 1)
    assert await raised(pool) == {}
    assert len(await stored(pool)) == 5


@pytest.mark.parametrize("cut", [1, 4])
async def test_a_redelivery_of_a_run_that_goes_on_is_none_either(pool: Pool, cut: int) -> None:
    early = [told(1, seq) for seq in range(1, 5)]
    await each(pool, *early)

    said = [told(2, 1), *early[1:]]
    for first in range(0, 4, cut):
        await take(pool, *said[first : first + cut])

    assert await newest(pool) == (1, 2, 1)
    assert await raised(pool) == {}


async def test_a_redelivery_within_the_batch_of_its_original_is_none_either(pool: Pool) -> None:
    await take(pool, told(1, 1))

    await take(pool, told(1, 2), told(2, 1), told(1, 2))
    await take(pool, told(2, 2), told(3, 1), told(2, 2))

    assert await raised(pool) == {}


async def test_what_shows_a_new_life_is_kept_though_its_number_came_earlier_in_the_batch(pool: Pool) -> None:
    await take(pool, told(5, 1))
    earlier = told(5, 2, backlog=(BacklogEntry(boot=3, seq=1, mode=Mode.ENABLED, epoch=0),))

    recorded = await take(pool, earlier, told(3, 1), told(3, 2), told(3, 3))

    assert recorded.raised == {Kind.MEMORY_LOST: 1}
    assert await stored(pool) == [(1, 3, 1), (1, 3, 2), (1, 5, 1), (1, 5, 2), (2, 3, 1), (2, 3, 3)]


async def test_what_waited_is_no_evidence(pool: Pool) -> None:
    await take(pool, beat(50, 1))

    await each(pool, *[told(3, seq) for seq in range(1, 9)], live=False)

    assert await newest(pool) == (1, 50, 1)
    assert await raised(pool) == {}


@pytest.mark.parametrize("order", list(permutations([(3, 1), (3, 2), (3, 3)]))[1:])
async def test_numbers_that_do_not_rise_are_no_evidence(pool: Pool, order: Iterable[tuple[int, int]]) -> None:
    await take(pool, beat(50, 1))

    await each(pool, *[told(boot, seq) for boot, seq in order])

    assert await newest(pool) == (1, 50, 1)
    assert await raised(pool) == {}


async def test_the_higher_boot_between_breaks_the_evidence(pool: Pool) -> None:
    await each(pool, beat(50, 1), told(3, 1), told(3, 2), beat(50, 2))

    await each(pool, told(4, 1), told(4, 2))

    assert await newest(pool) == (1, 50, 2)
    assert await raised(pool) == {}


async def test_evidence_that_lies_far_apart_is_none(pool: Pool) -> None:
    await take(pool, beat(50, 1))

    for weeks in range(6):
        await take(pool, told(3, weeks + 1), minute=weeks * (WINDOW / timedelta(minutes=1) + 1))

    assert await newest(pool) == (1, 50, 1)


async def test_a_lost_memory_is_noticed_behind_boots_that_are_summed_up(pool: Pool) -> None:
    await take(pool, *[told(boot, 1, 12.0) for boot in range(1, 101)], live=False)
    await count(pool)

    recorded = await each(pool, *[told(1, seq, 13.0) for seq in (1, 2, 3)], minute=1)

    assert [one.verdicts for one in recorded] == [[DEAD], [DEAD], [STORED]]
    assert [refused(one) for one in recorded[:2]] == [[(0, Reason.TOO_OLD, None)]] * 2
    assert [name for name in await stored(pool) if name[0] == 2] == [(2, 1, 1), (2, 1, 2), (2, 1, 3)]
    assert await newest(pool) == (2, 1, 3)


async def test_a_unit_that_loses_its_memory_again_begins_yet_another_life(pool: Pool) -> None:
    await take(pool, beat(9, 1))

    for minute in (1, 2):
        await each(pool, *[told(3, seq, 12.0 + minute) for seq in (1, 2, 3)], told(8, 1), minute=minute)

    assert await newest(pool) == (3, 8, 1)
    assert await raised(pool) == {Kind.MEMORY_LOST: 2}


def ago(days: int) -> int:
    """Give what a unit's clock says that stands so far behind."""
    return int((NOON - timedelta(days=days)).timestamp())


async def said_only(pool: Pool, *said: Heartbeat) -> None:
    """Record messages in a batch each; of their days, only today is ready."""
    await Days(pool).ensure([NOON])
    for message in said:
        async with pool.transaction() as conn:
            await record(conn, [Arrival(unit_id=1, message=message, received_at=NOON, live=True)], now=NOON)


async def test_what_was_held_back_finds_the_days_that_nobody_made_for_it(pool: Pool) -> None:
    """The unit lost its clock as well, and midnights lie between its heartbeats."""
    await said_only(pool, *[told(1, seq) for seq in (1, 2)], told(2, 1))

    await said_only(pool, told(1, 1, 9.0, ts=ago(30)), told(1, 2, 9.0, ts=ago(29)), told(1, 3, 9.0))

    assert [name for name in await stored(pool) if name[0] == 2] == [(2, 1, 1), (2, 1, 2), (2, 1, 3)]


@pytest.mark.parametrize("depth", [1, 100, 198])
async def test_what_was_held_back_may_be_as_deep_as_any_message(pool: Pool, depth: int) -> None:
    deep = (
        told(1, 1, 9.0).model_dump_json().encode()[:-1] + b',"nested":' + b"[" * depth + b"]" * depth + b"}"
    )
    message = decode(topic(an_imei(1), Channel.HEARTBEAT), deep).message
    assert isinstance(message, Heartbeat)
    await each(pool, told(1, 1), told(1, 2), told(2, 1))

    await each(pool, message, told(1, 2, 9.0), told(1, 3, 9.0))

    assert await stored(pool) == [(1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1), (2, 1, 2), (2, 1, 3)]


async def test_a_lost_memory_is_noticed_by_any_numbers_and_leaves_the_newest_run_alone(pool: Pool) -> None:
    """The first number of a boot is measured from 0, but for what was heard of it before the life began."""
    for seq in (900_000, 1_500_000):
        await take(pool, told(3, seq))
    for seq in (900_000, 1_800_000):
        await take(pool, told(1, seq, life=8))
    await each(pool, told(3, 1_500_001), told(3, 1_500_002), minute=1)

    recorded = await take(pool, told(3, 1_500_003), told(1, 1_800_001, life=8), minute=2)

    assert recorded.verdicts == [STORED, STORED]
    assert recorded.raised == {Kind.MEMORY_LOST: 1}
    assert await newest(pool) == (3, 3, 1_500_003)
    assert (await take(pool, told(3, 1_500_010), minute=3)).verdicts == [STORED]
    assert (await take(pool, told(3, 1_500_003), minute=4)).verdicts == [DUPLICATE]


async def test_a_memory_that_is_lost_twice_within_one_batch_is_too(pool: Pool) -> None:
    await take(pool, beat(9, 1))
    once = [told(3, seq, 12.0) for seq in (1, 2, 3)]

    await take(pool, *once, told(8, 1), *[told(2, seq, 13.0) for seq in (1, 2, 3, 4)])

    assert await newest(pool) == (3, 2, 4)
    assert await raised(pool) == {Kind.MEMORY_LOST: 2}


async def test_presence_follows_into_the_new_life_at_the_next_connection(pool: Pool) -> None:
    online = Presence(state=PresenceState.ONLINE, life=7, boot=50, conn=9)
    await take(pool, beat(50, 1), online)
    await each(pool, *[told(3, seq) for seq in (1, 2, 3)])

    recorded = await take(pool, online.model_copy(update={"boot": 3, "conn": 1}))

    assert recorded.verdicts == [STORED]


# --- an operator's word


async def say_lost(
    pool: Pool, *, level: Level = Level.TECHNICAL, reason: str = "board replaced", at: datetime = NOON
) -> lives.Began:
    async with pool.transaction() as conn:
        unit = await units.by_id(conn, 1)
        assert unit is not None
        return await memory.lost(conn, unit, a_deed(by=a_caller(level), reason=reason, now=at))


async def test_an_operator_s_word_begins_a_life_at_once(pool: Pool) -> None:
    await take(pool, beat(4_000_000, 1))

    began = await say_lost(pool)
    again = await say_lost(pool)

    assert (began.ordinal, began.life) == (again.ordinal, again.life) == (2, 7)
    assert await newest(pool) == (1, 4_000_000, 1)
    assert (await take(pool, beat(3, 1))).verdicts == [STORED]
    assert await newest(pool) == (2, 3, 1)
    assert await raised(pool) == {Kind.MEMORY_LOST: 1}
    assert (await take(pool, beat(3, 2))).verdicts == [STORED]
    async with pool.transaction() as conn:
        deeds = [entry.action for entry in await audit.of_object(conn, "unit", 1)]
    assert deeds.count("life_begun") == 1


async def test_an_operator_s_word_keeps_what_was_held_back(pool: Pool) -> None:
    await each(pool, *[told(1, seq, 12.0) for seq in (1, 2)], told(50, 1))
    await each(pool, *[told(1, seq, 13.0) for seq in (1, 2)], minute=1)

    await say_lost(pool)

    assert [name for name in await stored(pool) if name[0] == 2] == [(2, 1, 1), (2, 1, 2)]


async def test_an_operator_s_word_finds_the_days_of_what_was_held_back(pool: Pool) -> None:
    await said_only(pool, *[told(1, seq) for seq in (1, 2)], told(2, 1))
    await said_only(pool, told(1, 1, 9.0, ts=ago(30)))

    await say_lost(pool)

    assert [name for name in await stored(pool) if name[0] == 2] == [(2, 1, 1)]


async def test_what_was_held_back_counts_once_after_an_operator_s_word_too(pool: Pool) -> None:
    await each(pool, *[told(10, seq) for seq in (1, 2)])
    held = [told(1, 1, 9.0), told(1, 2, 9.0)]
    await each(pool, *held, minute=1)
    await say_lost(pool)

    again = await each(pool, *held, minute=2)

    assert [recorded.verdicts for recorded in again] == [[DUPLICATE], [DUPLICATE]]
    assert await stored(pool) == [(1, 1, 1), (1, 1, 2), (1, 10, 1), (1, 10, 2)]
    assert (await take(pool, told(1, 3, 9.0), minute=3)).verdicts == [STORED]


@pytest.mark.parametrize(("goes_on", "days"), [(True, 1), (False, 8)])
async def test_what_was_held_back_long_ago_or_was_refuted_is_no_part_of_the_life_that_is_said_to_begin(
    pool: Pool, *, goes_on: bool, days: int
) -> None:
    await each(pool, *[told(1, seq) for seq in (1, 2)], told(10, 1))
    await each(pool, told(1, 1, 9.0), told(1, 2, 9.0), minute=1)
    if goes_on:
        await take(pool, told(10, 2), minute=2)
    later = days * 24 * 60

    await say_lost(pool, at=NOON + timedelta(days=days))
    recorded = await each(pool, told(1, 1, 8.0), told(1, 2, 8.0), minute=later + 1)

    assert [one.verdicts for one in recorded] == [[STORED], [STORED]]


async def test_an_operator_s_word_needs_a_unit_a_reason_a_level_and_room(pool: Pool) -> None:
    with pytest.raises(NeverHeard):
        await say_lost(pool)
    await take(pool, beat(1, 1))
    with pytest.raises(LevelTooLow):
        await say_lost(pool, level=Level.OVERVIEW)
    with pytest.raises(BadText):
        await say_lost(pool, reason=" ")
    await fill_up(pool)
    with pytest.raises(LivesExhausted):
        await say_lost(pool)


# --- two units


async def test_lives_heard_in_turn_are_two_units(pool: Pool) -> None:
    turns = [
        beat(5, 1, life=1),
        beat(9, 1, life=2),
        beat(5, 2, life=1),
        beat(9, 2, life=2),
        beat(5, 3, life=1),
    ]

    recorded = await each(pool, *turns)

    assert [one.verdicts for one in recorded] == [[STORED]] * 5
    assert [one.raised for one in recorded] == [{}, {}, {}, {}, {Kind.TWO_UNITS: 1}]
    assert await newest(pool) == (2, 9, 2)
    async with pool.transaction() as conn:
        assert await alerts.open_kinds(conn, [1, 2]) == {1: [Kind.TWO_UNITS]}


async def test_lives_heard_in_turn_within_one_batch_are_two_units(pool: Pool) -> None:
    turns = [
        beat(5, 1, life=1),
        beat(9, 1, life=2),
        beat(5, 2, life=1),
        beat(9, 2, life=2),
        beat(5, 3, life=1),
    ]

    recorded = await take(pool, *turns)

    assert recorded.raised == {Kind.TWO_UNITS: 1}


async def test_boots_of_one_life_heard_in_turn_are_two_units(pool: Pool) -> None:
    """Units without `life` have the same one: 0."""
    await each(pool, beat(50, 1), told(3, 1), beat(50, 2), told(3, 2), beat(50, 3), told(3, 3))

    assert await raised(pool) == {Kind.TWO_UNITS: 2}
    assert await newest(pool) == (1, 50, 3)


async def test_two_units_that_share_life_and_boot_are_two(pool: Pool) -> None:
    """A copied memory: what the one behind says bears numbers that said something else."""
    await each(pool, *(told(10, seq) for seq in range(1, 41)))

    await each(pool, told(10, 11, 9.0), told(10, 41), told(10, 12, 9.0))

    assert await raised(pool) == {Kind.TWO_UNITS: 1}
    assert await newest(pool) == (1, 10, 41)


async def test_two_units_in_step_are_two(pool: Pool) -> None:
    await each(pool, *(told(10, seq, volts) for seq in (1, 2) for volts in (12.5, 9.0)))

    assert await raised(pool) == {Kind.TWO_UNITS: 1}


async def test_memory_that_is_lost_in_the_first_boot_begins_a_life(pool: Pool) -> None:
    await each(pool, *(told(1, seq) for seq in range(1, 9)))

    await each(pool, *(told(1, seq, 9.0) for seq in (1, 2, 3)))

    assert await raised(pool) == {Kind.MEMORY_LOST: 1}
    assert await newest(pool) == (2, 1, 3)
    assert (2, 1, 1) in await stored(pool)


async def test_what_is_said_again_in_the_newest_boot_and_what_comes_late_is_no_sign_of_anything(
    pool: Pool,
) -> None:
    await each(pool, *(told(10, seq) for seq in (1, 2, 4, 6)))

    await each(pool, told(10, 1), told(10, 3), told(10, 7), told(10, 2), told(10, 5), told(10, 7))
    await take(pool, told(10, 8), told(10, 8), told(10, 6))

    assert await raised(pool) == {}
    assert await newest(pool) == (1, 10, 8)


async def test_what_was_heard_in_a_backlog_first_is_the_same_afterwards(pool: Pool) -> None:
    """No entry tells the firmware; the message itself does."""
    kept = tuple(BacklogEntry(seq=seq, mode=Mode.ENABLED, epoch=0) for seq in (1, 2, 3))
    await take(pool, beat(1, 4, fw="2.4.1", backlog=kept))

    await each(pool, *(beat(1, seq, fw="2.4.1") for seq in (1, 2, 3)), beat(1, 5, fw="2.4.1"))

    assert await raised(pool) == {}
    assert await newest(pool) == (1, 1, 5)


async def test_memory_that_is_lost_again_after_a_while_is_no_second_unit(pool: Pool) -> None:
    """The first reports after the second loss were kept back: the next goes on where the life had begun."""
    await each(pool, told(7, 9), told(7, 10))
    await each(pool, *(told(1, seq, 11) for seq in (1, 2, 3)), minute=60)
    await each(pool, *(told(boot, seq, 11) for boot in (2, 3) for seq in (1, 2)), minute=120)
    kept = tuple(BacklogEntry(seq=seq, mode=Mode.ENABLED, epoch=0) for seq in (1, 2, 3))

    await each(pool, told(1, 4, 12, backlog=kept), told(1, 5, 12), told(1, 6, 12), minute=240)

    assert await raised(pool) == {Kind.MEMORY_LOST: 2}
    assert await newest(pool) == (3, 1, 6)


async def test_a_clone_that_speaks_often_begins_one_life_and_no_further_one(pool: Pool) -> None:
    low = iter(range(1, 99))
    await take(pool, beat(50, 1))
    for high in (2, 3, 4):
        await each(pool, *[told(3, next(low)) for _ in range(4)], beat(50, high))

    assert await raised(pool) == {Kind.MEMORY_LOST: 1, Kind.TWO_UNITS: 2}
    assert await newest(pool) == (2, 50, 4)


@pytest.mark.parametrize("run", [3, 4, 7])
async def test_lives_that_take_turns_in_long_runs_are_two_units_and_begin_one_life_at_most(
    pool: Pool, run: int
) -> None:
    for turn in range(6):
        life, boot = (1, 5) if turn % 2 == 0 else (2, 9)
        await each(pool, *[beat(boot, 1 + turn * run + step, life=life) for step in range(run)])

    assert (await raised(pool))[Kind.MEMORY_LOST] == 1
    assert (await raised(pool))[Kind.TWO_UNITS] >= 1


async def test_an_older_life_that_goes_on_alone_is_where_the_unit_is(pool: Pool) -> None:
    """Its memory was restored, or a clone fell silent: the status must not stand still."""
    await each(pool, beat(5, 1, life=1), beat(9, 1, life=2))

    await each(pool, *[beat(5, seq, life=1) for seq in (2, 3, 4)])

    assert await newest(pool) == (3, 5, 4)
    assert await raised(pool) == {Kind.MEMORY_LOST: 1}


async def test_a_resolved_suspicion_lets_a_life_begin_again(pool: Pool) -> None:
    await each(pool, beat(50, 1), told(3, 1), beat(50, 2), told(3, 2), told(3, 3), told(3, 4), told(3, 5))
    assert await newest(pool) == (1, 50, 2)
    async with pool.transaction() as conn:
        [alert] = await alerts.open_page(conn, scope=None, limit=9)
        await alerts.resolve(conn, alert.id, a_deed(reason="one was scrapped"), scope=None)

    await take(pool, told(3, 6))

    assert await newest(pool) == (2, 3, 6)


# --- too many lives


async def fill_up(pool: Pool) -> None:
    """Let unit 1 have had as many lives as are told apart."""
    async with pool.transaction() as conn:
        await conn.execute(
            "INSERT INTO unit_life (unit_id, ordinal, life, first_heard_at)"
            " SELECT 1, n, 1000000 + n, now() FROM generate_series(2, %s) n",
            [lives.MOST],
        )


async def test_a_life_beyond_those_told_apart_is_refused_by_name(pool: Pool) -> None:
    await take(pool, beat(1, 1))
    await fill_up(pool)
    online = Presence(state=PresenceState.ONLINE, life=99, boot=1)

    recorded = await take(pool, beat(1, 1, life=99), online, beat(1, 2), beat(1, 1, life=1_000_002))

    assert recorded.verdicts == [DEAD, DEAD, STORED, STORED]
    assert refused(recorded) == [(0, Reason.TOO_MANY_LIVES, None), (1, Reason.TOO_MANY_LIVES, None)]
    assert await raised(pool) == {Kind.TOO_MANY_LIVES: 2}
    async with pool.transaction() as conn:
        found = await status.of_unit(conn, 1)
    assert found is not None
    assert found.presence is None


async def test_lost_memory_begins_no_life_where_there_is_no_room(pool: Pool) -> None:
    await take(pool, beat(50, 1))
    await fill_up(pool)

    recorded = await each(pool, *[told(3, seq) for seq in (1, 2, 3)])

    assert [one.verdicts for one in recorded] == [[STORED]] * 3
    assert await raised(pool) == {Kind.TOO_MANY_LIVES: 1}
    assert await newest(pool) == (1, 50, 1)


# --- too old


async def count(pool: Pool) -> int:
    async with pool.transaction() as conn:
        return await missing.count(conn, 1, 1_000)


async def boots(pool: Pool) -> list[int]:
    async with pool.transaction() as conn:
        cursor = await conn.execute("SELECT DISTINCT boot FROM unit_sequence WHERE unit_id = 1 ORDER BY boot")
        return [row["boot"] for row in await cursor.fetchall()]


async def test_boots_beyond_the_newest_are_summed_up_and_what_comes_of_them_is_too_old(pool: Pool) -> None:
    said = [beat(boot, seq) for boot in range(1, BOOTS + 7) for seq in (1, 4)]
    await take(pool, *said, live=False)

    summed = await count(pool)

    assert summed == 6
    assert await boots(pool) == list(range(7, BOOTS + 7))
    async with pool.transaction() as conn:
        past = await holes.past_of_unit(conn, 1)
    assert past == holes.Past(life=7, boot=6, boots=6, heard=12, missing=12)
    entry = BacklogEntry(boot=6, seq=2, mode=Mode.ENABLED, epoch=0)
    late = await take(pool, beat(6, 2), beat(7, 2), beat(70, 5, backlog=(entry,)), live=False)
    assert late.verdicts == [DEAD, STORED, STORED]
    assert refused(late) == [(0, Reason.TOO_OLD, None), (2, Reason.TOO_OLD, 0)]
    assert await boots(pool) == list(range(7, BOOTS + 7))


async def test_sums_of_old_boots_add_up_round_by_round(pool: Pool) -> None:
    for first in range(1, 161, 20):
        await take(pool, *[beat(boot, 3) for boot in range(first, first + 20)], live=False)
        await count(pool)

    async with pool.transaction() as conn:
        past = await holes.past_of_unit(conn, 1)
        lacking = await holes.of_unit(conn, 1)
    assert past == holes.Past(life=7, boot=96, boots=96, heard=96, missing=192)
    assert len(lacking) == BOOTS
    assert await count(pool) == 0


async def test_the_boot_that_a_unit_reports_from_is_never_summed_up(pool: Pool) -> None:
    """Not even where a strange backlog tells of many newer ones."""
    entries = tuple(
        BacklogEntry(boot=boot, seq=1, mode=Mode.ENABLED, epoch=0) for boot in range(10, 10 + 2 * BOOTS)
    )
    await take(pool, beat(5, 1, backlog=entries))

    assert await count(pool) == 0

    assert (await take(pool, beat(5, 2), beat(6, 1))).verdicts == [STORED, STORED]


async def test_boots_of_earlier_lives_are_the_oldest(pool: Pool) -> None:
    await take(pool, *[beat(boot, 1, life=1) for boot in range(1_000, 1_010)], live=False)
    await take(pool, *[beat(boot, 1, life=2) for boot in range(1, BOOTS + 1)], live=False)

    assert await count(pool) == 10

    late = await take(pool, beat(1_009, 2, life=1), beat(1_010, 1, life=1), live=False)
    assert late.verdicts == [DEAD, STORED]
