"""The way of a command through the ledger: ordered, claimed, published, answered, proven, or ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from commands import dispatcher, ledger
from commands.dispatcher import Dispatcher, Published
from commands.docket import Command
from commands.ledger import Standing
from commands.observe import Acked, AckVerdict, Reported, observe
from commands.policy import NotEnabled, UnitTerminated, Wish
from commands.reaper import Reaper
from commands.states import State
from protocol import codec, signing
from protocol.identity import Imei
from protocol.messages import Ack, AckResult, CommandKind, Heartbeat, Mode, Presence, PresenceState
from protocol.topics import Channel, topic
from registry import enrolment, lifecycle, product_types, units
from registry.lifecycle import Lifecycle
from registry.logins import broker_hash
from registry.permissions import Level
from registry.product_types import ProductType
from registry.units import Unit
from runtime import clock
from runtime.errors import Forbidden, Invalid
from runtime.settings import Commands, Database
from storage.pool import Pool, open_pool
from storage.sql import Connection
from telemetry import alerts
from telemetry.alerts import Finding, Kind
from telemetry.arrivals import Arrival, moments
from telemetry.partitions import Days
from telemetry.record import record
from tests.builders import MASTER, a_caller, a_deed, a_newcomer, an_imei, keys

SETTINGS = Commands()
ENABLE = Wish(kind=CommandKind.SET_MODE, mode=Mode.ENABLED)
DISABLE = Wish(kind=CommandKind.SET_MODE, mode=Mode.OFFLINE_DISABLED)
PING = Wish(kind=CommandKind.PING)


MANY_DUE = (
    """
    INSERT INTO unit (imei, serial_number, broker_login)
    SELECT to_char(n, 'FM000000000000000'), 'MANY-' || n, %(login)s FROM generate_series(1, 5000) AS n
    """,
    "INSERT INTO unit_intent (unit_id, epoch) SELECT id, 1 FROM unit",
    """
    INSERT INTO command (id, unit_id, kind, mode, after_s, epoch, state, reason, ordered_by, ordered_at,
                         expires_at, due_at)
    SELECT gen_random_uuid(), id, 'set_mode', %(mode)s, 0, 1, 'queued', 'r', 'a', now(),
           now() + interval '1 d', now()
      FROM unit
    """,
)


@dataclass
class FakePublisher:
    """A broker that answers as told and remembers what it was given."""

    answer: Published = Published.TAKEN
    connected: bool = True
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while the broker does not answer."""

    def __post_init__(self) -> None:
        self.answers.set()

    async def publish(self, topic: str, body: bytes, *, expiry_s: int) -> Published:
        assert expiry_s > 0
        self.sent.append((topic, body))
        await self.answers.wait()
        return self.answer


