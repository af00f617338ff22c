"""What is decided about dead letters and what comes of it: replayed, discarded, open again, let go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
import pytest

from gateway import replay
from gateway.reading import PIECES, Reading, read
from gateway.replay import Replay
from gateway.session import Delivery
from gateway.verdicts import judge
from protocol import codec
from protocol.messages import BacklogEntry, Heartbeat, Mode, Presence, PresenceState
from protocol.reasons import Reason
from protocol.topics import Channel, topic
from registry import audit, enrolment
from runtime.settings import Commands, Database, Keeping
from storage.pool import Pool
from storage.sql import value
from telemetry import dead_letters, fates, heartbeats, status, upkeep
from telemetry.arrivals import Arrival
from telemetry.dead_letters import DeadLetter, DeadLetterNotFound, Filter, Loss, Overflow, State
from telemetry.fates import Decided, DecidedAlready, NothingChosen, NotReplayable
from telemetry.partitions import Days
from tests.builders import a_deed, a_newcomer, an_imei, keys
from tests.integration.test_gateway_ingest import DROP_DAYS, execute

NOW = datetime.now(UTC)
FIRST = NOW - timedelta(days=3)
SINCE = NOW - timedelta(days=300)
ALL = Filter()


def beat(seq: int, **fields: Any) -> bytes:
    """Write a heartbeat."""
    said = Heartbeat(life=7, boot=1, seq=seq, **{"mode": Mode.ENABLED, "epoch": 0, "readings": {}, **fields})
    return codec.encode(said)


@dataclass
class Backend:
    """A database with a gateway's replay and somebody who decides."""

    pool: Pool
    replay: Replay

    async def lose(
        self,
        body: bytes,
        *,
        unit: int = 1,
        reason: Reason = Reason.UNKNOWN_UNIT,
        path: str = "",
        at: datetime = FIRST,
        channel: Channel = Channel.HEARTBEAT,
    ) -> int:
        """Keep a dead letter and give its number."""
        await self.lose_all(
            Loss(
                topic=topic(an_imei(unit), channel),
                imei=an_imei(unit),
                unit_id=None,
                reason=reason,
                path=path,
                detail="",
                body=body,
                received_at=at,
            )
        )
        async with self.pool.transaction() as conn:
            [newest] = await dead_letters.page(conn, limit=1)
        return newest.id

    async def lose_all(self, *losses: Loss) -> None:
        async with self.pool.transaction() as conn:
            await dead_letters.keep(conn, losses, gateway="g")

    async def enrol(self, *units: int) -> None:
        async with self.pool.transaction() as conn:
            await enrolment.enrol_all(conn, [a_newcomer(unit) for unit in units], keys(), a_deed())

    async def mark(self, number: int) -> DeadLetter:
        async with self.pool.transaction() as conn:
            return await fates.mark(conn, number, a_deed(now=NOW), SINCE)

    async def discard(self, number: int, *, at: datetime = NOW) -> DeadLetter:
        async with self.pool.transaction() as conn:
            return await fates.discard(conn, number, a_deed(now=at, reason="known fault"))

    async def mark_all(self, which: Filter = ALL) -> Decided:
        async with self.pool.transaction() as conn:
            return await fates.mark_all(conn, which, a_deed(now=NOW), SINCE)

    async def letter(self, number: int) -> DeadLetter:
        async with self.pool.transaction() as conn:
            return await dead_letters.by_id(conn, number)

    async def stands(self, number: int) -> tuple[str, str | None]:
        """Tell a dead letter's state, and the verdict of its newest decision."""
        letter = await self.letter(number)
        return str(letter.state), letter.fate.verdict if letter.fate else None

    async def stored(self, unit_id: int = 1) -> list[heartbeats.Heartbeat]:
        async with self.pool.transaction() as conn:
            return await heartbeats.of_unit(
                conn, unit_id, since=NOW - timedelta(days=60), until=NOW + timedelta(days=1), limit=100
            )

    async def count(self, statement: str) -> Any:
        async with self.pool.transaction() as conn:
            return await value(conn, cast("Any", f"SELECT count(*) FROM {statement}"))  # noqa: S608 - a test's


def replay_of(pool: Pool, name: str = "gateway-0-99") -> Replay:
    return Replay(name, pool, Days(pool), Commands())


def delivered(body: bytes, unit: int) -> Reading:
    """Read a message as a broker brings it."""
    where = topic(an_imei(unit), Channel.HEARTBEAT)
    return read(Delivery(None, 1, where, body, retained=False, again=False), NOW, live=True)


@pytest.fixture
async def here(pool: Pool) -> Backend:
    return Backend(pool, replay_of(pool))


async def test_what_a_stranger_said_is_stored_once_it_is_enrolled(here: Backend) -> None:
    number = await here.lose(beat(1))
    await here.enrol(1)
    marked = await here.mark(number)

    assert await here.replay.step() == 1

    [stored] = await here.stored()
    letter = await here.letter(number)
    assert marked.state is State.MARKED
    assert letter.fate is not None
    assert (letter.state, letter.fate.verdict, letter.fate.why) == (State.REPLAYED, "stored", "because")
    assert letter.fate.replayed_at is not None
    assert stored.received_at == FIRST
    assert stored.at == FIRST
    assert await here.replay.step() == 0


async def test_a_replayed_message_says_nothing_about_now(here: Backend) -> None:
    """Not of presence, not of the unit's clock; and a command that waits for the unit goes on waiting."""
    await here.lose(beat(1, ts=int(FIRST.timestamp())))
    online = codec.encode(Presence(state=PresenceState.ONLINE, life=7, boot=1, conn=1))
    await here.lose(online, channel=Channel.PRESENCE)
    await here.enrol(1)
    await here.mark_all()

    assert await here.replay.step() == 2

    async with here.pool.transaction() as conn:
        now = await status.of_unit(conn, 1)
    assert now is not None
    assert (now.live_contact_at, now.live_online_at, now.reported_live) == (None, None, False)
    assert (now.contact_at, now.reported_at, now.presence_at) == (FIRST, FIRST, FIRST)


async def test_a_replayed_heartbeat_does_not_overwrite_a_newer_one(here: Backend) -> None:
    """R3."""
    await here.enrol(1)
    older, newer = await here.lose(beat(1)), await here.lose(beat(2))
    await here.mark(newer)
    await here.replay.step()
    await here.mark(older)
    await here.replay.step()

    async with here.pool.transaction() as conn:
        now = await status.of_unit(conn, 1)
    assert now is not None
    assert now.seq == 2
    assert [await here.stands(number) for number in (older, newer)] == [("replayed", "stored")] * 2


async def test_what_was_known_already_is_a_duplicate_and_counts_once(here: Backend) -> None:
    """R2: the same heartbeat in two dead letters, and one of them replayed twice."""
    await here.enrol(1)
    first, second = await here.lose(beat(1)), await here.lose(beat(1, fw="other"))
    await here.mark_all()
    await here.replay.step()
    verdicts = [await here.stands(number) for number in (first, second)]
    await here.mark(first)
    await here.replay.step()

    assert verdicts == [("replayed", "stored"), ("replayed", "duplicate")]
    assert await here.stands(first) == ("replayed", "duplicate")
    assert len(await here.stored()) == 1


async def test_a_message_that_is_kept_whole_beside_its_first_pieces_can_be_replayed(here: Backend) -> None:
    """A later release may know the mode that this one does not."""
    await here.enrol(1)
    entries = b",".join(b'{"seq":%d,"mode":"eco","epoch":0}' % seq for seq in range(1, PIECES + 51))
    body = b'{"v":1,"boot":1,"seq":999,"mode":"enabled","epoch":0,"backlog":[' + entries + b"]}"
    content = delivered(body, 1).content(1)
    assert isinstance(content, Arrival)
    async with here.pool.transaction() as conn:
        await dead_letters.keep(conn, content.losses, gateway="g")
        letters = await dead_letters.page(conn, limit=200)

    [whole] = [letter for letter in letters if letter.is_message]

    assert (len(letters), whole.body) == (PIECES + 1, body)
    assert whole.detail == f"50 more pieces of this message, from /backlog/{PIECES} on"
    await here.mark(whole.id)
    assert await here.replay.step() == 1
    assert [beat.seq for beat in await here.stored()] == [999]