@dataclass
class System:
    """One unit, and the parts of the backend that deal with its commands."""

    pool: Pool
    unit: Unit
    publisher: FakePublisher
    dispatcher: Dispatcher
    reaper: Reaper
    seq: int = 0

    def another_dispatcher(self) -> Dispatcher:
        return Dispatcher("another", range(100), self.publisher, self.pool, keys(), SETTINGS)

    async def order_for(self, imei: Imei, wish: Wish) -> Command:
        async with self.pool.transaction() as conn:
            unit = await units.by_imei(conn, imei)
            assert unit is not None
            return (await ledger.order(conn, unit, wish, a_deed(), SETTINGS)).command

    async def order(self, wish: Wish, **by: Any) -> Command:
        async with self.pool.transaction() as conn:
            deed, unit = a_deed(by=a_caller(**by)), await self._now(conn)
            return (await ledger.order(conn, unit, wish, deed, SETTINGS)).command

    async def may_be_two(self) -> None:
        """Let a second unit be suspected under this one's IMEI."""
        async with self.pool.transaction() as conn:
            await alerts.raise_all(conn, [Finding(self.unit.id, Kind.TWO_UNITS, {})], now=clock.now())

    async def cancel(self, command: Command, **by: Any) -> Command:
        async with self.pool.transaction() as conn:
            return await ledger.cancel(conn, command.id, a_deed(by=a_caller(**by)))

    async def approve(self, command: Command, **by: Any) -> Command:
        async with self.pool.transaction() as conn:
            deed, unit = a_deed(by=a_caller(**by)), await self._now(conn)
            return await ledger.approve(conn, unit, command.id, deed, SETTINGS)

    async def _now(self, conn: Connection) -> Unit:
        """Read the unit as it now stands."""
        found = await units.by_id(conn, self.unit.id)
        assert found is not None
        return found

    async def waits_for_a_lock(self) -> bool:
        """Whether anybody in this database does."""
        async with self.pool.transaction() as conn:
            cursor = await conn.execute(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return cursor.rowcount > 0

    async def obeys(self, command: Command) -> None:
        """Let a command reach its unit, and the unit report it."""
        await self.makes_due(command)
        await self.dispatcher.step()
        await self.reports(command.mode or Mode.ENABLED, command.epoch)
        assert await self.state(command) is State.CONFIRMED

    async def open_command(self) -> Command | None:
        """Give the mode command that is under way."""
        async with self.pool.transaction() as conn:
            commands = await ledger.of_unit(conn, self.unit.id, limit=99)
        return next((command for command in commands if command.open and command.mode), None)

    async def expires(self, command: Command) -> None:
        """Let its life end."""
        await self.sql(
            "UPDATE command SET ordered_at = now() - interval '90 d', expires_at = now() - interval '1 s'"
            " WHERE id = %s",
            command.id,
        )
        await self.reaper.step()
        assert await self.state(command) is State.EXPIRED

    async def command(self, command: Command) -> Command:
        async with self.pool.transaction() as conn:
            return await ledger.by_id(conn, command.id)

    async def state(self, command: Command) -> State:
        return (await self.command(command)).state

    async def events(self, command: Command) -> list[str]:
        async with self.pool.transaction() as conn:
            return [event.event for event in await ledger.events(conn, command.id)]

    async def standing(self) -> Standing:
        async with self.pool.transaction() as conn:
            return (await ledger.standings(conn, [self.unit.id]))[self.unit.id]

    async def hears(self, message: Any, *, live: bool = True) -> list[AckVerdict]:
        """Take a message of the unit in, as the gateway does."""
        async with self.pool.transaction() as conn:
            cursor = await conn.execute("SELECT now()")
            found = await cursor.fetchone()
            assert found is not None
            now = found["now"]
            arrival = Arrival(unit_id=self.unit.id, message=message, received_at=now, live=live)
        await Days(self.pool).ensure(moments([arrival]))
        async with self.pool.transaction() as conn:
            recorded = await record(conn, [arrival], now=now)
            beats = [report.heartbeat for report in recorded.reports]
            return await observe(
                conn,
                acks=[Acked(unit_id=self.unit.id, ack=message)] if isinstance(message, Ack) else [],
                reports=[
                    Reported(
                        unit_id=beat.unit_id,
                        epoch=beat.epoch,
                        mode=beat.mode,
                        boot=beat.boot,
                        seq=beat.seq,
                        received_at=now,
                        live=live,
                    )
                    for beat in beats
                ],
                listening=recorded.listening,
                actor="g",
                settings=SETTINGS,
            )

    async def reports(self, mode: Mode, epoch: int = 0, *, live: bool = True) -> None:
        self.seq += 1
        beat = Heartbeat(life=1, boot=1, seq=self.seq, mode=mode, epoch=epoch, readings={})
        await self.hears(beat, live=live)

    async def comes_online(self) -> None:
        await self.hears(Presence(state=PresenceState.ONLINE, life=1, boot=1, conn=1))

    async def acks(self, command: Command, **changes: Any) -> AckVerdict:
        ack = {
            "command_id": command.id,
            "attempt": 1,
            "epoch": command.epoch,
            "result": AckResult.APPLIED,
            "mode": command.mode or Mode.ENABLED,
            **changes,
        }
        [verdict] = await self.hears(Ack(**ack))
        return verdict

    async def expects_of_type(self, expected_interval_s: int) -> None:
        """Let the unit be of a product type of which this is expected."""
        await self.sql("UPDATE unit SET product_type = 'Hub2'")
        wanted = ProductType(name="Hub2", expected_interval_s=expected_interval_s)
        async with self.pool.transaction() as conn:
            await product_types.expect(conn, wanted, a_deed())

    async def sql(self, statement: str, *values: object) -> None:
        async with self.pool.transaction() as conn:
            await conn.execute(statement.encode(), values)

    async def makes_due(self, command: Command) -> None:
        await self.sql("UPDATE command SET due_at = now() - interval '1 s' WHERE id = %s", command.id)


@pytest.fixture
async def system(database: Database) -> AsyncIterator[System]:
    async with open_pool(database) as pool:
        async with pool.transaction() as conn:
            await enrolment.enrol_all(conn, [a_newcomer(1)], keys(), a_deed())
            unit = await units.by_imei(conn, an_imei(1))
        assert unit is not None
        publisher = FakePublisher()
        dispatcher = Dispatcher("gateway-0-99", range(100), publisher, pool, keys(), SETTINGS)
        yield System(pool, unit, publisher, dispatcher, Reaper("gateway-0-99", pool, SETTINGS))


@pytest.fixture
async def enabled(system: System) -> System:
    """Give a system whose unit is online and reports enabled."""
    await system.comes_online()
    await system.reports(Mode.ENABLED)
    return system


async def test_an_offline_disable_goes_from_order_to_confirmation(enabled: System) -> None:
    """S1.7-S1.10, S1.17: pending until the unit itself reports it; then who and when."""
    command = await enabled.order(DISABLE)
    assert (await enabled.standing()).enable_status == "pending_offline_disabled"

    await enabled.dispatcher.step()
    assert await enabled.state(command) is State.SENT
    assert await enabled.acks(command) is AckVerdict.NEWS
    assert await enabled.state(command) is State.ACKNOWLEDGED
    assert (await enabled.standing()).od_confirmed is False
    await enabled.reports(Mode.OFFLINE_DISABLED, command.epoch)

    done = await enabled.command(command)
    standing = await enabled.standing()
    assert done.state is State.CONFIRMED
    assert (standing.enable_status, standing.od_confirmed) == ("offline_disabled", True)
    assert (standing.changed_by, standing.changed_at) == ("ada@example.com", done.finished_at)
    assert await enabled.events(command) == [
        "ordered",
        "claimed",
        "published",
        "unit_applied",
        "unit_reported",
    ]


async def test_what_is_sent_is_signed_for_this_unit_alone(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()

    [(where, body)] = enabled.publisher.sent
    sent = codec.decode_command(body)
    imei = enabled.unit.imei
    assert where == topic(imei, Channel.COMMAND)
    assert (sent.id, sent.epoch, sent.attempt, sent.after_s) == (command.id, 1, 1, 0)
    assert signing.verify(sent, imei, signing.unit_key(MASTER, imei))
    assert not signing.verify(sent, an_imei(2), signing.unit_key(MASTER, an_imei(2)))


async def test_a_heartbeat_confirms_without_an_ack(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()

    await enabled.reports(Mode.OFFLINE_DISABLED, command.epoch)

    assert await enabled.state(command) is State.CONFIRMED


@pytest.mark.parametrize(
    ("mode", "epoch"),
    [(Mode.ENABLED, 1), (Mode.OFFLINE_DISABLED, 0), (Mode.DISABLED, 1), (Mode.OFFLINE_DISABLED, 2)],
)
async def test_a_report_of_other_epoch_or_mode_is_no_proof(enabled: System, mode: Mode, epoch: int) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()

    await enabled.reports(mode, epoch)

    assert await enabled.state(command) is State.SENT


async def test_a_command_that_was_never_sent_is_not_confirmed_by_a_report(enabled: System) -> None:
    command = await enabled.order(DISABLE)

    await enabled.reports(Mode.OFFLINE_DISABLED, command.epoch)

    assert await enabled.state(command) is State.QUEUED


async def test_a_ping_is_confirmed_by_its_ack_and_supersedes_nothing(enabled: System) -> None:
    enable = await enabled.order(ENABLE)
    await enabled.dispatcher.step()
    await enabled.acks(enable)
    ping = await enabled.order(PING)
    await enabled.dispatcher.step()

    await enabled.acks(ping, epoch=1)

    assert (await enabled.state(ping), await enabled.state(enable)) == (State.CONFIRMED, State.ACKNOWLEDGED)
    assert (await enabled.command(ping)).epoch == 0


async def test_the_newest_wish_supersedes_the_open_one_under_a_higher_epoch(enabled: System) -> None:
    first = await enabled.order(DISABLE)
    await enabled.dispatcher.step()

    second = await enabled.order(ENABLE)

    assert (await enabled.state(first), second.epoch) == (State.SUPERSEDED, first.epoch + 1)
    assert (await enabled.standing()).enable_status == "pending_enabled"
    assert await enabled.acks(first) is AckVerdict.NEWS
    assert await enabled.state(first) is State.SUPERSEDED
    assert await enabled.acks(first) is AckVerdict.REPEATED
    await enabled.reports(Mode.OFFLINE_DISABLED, first.epoch)
    assert (await enabled.events(first))[-1] == "late_ack"


async def test_a_report_that_proves_a_superseded_command_is_written_down_on_it_once(enabled: System) -> None:
    first = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    await enabled.order(ENABLE)

    await enabled.reports(Mode.OFFLINE_DISABLED, first.epoch)
    await enabled.reports(Mode.OFFLINE_DISABLED, first.epoch)

    assert (await enabled.events(first))[-2:] == ["superseded", "late_report"]
    assert await enabled.state(first) is State.SUPERSEDED


async def test_an_epoch_is_above_everything_the_unit_ever_reported(enabled: System) -> None:
    """A database restored from an older backup must not use an epoch twice."""
    await enabled.reports(Mode.ENABLED, 41)
    assert (await enabled.order(DISABLE)).epoch == 42

    await enabled.reports(Mode.ENABLED, 2**31 + 1)
    assert (await enabled.order(ENABLE)).epoch == 43


async def test_only_an_enabled_unit_can_be_offline_disabled(system: System) -> None:
    """S1.17: refused in every other status, and the answer names it."""
    with pytest.raises(NotEnabled, match="unknown"):
        await system.order(DISABLE)
    await system.reports(Mode.DISABLED)
    with pytest.raises(NotEnabled, match="disabled"):
        await system.order(DISABLE)
    await system.reports(Mode.ENABLED)
    await system.order(DISABLE)
    later = Wish(kind=CommandKind.SET_MODE, mode=Mode.OFFLINE_DISABLED, after_s=86_400)
    with pytest.raises(NotEnabled, match="pending_offline_disabled"):
        await system.order(later)


async def test_an_offline_disable_needs_an_administrator_and_an_enable_does_not(enabled: System) -> None:
    """S1.18."""
    with pytest.raises(Forbidden):
        await enabled.order(DISABLE, level=Level.TECHNICAL)
    with pytest.raises(Forbidden):
        await enabled.order(ENABLE, level=Level.OVERVIEW)
    await enabled.order(ENABLE, level=Level.TECHNICAL)


async def test_an_order_without_a_reason_is_refused(enabled: System) -> None:
    with pytest.raises(Invalid):
        async with enabled.pool.transaction() as conn:
            await ledger.order(conn, enabled.unit, PING, a_deed(reason=" "), SETTINGS)


async def test_a_terminated_unit_takes_no_commands(enabled: System) -> None:
    async with enabled.pool.transaction() as conn:
        await lifecycle.move(conn, enabled.unit.id, enabled.unit.lifecycle, Lifecycle.TERMINATED, a_deed())
        gone = await units.by_id(conn, enabled.unit.id)
        assert gone is not None
        with pytest.raises(UnitTerminated):
            await ledger.order(conn, gone, PING, a_deed(), SETTINGS)


async def test_a_command_waits_for_contact_and_is_due_at_once_with_it(system: System) -> None:
    command = await system.order(PING)
    assert await system.dispatcher.step() == 0
    assert await system.state(command) is State.QUEUED

    await system.comes_online()

    assert await system.dispatcher.step() == 1
    assert await system.state(command) is State.SENT


async def test_between_two_attempts_lies_the_pause_even_when_the_unit_speaks(enabled: System) -> None:
    command = await enabled.order(PING)
    enabled.publisher.answer = Published.FAILED
    await enabled.dispatcher.step()

    await enabled.reports(Mode.ENABLED)

    again = await enabled.command(command)
    assert again.state is State.QUEUED
    assert again.attempted_at is not None
    assert (again.due_at - again.attempted_at).total_seconds() == SETTINGS.command_pause_s
    assert await enabled.dispatcher.step() == 0


async def test_a_publish_that_nobody_heard_is_no_attempt(enabled: System) -> None:
    command = await enabled.order(PING)
    enabled.publisher.answer = Published.UNHEARD

    await enabled.dispatcher.step()

    unheard = await enabled.command(command)
    assert (unheard.state, unheard.attempt, unheard.attempted_at) == (State.QUEUED, 0, None)
    await enabled.reports(Mode.ENABLED)
    enabled.publisher.answer = Published.TAKEN
    assert await enabled.dispatcher.step() == 1


async def test_a_unit_that_comes_while_nobody_hears_is_told_at_once(enabled: System) -> None:
    """The broker's answers are written down together, up to seconds after the first of them."""
    command = await enabled.order(PING)
    enabled.publisher.answer = Published.UNHEARD
    enabled.publisher.answers.clear()
    step = asyncio.create_task(enabled.dispatcher.step())
    while not enabled.publisher.sent:
        await asyncio.sleep(0.01)
    await enabled.reports(Mode.ENABLED)
    enabled.publisher.answers.set()
    await step

    enabled.publisher.answer = Published.TAKEN
    assert await enabled.dispatcher.step() == 1
    assert await enabled.state(command) is State.SENT


async def test_a_publish_that_nobody_heard_leaves_the_last_attempt_what_it_was(enabled: System) -> None:
    command = await enabled.order(PING)
    enabled.publisher.answer = Published.FAILED
    await enabled.dispatcher.step()
    await enabled.sql("UPDATE command SET attempted_at = attempted_at - interval '1 h'")
    before = await enabled.command(command)
    await enabled.makes_due(command)
    enabled.publisher.answer = Published.UNHEARD

    assert await enabled.dispatcher.step() == 1

    after = await enabled.command(command)
    assert (after.attempt, after.attempted_at) == (1, before.attempted_at)
    await enabled.reports(Mode.ENABLED)
    enabled.publisher.answer = Published.TAKEN
    assert await enabled.dispatcher.step() == 1


@pytest.mark.parametrize("wish", [ENABLE, DISABLE])
async def test_one_command_is_in_flight_to_a_unit_and_a_ping_comes_last(enabled: System, wish: Wish) -> None:
    ping = await enabled.order(PING)
    first = await enabled.order(wish)

    assert [await enabled.dispatcher.step(), await enabled.dispatcher.step()] == [1, 0]
    assert (await enabled.state(first), await enabled.state(ping)) == (State.SENT, State.QUEUED)

    await enabled.acks(first)
    assert await enabled.dispatcher.step() == 1
    assert [codec.decode_command(body).id for _, body in enabled.publisher.sent] == [first.id, ping.id]


async def test_what_waits_for_a_silent_unit_is_due_when_the_silence_before_it_ends(enabled: System) -> None:
    ping = await enabled.order(PING)
    await enabled.dispatcher.step()
    enable = await enabled.order(ENABLE)

    assert await enabled.dispatcher.step() == 0

    assert (await enabled.command(enable)).due_at == (await enabled.command(ping)).due_at


@pytest.mark.parametrize(("type_s", "sent"), [(600, 0), (3600, 1)])
async def test_how_long_a_silent_session_counts_goes_by_the_product_type(
    enabled: System, type_s: int, sent: int
) -> None:
    await enabled.expects_of_type(type_s)
    hour_ago = clock.now() - timedelta(hours=1)
    await enabled.sql(
        "UPDATE unit_status SET contact_at = %s, live_contact_at = %s, presence_at = %s", *[hour_ago] * 3
    )
    await enabled.order(ENABLE)

    assert await enabled.dispatcher.step() == sent


async def test_two_dispatchers_at_once_have_one_command_in_flight_to_a_unit(enabled: System) -> None:
    """Each would find a command of its own; the intent that both belong to is locked by one of them."""
    await enabled.order(PING)
    enable = await enabled.order(ENABLE)
    twin = Dispatcher("twin", range(100), enabled.publisher, enabled.pool, keys(), SETTINGS)
    async with enabled.pool.transaction() as conn:  # as the first one holds them until it commits
        await conn.execute("SELECT FROM unit_intent FOR UPDATE")

        assert await twin.step() == 0

    assert await twin.step() == 1
    assert await enabled.state(enable) is State.SENT


async def test_enables_go_first(enabled: System) -> None:
    async with enabled.pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(number) for number in (2, 3)], keys(), a_deed())
    await enabled.sql(
        "INSERT INTO unit_status (unit_id, contact_at, live_contact_at) SELECT id, now(), now() FROM unit"
        " ON CONFLICT DO NOTHING"
    )
    disable = await enabled.order(DISABLE)
    for number in (2, 3):
        await enabled.order_for(an_imei(number), ENABLE)

    assert await enabled.dispatcher.step() == 3

    sent = [codec.decode_command(body) for _, body in enabled.publisher.sent]
    assert [command.mode for command in sent] == [Mode.ENABLED, Mode.ENABLED, Mode.OFFLINE_DISABLED]
    assert sent[-1].id == disable.id


@pytest.mark.parametrize("mode", ["enabled", "offline_disabled"])
async def test_a_claim_among_thousands_touches_only_its_own(database: Database, mode: str) -> None:
    """All became due at the same moment; no more of them are joined, sorted or locked than are claimed."""
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as conn:
        for statement in MANY_DUE:
            await conn.execute(statement.encode(), {"mode": mode, "login": broker_hash("nobody's")})
        await conn.execute("ANALYZE unit, unit_intent, command")

        cursor = await conn.execute(
            b"EXPLAIN (ANALYZE, FORMAT JSON) " + dispatcher.SQL.due.encode(),
            {"first": "00", "last": "99", "limit": 100},
        )
        found = await cursor.fetchone()

    assert found is not None
    assert max(node["Actual Rows"] for node in nodes(found[0][0]["Plan"])) == 100


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give every node of a plan."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


async def test_what_is_due_all_at_once_leaves_at_the_pace_that_is_set_enables_first(
    enabled: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker or a fleet that comes back meets no flood."""
    monkeypatch.setattr(dispatcher, "BATCH", 5)
    settings = Commands(command_rate=50)
    paced = Dispatcher("paced", range(100), enabled.publisher, enabled.pool, keys(), settings)
    numbers = range(2, 22)
    async with enabled.pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(number) for number in numbers], keys(), a_deed())
    await enabled.sql(
        "INSERT INTO unit_status (unit_id, contact_at, live_contact_at) SELECT id, now(), now() FROM unit"
        " ON CONFLICT DO NOTHING"
    )
    for number in numbers:
        await enabled.order_for(an_imei(number), PING if number < 12 else ENABLE)
    began, stop = time.monotonic(), asyncio.Event()

    serving = asyncio.create_task(paced.serve(stop))
    async with asyncio.timeout(30):
        while len(enabled.publisher.sent) < len(numbers):
            await asyncio.sleep(0.01)
    seconds = time.monotonic() - began
    stop.set()
    await serving

    assert seconds >= (len(numbers) - 5) / 50  # the first batch waits for nobody
    kinds = [codec.decode_command(body).kind for _, body in enabled.publisher.sent]
    assert kinds == [CommandKind.SET_MODE] * 10 + [CommandKind.PING] * 10


async def test_a_batch_is_claimed_while_the_one_before_it_is_on_its_way(
    enabled: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "BATCH", 1)
    async with enabled.pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(2)], keys(), a_deed())
    await enabled.sql(
        "INSERT INTO unit_status (unit_id, contact_at, live_contact_at) SELECT id, now(), now() FROM unit"
        " ON CONFLICT DO NOTHING"
    )
    commands = [await enabled.order(PING), await enabled.order_for(an_imei(2), PING)]
    enabled.publisher.answers.clear()
    one_by_one, stop = enabled.another_dispatcher(), asyncio.Event()

    serving = asyncio.create_task(one_by_one.serve(stop))
    async with asyncio.timeout(30):
        while len(enabled.publisher.sent) < len(commands):
            await asyncio.sleep(0.01)
    assert [await enabled.state(command) for command in commands] == [State.SENDING, State.SENDING]
    enabled.publisher.answers.set()
    stop.set()
    await serving

    assert [await enabled.state(command) for command in commands] == [State.SENT, State.SENT]


async def test_commands_of_units_that_sleep_do_not_keep_others_waiting(
    enabled: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "BATCH", 100)
    async with enabled.pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(number) for number in range(2, 300)], keys(), a_deed())
        for number in range(2, 300):
            sleeper = await units.by_imei(conn, an_imei(number))
            assert sleeper is not None
            await ledger.order(conn, sleeper, ENABLE, a_deed(), SETTINGS)
    disable = await enabled.order(DISABLE)
    one = enabled.another_dispatcher()

    assert [await one.step() for _ in range(3)] == [0, 0, 1]

    assert await enabled.state(disable) is State.SENT
    async with enabled.pool.transaction() as conn:
        cursor = await conn.execute("SELECT count(*) AS n FROM command WHERE due_at = expires_at")
        assert await cursor.fetchone() == {"n": 298}


async def test_a_command_of_a_unit_that_was_terminated_since_is_not_sent(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    async with enabled.pool.transaction() as conn:
        await lifecycle.move(conn, enabled.unit.id, enabled.unit.lifecycle, Lifecycle.TERMINATED, a_deed())

    assert await enabled.dispatcher.step() == 0
    assert await enabled.state(command) is State.QUEUED


async def test_a_unit_whose_key_is_unknown_here_costs_no_other_its_command(enabled: System) -> None:
    await enabled.sql("UPDATE unit SET key_generation = 9")
    command = await enabled.order(PING)

    assert await enabled.dispatcher.step() == 1

    assert await enabled.state(command) is State.QUEUED
    assert enabled.publisher.sent == []


async def test_a_command_that_cannot_be_written_costs_no_other_its_sending(enabled: System) -> None:
    """Its id is no UUIDv7, which the wire takes alone."""
    async with enabled.pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(2)], keys(), a_deed())
    await enabled.sql(
        "INSERT INTO unit_status (unit_id, contact_at, live_contact_at) SELECT id, now(), now() FROM unit"
        " ON CONFLICT DO NOTHING"
    )
    good = await enabled.order_for(an_imei(2), PING)
    await enabled.sql("INSERT INTO unit_intent (unit_id, epoch) SELECT min(id), 0 FROM unit")
    await enabled.sql(
        "INSERT INTO command"
        " (id, unit_id, kind, after_s, epoch, state, reason, ordered_by, ordered_at, expires_at, due_at)"
        " SELECT gen_random_uuid(), min(id), 'ping', 0, 0, 'queued', 'r', 'a', now(), now() + '1 h', now()"
        " FROM unit"
    )

    assert await enabled.dispatcher.step() == 2

    assert await enabled.state(good) is State.SENT
    assert len(enabled.publisher.sent) == 1


async def test_what_is_claimed_is_not_published_once_its_lease_is_over(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    claim = await enabled.dispatcher._claim()  # noqa: SLF001 - a dispatcher that sleeps before it publishes

    assert await enabled.dispatcher._send(claim.sendings[0], until=0.0) is Published.FAILED  # noqa: SLF001

    assert enabled.publisher.sent == []
    assert await enabled.state(command) is State.SENDING


async def test_a_silence_sends_it_again_and_after_the_last_attempt_waits_for_contact(enabled: System) -> None:
    command = await enabled.order(PING)
    for attempt in range(1, SETTINGS.command_attempts + 1):
        await enabled.makes_due(command)
        await enabled.dispatcher.step()
        assert (await enabled.command(command)).attempt == attempt
        await enabled.makes_due(command)
        await enabled.reaper.step()

    tired = await enabled.command(command)
    assert tired.state is State.QUEUED
    assert tired.due_at == tired.expires_at
    await enabled.reports(Mode.ENABLED)
    assert (await enabled.command(command)).due_at < tired.expires_at


async def test_what_nobody_heard_is_written_down_once_however_often_that_is_tried(enabled: System) -> None:
    """R15: the outcome of a commit may be unknown; and what nobody heard leaves its attempt's number free."""
    command = await enabled.order(PING)
    first = await enabled.dispatcher._claim()  # noqa: SLF001 - between claim and publish
    await enabled.dispatcher._settle([(first.sendings[0], Published.UNHEARD)])  # noqa: SLF001 - likewise
    await enabled.makes_due(command)
    second = await enabled.dispatcher._claim()  # noqa: SLF001 - likewise

    await enabled.dispatcher._settle([(first.sendings[0], Published.UNHEARD)])  # noqa: SLF001 - likewise

    assert await enabled.state(command) is State.SENDING
    await enabled.dispatcher._settle([(second.sendings[0], Published.TAKEN)])  # noqa: SLF001 - likewise
    assert await enabled.state(command) is State.SENT


async def test_a_command_that_somebody_holds_keeps_no_other_from_being_written_down(
    enabled: System, database: Database
) -> None:
    async with enabled.pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(2)], keys(), a_deed())
    await enabled.sql(
        "INSERT INTO unit_status (unit_id, contact_at, live_contact_at) SELECT id, now(), now() FROM unit"
        " ON CONFLICT DO NOTHING"
    )
    held, free = await enabled.order(PING), await enabled.order_for(an_imei(2), PING)
    enabled.publisher.answers.clear()
    step = asyncio.create_task(enabled.dispatcher.step())
    async with asyncio.timeout(30):
        while len(enabled.publisher.sent) < 2:
            await asyncio.sleep(0.01)

    async with await psycopg.AsyncConnection.connect(database.owner_url) as forgotten:
        await forgotten.execute("SELECT FROM command WHERE id = %s FOR UPDATE", [held.id])
        enabled.publisher.answers.set()
        assert await step == 2

    assert [await enabled.state(held), await enabled.state(free)] == [State.SENDING, State.SENT]


async def test_a_lapsed_lease_goes_back_and_its_holder_can_write_nothing_more(enabled: System) -> None:
    """R15: the attempt's number fences a dispatcher that slept through its lease."""
    command = await enabled.order(PING)
    claim = await enabled.dispatcher._claim()  # noqa: SLF001 - a dispatcher that stops between its two steps
    await enabled.makes_due(command)
    await enabled.reaper.step()
    await enabled.makes_due(command)
    await enabled.dispatcher.step()

    [late] = claim.sendings
    await enabled.dispatcher._settle([(late, Published.FAILED)])  # noqa: SLF001

    assert (await enabled.command(command)).attempt == 2
    assert await enabled.state(command) is State.SENT


async def test_a_life_that_ends_is_expired_and_late_evidence_still_confirms(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    await enabled.sql(
        "UPDATE command SET ordered_at = now() - interval '9 d', expires_at = now() - interval '1 s'"
        " WHERE id = %s",
        command.id,
    )

    await enabled.reaper.step()

    assert await enabled.state(command) is State.EXPIRED
    assert (await enabled.standing()).enable_status == "enabled"
    await enabled.reports(Mode.OFFLINE_DISABLED, command.epoch)
    assert await enabled.state(command) is State.CONFIRMED


async def test_a_refusal_ends_a_command_with_the_units_reason(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()

    await enabled.acks(command, result=AckResult.REFUSED, reason="hardware", epoch=0, mode=Mode.ENABLED)

    again = await enabled.acks(
        command, result=AckResult.REFUSED, reason="hardware", epoch=0, mode=Mode.ENABLED
    )
    refused = await enabled.command(command)
    assert again is AckVerdict.REPEATED
    assert (refused.state, refused.refusal) == (State.REFUSED, "hardware")
    assert (await enabled.standing()).enable_status == "enabled"


async def test_an_ack_without_its_evidence_sends_the_command_again(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    await enabled.acks(command)
    await enabled.reports(Mode.ENABLED)
    await enabled.makes_due(command)

    await enabled.reaper.step()

    assert await enabled.state(command) is State.QUEUED
    assert (await enabled.events(command))[-1] == "no_evidence"


async def test_evidence_is_awaited_for_two_intervals_of_the_product_type(enabled: System) -> None:
    await enabled.expects_of_type(60)
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    await enabled.acks(command)

    acked = await enabled.command(command)

    assert acked.acknowledged_at is not None
    assert acked.due_at - acked.acknowledged_at == timedelta(seconds=120)


async def test_acks_for_nothing_for_others_and_again_are_told_apart(enabled: System) -> None:
    async with enabled.pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(2)], keys(), a_deed())
        other = await units.by_imei(conn, an_imei(2))
        assert other is not None
        foreign = (await ledger.order(conn, other, PING, a_deed(), SETTINGS)).command
    command = await enabled.order(PING)
    await enabled.dispatcher.step()

    assert await enabled.acks(foreign) is AckVerdict.FOREIGN
    assert await enabled.acks(command, command_id=UUID(str(uuid4()))) is AckVerdict.UNKNOWN
    assert await enabled.acks(command) is AckVerdict.NEWS
    assert await enabled.acks(command) is AckVerdict.REPEATED
    assert await enabled.state(foreign) is State.QUEUED


async def test_dispatchers_at_once_never_send_the_same_attempt(enabled: System, database: Database) -> None:
    """R15: the second looks while what the first claims is not committed yet."""
    await enabled.order(PING)
    patient = database.model_copy(update={"database_lock_timeout_s": 14.0})
    async with open_pool(patient) as pool, asyncio.timeout(60):
        first, second = [
            Dispatcher(name, range(100), enabled.publisher, pool, keys(), SETTINGS)
            for name in ("first", "second")
        ]
        async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
            await owner.execute("LOCK TABLE command_event IN EXCLUSIVE MODE")  # a claim is an event too
            claiming = asyncio.create_task(first.step())
            while not await enabled.waits_for_a_lock():
                await asyncio.sleep(0.01)

            assert await second.step() == 0

        assert await claiming == 1
    assert len(enabled.publisher.sent) == 1


async def test_a_dispatcher_of_other_partitions_leaves_it_alone(enabled: System) -> None:
    await enabled.order(PING)
    last = int(enabled.unit.imei.partition)
    elsewhere = range(last + 1, 100) if last < 99 else range(last)
    other = Dispatcher("other", elsewhere, enabled.publisher, enabled.pool, keys(), SETTINGS)

    assert await other.step() == 0


async def test_the_database_itself_refuses_what_must_never_be(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    for statement in (
        "UPDATE command SET state = 'confirmed' WHERE id = %s",
        "UPDATE command SET finished_at = now() WHERE id = %s",
        "UPDATE command SET epoch = 0 WHERE id = %s",
        "UPDATE command SET refusal = 'x' WHERE id = %s",
        "UPDATE command SET mode = 'enabled', after_s = 86400 WHERE id = %s",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            await enabled.sql(statement, command.id)