async def test_what_ends_the_same_way_again_is_open_again(here: Backend) -> None:
    number = await here.lose(beat(1))
    await here.mark(number)

    await here.replay.step()

    letter = await here.letter(number)
    assert await here.stands(number) == ("open", "dead_letter")
    assert letter.times == 2
    assert await here.replay.step() == 0


async def test_what_ends_in_another_way_is_another_dead_letter(here: Backend) -> None:
    body = b'{"v":1,"boot":1,"seq":0,"mode":"enabled","epoch":0}'
    number = await here.lose(body)
    await here.enrol(1)
    await here.mark(number)

    await here.replay.step()

    async with here.pool.transaction() as conn:
        [other, _] = await dead_letters.page(conn, limit=10)
    assert await here.stands(number) == ("replayed", "dead_letter")
    assert (other.reason, other.path, other.state) == (Reason.INVALID_FIELD, "/seq", State.OPEN)
    assert (other.first_at, other.body) == (FIRST, body)


async def test_the_lost_pieces_of_a_replayed_message_are_kept(here: Backend) -> None:
    number = await here.lose(
        b'{"v":1,"boot":1,"seq":1,"mode":"enabled","epoch":0,"readings":{"panel_v":"x"}}'
    )
    await here.enrol(1)
    await here.mark(number)

    await here.replay.step()

    async with here.pool.transaction() as conn:
        [piece] = await dead_letters.page(conn, limit=10, which=Filter(reason=Reason.INVALID_READING))
    assert await here.stands(number) == ("replayed", "stored")
    assert (piece.path, piece.first_at, piece.is_message) == ("/readings/panel_v", FIRST, False)


async def test_what_the_database_refuses_costs_no_other(here: Backend, database: Database) -> None:
    """R5."""
    await execute(database, "ALTER TABLE heartbeat ADD CONSTRAINT strange CHECK (seq <> 2)")
    await here.enrol(1)
    numbers = [await here.lose(beat(seq)) for seq in (1, 2, 3)]
    await here.mark_all()

    assert await here.replay.step() == 3

    assert [await here.stands(number) for number in numbers] == [
        ("replayed", "stored"),
        ("replayed", "dead_letter"),
        ("replayed", "stored"),
    ]
    async with here.pool.transaction() as conn:
        [refused] = await dead_letters.page(conn, limit=9, which=Filter(reason=Reason.REFUSED_BY_DATABASE))
    assert refused.body == beat(2)


async def test_a_restored_database_is_not_taken_for_the_old_one(here: Backend, database: Database) -> None:
    await here.enrol(1)
    numbers = [await here.lose(beat(1)), await here.lose(beat(2))]
    await here.mark(numbers[0])
    await here.replay.step()
    await execute(database, DROP_DAYS)
    await here.mark(numbers[1])

    await here.replay.step()

    assert [await here.stands(number) for number in numbers] == [("replayed", "stored")] * 2


async def test_a_gateway_that_dies_before_its_commit_neither_loses_nor_doubles(
    here: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await here.lose(beat(1, backlog=(BacklogEntry(seq=2, mode=Mode.ENABLED, epoch=0),)))
    await here.enrol(1)
    await here.mark(number)

    async def die(*_: object) -> None:
        raise KeyError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(fates, "close", die)
        with pytest.raises(KeyError):
            await here.replay.step()
    assert await here.stored() == []
    assert await here.stands(number) == ("marked", None)

    assert await here.replay.step() == 1
    assert await here.stands(number) == ("replayed", "stored")
    assert len(await here.stored()) == 2


async def test_two_gateways_share_what_is_marked_and_take_nothing_twice(here: Backend) -> None:
    await here.enrol(1, 2)
    for seq in range(1, 121):
        await here.lose(beat(seq), unit=1 + seq % 2)
    await here.mark_all()

    async def empty(replay: Replay) -> int:
        number = 0
        while await here.count("dead_letter_fate WHERE state = 'marked'"):
            number += await replay.step()
        return number

    numbers = await asyncio.gather(empty(here.replay), empty(replay_of(here.pool, "another")))

    assert sum(numbers) == 120
    assert await here.count("heartbeat") == 120
    assert await here.count("dead_letter_fate WHERE verdict = 'stored'") == 120


async def test_replays_and_deliveries_of_the_same_do_not_block_each_other(here: Backend) -> None:
    """Both lock units before dead letters: the other way round this ends in a deadlock, which is an error."""
    await here.enrol(1, 2)
    broken = await here.lose(b"{", reason=Reason.NOT_JSON)
    told = iter(range(1, 10_000))

    async def deliver(pool: Pool) -> None:
        for _ in range(40):
            readings = [delivered(beat(next(told)), unit) for unit in (1, 2)] + [delivered(b"{", 1)]
            async with pool.transaction() as conn:
                entries = [
                    (reading, reading.content(1 + (reading.imei == an_imei(2)))) for reading in readings
                ]
                await judge(conn, entries, gateway="g", settings=Commands())

    async def decide() -> None:
        for _ in range(20):
            for unit in (2, 1):
                await here.lose(beat(next(told)), unit=unit)
            await here.mark_all()
            await here.replay.step()

    await Days(here.pool).ensure([NOW, FIRST])
    async with asyncio.timeout(100):
        await asyncio.gather(deliver(here.pool), deliver(here.pool), decide())

    assert await here.count("heartbeat") == 2 * 40 * 2 + 20 * 2
    assert (await here.letter(broken)).times > 2 * 40


async def test_a_marked_letter_is_taken_within_moments_of_the_mark(here: Backend, database: Database) -> None:
    await here.enrol(1)
    number = await here.lose(beat(1))
    stop = asyncio.Event()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(replay, "POLL_S", 3600.0)
        serving = [
            asyncio.create_task(here.replay.serve(stop)),
            asyncio.create_task(here.replay.listen(database, stop)),
        ]
        async with asyncio.timeout(20):
            while not await here.count("pg_stat_activity WHERE query LIKE 'LISTEN%%'"):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # the notice of its own start is over
            await here.mark(number)
            while (await here.stands(number))[0] != "replayed":
                await asyncio.sleep(0.01)
        stop.set()
        here.replay._woken.set()  # noqa: SLF001 - an hour's poll is not waited for
        await asyncio.gather(*serving)


async def test_what_comes_again_after_a_decision_is_open_again_and_the_decision_is_still_told(
    here: Backend,
) -> None:
    number = await here.lose(b"{")
    await here.discard(number)
    closed = await here.letter(number)

    await here.lose(b"{", at=NOW)

    again = await here.letter(number)
    assert closed.state is State.DISCARDED
    assert (again.state, again.times) == (State.OPEN, 2)
    assert again.fate is not None
    assert (again.fate.decision, again.fate.why) == (State.DISCARDED, "known fault")
    assert (await here.discard(number)).state is State.DISCARDED


async def test_what_cannot_be_replayed_is_refused_and_says_why(here: Backend) -> None:
    refused = {
        await here.lose(b'"x"', reason=Reason.INVALID_READING, path="/readings/panel_v"): "piece",
        await here.lose(b"{}", reason=Reason.INVALID_BACKLOG_ENTRY, path="/backlog/3"): "piece",
        await here.lose(b"\x30", reason=Reason.MALFORMED_PACKET): "packet",
        await here.lose(b"{" * 70_000, reason=Reason.TOO_LARGE): "larger",
        await here.lose(b"{}", at=SINCE - timedelta(seconds=1)): "long ago",
    }
    field = await here.lose(b"{ }", reason=Reason.INVALID_FIELD, path="/seq")

    for number, why in refused.items():
        with pytest.raises(NotReplayable, match=why):
            await here.mark(number)
    with pytest.raises(DeadLetterNotFound):
        await here.mark(10**9)

    assert await here.mark_all() == Decided(number=1, not_replayable=5, more=False)
    assert (await here.letter(field)).state is State.MARKED
    with pytest.raises(DecidedAlready):
        await here.discard(field)


async def test_a_discarded_letter_may_be_replayed_after_all_and_no_discarded_one_is_discarded_again(
    here: Backend,
) -> None:
    number = await here.lose(beat(1))
    await here.discard(number)

    with pytest.raises(DecidedAlready):
        await here.discard(number)

    assert (await here.mark(number)).state is State.MARKED


async def test_many_are_decided_by_what_they_have_in_common(
    here: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [await here.lose(beat(seq), unit=seq, at=FIRST + timedelta(hours=seq)) for seq in range(1, 5)]
    other = await here.lose(b"?", reason=Reason.NOT_JSON)
    monkeypatch.setattr(fates, "MOST", 2)

    async def discard(which: Filter) -> Decided:
        async with here.pool.transaction() as conn:
            return await fates.discard_all(conn, which, a_deed())

    of_one = await discard(Filter(imei=an_imei(2)))
    in_time = await discard(Filter(after=FIRST + timedelta(hours=3), before=FIRST + timedelta(hours=4)))
    rest = await discard(Filter(reason=Reason.UNKNOWN_UNIT))

    assert (of_one.number, in_time.number) == (1, 1)
    assert rest == Decided(number=2, not_replayable=0, more=True)
    assert {(await here.stands(number))[0] for number in numbers} == {"discarded"}
    assert await here.stands(other) == ("open", None)


@pytest.mark.parametrize(("which", "everything"), [(Filter(), False), (Filter(imei="x"), True)])
def test_who_decides_about_many_says_which_or_all(which: Filter, *, everything: bool) -> None:
    with pytest.raises(NothingChosen):
        fates.chosen(which, everything=everything)


async def test_every_decision_stands_in_the_audit_with_its_reason_and_number(here: Backend) -> None:
    """R20."""
    number = await here.lose(beat(1))
    await here.lose(beat(2))
    await here.discard(number)
    await here.mark_all(Filter(reason=Reason.UNKNOWN_UNIT))

    async with here.pool.transaction() as conn:
        [one] = await audit.of_object(conn, "dead_letter", number)
        [many] = await audit.of_object(conn, "dead_letter", "all")
    assert (one.action, one.reason, one.actor) == ("dead_letter_discarded", "known fault", "ada@example.com")
    assert (one.before, one.after) == ({"state": "open"}, {"state": "discarded"})
    assert many.action == "dead_letters_marked"
    assert many.after == {"filter": {"reason": "unknown_unit"}, "number": 1}


async def test_beyond_a_days_share_it_is_counted_and_no_more(here: Backend) -> None:
    """A broken unit cannot fill the disk; its neighbour, its yesterday and what is kept are not touched."""

    def losses(seqs: range, unit: int, at: datetime) -> list[Loss]:
        return [
            Loss(
                topic=topic(an_imei(unit), Channel.HEARTBEAT),
                imei=an_imei(unit),
                unit_id=None,
                reason=Reason.NOT_JSON,
                path="",
                detail="",
                body=b"%d" % seq,
                received_at=at,
            )
            for seq in seqs
        ]

    async def come(seqs: range, unit: int = 1, at: datetime = NOW) -> None:
        async with here.pool.transaction() as conn:
            await dead_letters.keep(conn, losses(seqs, unit, at), gateway="g", share=5)

    await come(range(3))
    await come(range(20))
    await come(range(20))
    await come(range(2), unit=2)
    await come(range(30, 33), at=NOW - timedelta(days=1))

    async with here.pool.transaction() as conn:
        letters = await dead_letters.page(conn, limit=100)
        [counted] = await dead_letters.overflow(conn, limit=10)
    assert len([one for one in letters if one.imei == an_imei(1) and one.last_at == NOW]) == 5
    assert len(letters) == 5 + 2 + 3
    assert counted == Overflow(an_imei(1), Reason.NOT_JSON, NOW, NOW, 15 + 15)
    assert sum(one.times for one in letters) + counted.times == 3 + 20 + 20 + 2 + 3


async def test_what_names_no_imei_shares_one_share(here: Backend) -> None:
    nameless = [
        Loss(
            topic=f"scu/v1/{number}",
            imei=None,
            unit_id=None,
            reason=Reason.BAD_TOPIC,
            path="",
            detail="",
            body=b"",
            received_at=NOW,
        )
        for number in range(9)
    ]
    async with here.pool.transaction() as conn:
        await dead_letters.keep(conn, nameless[:8], gateway="g", share=3)
        await dead_letters.keep(conn, nameless[8:], gateway="g", share=3)

    async with here.pool.transaction() as conn:
        [counted] = await dead_letters.overflow(conn, limit=10)
        assert await dead_letters.overflow(conn, limit=10, after=(counted.imei, counted.reason)) == []
    assert (counted.imei, counted.times) == (None, 6)


async def test_closed_ones_go_after_their_days_and_open_ones_later_and_counted(here: Backend) -> None:
    keeping = Keeping(keep_dead_letters_days=10, keep_open_dead_letters_days=100)
    longer_open = await here.lose(b"a", reason=Reason.NOT_JSON, at=NOW - timedelta(days=101))
    await here.lose(b"b", reason=Reason.NOT_JSON, at=NOW - timedelta(days=103))
    closed = await here.lose(b"c", reason=Reason.NOT_JSON, at=NOW - timedelta(days=50))
    came_again = await here.lose(b"d", reason=Reason.NOT_JSON, at=NOW - timedelta(days=50))
    marked = await here.lose(beat(1), at=NOW - timedelta(days=200))
    decided_at = NOW - timedelta(days=11)
    await here.discard(closed, at=decided_at)
    await here.discard(came_again, at=decided_at)
    await here.mark(marked)
    await here.lose(b"d", reason=Reason.NOT_JSON, at=NOW - timedelta(days=40))

    async def round_at(moment: datetime) -> tuple[int, int]:
        async with here.pool.transaction() as conn:
            gone = await upkeep.keep_dead_letters(conn, keeping, now=moment, most=1)
        assert gone is not None
        return gone.closed, gone.opened

    early = decided_at + timedelta(days=9)
    rounds = [
        await round_at(early),
        await round_at(early),
        await round_at(decided_at + timedelta(days=10, seconds=1)),
    ]

    async with here.pool.transaction() as conn:
        left = {letter.id for letter in await dead_letters.page(conn, limit=100)}
        [counted] = await dead_letters.overflow(conn, limit=10)
    assert rounds == [(0, 1), (0, 0), (1, 1)]
    assert left == {came_again, marked}
    assert longer_open not in left
    assert (counted.reason, counted.times) == ("not_json", 2)
    assert await here.count("dead_letter_fate") == 2


async def test_nothing_is_let_go_while_somebody_decides(here: Backend) -> None:
    number = await here.lose(b"a", at=NOW - timedelta(days=900))
    async with here.pool.transaction() as deciding:
        await fates.discard(deciding, number, a_deed())
        async with here.pool.transaction() as conn:
            assert await upkeep.keep_dead_letters(conn, Keeping(), now=NOW) is None


async def test_the_applications_role_lets_go_of_nothing_of_today(here: Backend) -> None:
    """Whoever has its password calls what lets go with whatever moments they like."""
    await here.enrol(1)
    closed, _ = await here.lose(b"a"), await here.lose(b"b", at=NOW)
    await here.discard(closed, at=NOW)

    async with here.pool.transaction() as conn:
        await conn.execute("SELECT keep_dead_letters(1000000, 'infinity', 'infinity')")
        for boot in range(1, 6):
            await conn.execute(
                "INSERT INTO unit_sequence VALUES (1, 1, %s, 0, decode(repeat('ff', 128), 'hex'))", [boot]
            )
        await conn.execute(
            "INSERT INTO unit_status (unit_id, contact_at, life, boot, seq, reported_at, mode, epoch)"
            " VALUES (1, now(), 1, 5, 9, now(), 'e', 0)"
        )
        assert await value(conn, "SELECT sum_boots_up(1, 2000000000, 0)") == 0

    assert await here.count("dead_letter") == 2
    assert await here.count("unit_sequence") == 5


@pytest.mark.parametrize("table", ["dead_letter", "dead_letter_fate", "dead_letter_overflow"])
async def test_the_applications_role_deletes_nothing(here: Backend, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with here.pool.transaction() as conn:
            await conn.execute(f"DELETE FROM {table}".encode())  # noqa: S608 - a test's
