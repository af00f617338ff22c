"""What a slow database does not finish at once is done in portions; what it never does holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from commands import restored
from commands.dispatcher import Dispatcher
from commands.executor import Executor
from commands.reaper import Reaper
from commands.waves import Terms
from gateway import replay
from registry import enrolment
from runtime.settings import Commands, Database, Keeping
from storage.errors import DatabaseUnavailable, DeadlinePassed
from storage.pool import Pool, open_pool
from storage.sql import value
from telemetry import missing, upkeep
from telemetry.missing import Count
from telemetry.upkeep import Upkeep
from tests.builders import a_deed, a_newcomer, keys
from tests.calling import site
from tests.integration.test_commands import MANY_DUE, FakePublisher
from tests.integration.test_dead_letter_fates import Backend, beat, replay_of
from tests.integration.test_gateway_ingest import execute
from tests.integration.test_storage_pool import open_one
from tests.integration.test_telemetry_missing import hear
from tests.plan_fleet import plan_fleet, somebody

COMMANDS = Commands(command_contact_s=3600)
NUMBER = 8
EACH_S = 0.3
"""A row of what is slow takes so long: a portion of more than four rows is cut off."""

DEADLINE_S = 1.5
UUID7 = "(overlay(gen_random_uuid()::text PLACING '7' FROM 15))::uuid"


async def slow(database: Database, event: str, seconds: float = EACH_S, *, when: str = "true") -> None:
    """Have each row of what happens to a table take so long."""
    await execute(
        database,
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF {when} THEN PERFORM pg_sleep({seconds}); END IF; RETURN COALESCE(NEW, OLD); END $$;"
        f" CREATE TRIGGER slow BEFORE {event} FOR EACH ROW EXECUTE FUNCTION dawdle();",
    )


@asynccontextmanager
async def hasty(database: Database) -> AsyncIterator[Pool]:
    """Open a pool whose transactions are cut off early; its connections are there already."""
    async with open_pool(database.model_copy(update={"database_deadline_s": DEADLINE_S})) as pool:
        await open_one(pool)
        yield pool


async def until_done(step: Callable[[], Awaitable[object]], done: Callable[[], Awaitable[bool]]) -> int:
    """Take steps as a service does, until it is done; tell how many were cut off."""
    cut = 0
    async with asyncio.timeout(60):
        while not await done():
            try:
                await step()
            except DatabaseUnavailable:
                cut += 1
            await asyncio.sleep(0.1)
    return cut


async def many_due(database: Database, mode: str) -> None:
    """Have so many commands of one mode due, whose units are here."""
    async with open_pool(database) as pool, pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(n) for n in range(1, NUMBER + 1)], keys(), a_deed())
        for statement in MANY_DUE[1:]:
            await conn.execute(statement.replace("gen_random_uuid()", UUID7).encode(), {"mode": mode})
        await conn.execute(
            "INSERT INTO unit_status (unit_id, contact_at, live_contact_at) SELECT id, now(), now() FROM unit"
        )


async def count(pool: Pool, statement: str) -> int:
    async with pool.transaction() as conn:
        return int(await value(conn, statement))


async def test_commands_are_claimed_sent_once_and_written_down(pool: Pool, database: Database) -> None:
    await many_due(database, "enabled")
    await slow(database, "UPDATE ON command")
    publisher = FakePublisher()

    async with hasty(database) as quick:
        dispatcher = Dispatcher("g", range(100), publisher, quick, keys(), COMMANDS)

        async def done() -> bool:
            return await count(pool, "SELECT count(*) FROM command WHERE state = 'sent'") == NUMBER

        assert await until_done(dispatcher.step, done)

    assert len(publisher.sent) == NUMBER


async def test_commands_whose_time_is_over_are_ended(pool: Pool, database: Database) -> None:
    await many_due(database, "offline_disabled")
    await execute(database, "UPDATE command SET ordered_at = now() - '4 d'::interval, expires_at = now()")
    await slow(database, "UPDATE ON command")

    async with hasty(database) as quick:

        async def done() -> bool:
            return await count(pool, "SELECT count(*) FROM command WHERE state = 'expired'") == NUMBER

        assert await until_done(Reaper("g", quick, COMMANDS).step, done)


async def test_a_plan_goes_on(database: Database) -> None:
    async with plan_fleet(database, NUMBER) as fleet:
        plan = await fleet.draft(terms=Terms(rate_per_s=1000))
        await fleet.execute(plan)
        await slow(database, "INSERT ON command")
        stop = asyncio.Event()
        async with hasty(database) as quick, asyncio.timeout(60):
            serving = asyncio.create_task(Executor(quick, COMMANDS, fleet.settings).serve(stop))
            while (await fleet.plan(plan)).place < NUMBER:
                await asyncio.sleep(0.1)
            stop.set()
            await serving

        assert (await fleet.plan(plan)).ordered == NUMBER


async def test_a_plan_whose_step_was_cut_off_lets_another_pass(database: Database) -> None:
    async with plan_fleet(database, NUMBER) as fleet:
        first, other = [await fleet.draft(terms=Terms(rate_per_s=1000)) for _ in range(2)]
        await fleet.execute(first)
        await fleet.execute(other)
        await fleet.sql("UPDATE command_plan SET next_at = now() - '1 h'::interval WHERE id = %s", first.id)
        await slow(database, "INSERT ON command", when=f"NEW.plan_id = '{first.id}'")
        async with hasty(database) as quick:
            executor = Executor(quick, COMMANDS, fleet.settings)
            with pytest.raises(DeadlinePassed):
                await executor.step()

            assert await executor.step()

        assert (await fleet.plan(first)).place == 0
        assert (await fleet.plan(other)).ordered > 0


async def test_what_a_restored_database_would_switch_off_is_taken_back(
    pool: Pool, database: Database
) -> None:
    await many_due(database, "offline_disabled")
    await slow(database, "INSERT ON audit")

    async with hasty(database) as quick:
        taken = [command async for step in restored.take_back(quick, somebody()) for command in step.commands]

    assert len(taken) == NUMBER
    assert await count(pool, "SELECT count(*) FROM command WHERE state = 'cancelled'") == NUMBER


async def test_dead_letters_are_taken_in_once_more(pool: Pool, database: Database) -> None:
    here = Backend(pool, replay_of(pool))
    await here.enrol(1)
    numbers = [await here.lose(beat(seq)) for seq in range(1, NUMBER + 1)]
    await here.mark_all()
    await slow(database, "INSERT ON heartbeat")

    async with hasty(database) as quick:

        async def done() -> bool:
            return not await count(pool, "SELECT count(*) FROM dead_letter_fate WHERE state = 'marked'")

        assert await until_done(replay_of(quick).step, done)

    assert [await here.stands(number) for number in numbers] == [("replayed", "stored")] * NUMBER


async def test_dead_letters_that_never_get_done_wait_and_those_behind_them_do_not(
    pool: Pool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BATCH", 4)
    here = Backend(pool, replay_of(pool))
    await here.enrol(1)
    numbers = [await here.lose(beat(seq)) for seq in (1, 2, 3, 4)]
    await here.mark_all()
    await slow(database, "INSERT ON heartbeat", 30, when="NEW.seq <= 2")

    async with hasty(database) as quick:

        async def done() -> bool:
            return await count(pool, "SELECT count(*) FROM dead_letter_fate WHERE state = 'marked'") == 2

        await until_done(replay_of(quick).step, done)

    stand = [await here.stands(number) for number in numbers]
    assert stand == [("marked", None)] * 2 + [("replayed", "stored")] * 2


def test_what_was_put_off_waits_twice_as_long_each_time() -> None:
    put_off = replay.PutOff()

    assert [put_off.add(7) for _ in range(3)] == [60.0, 120.0, 240.0]
    assert max(put_off.add(7) for _ in range(20)) == 3600.0
    assert put_off.add(8) == 60.0
    assert put_off.now() == [7, 8]


async def test_dead_letters_are_let_go_and_heartbeats_meanwhile(
    pool: Pool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Backend(pool, replay_of(pool))
    for seq in range(1, NUMBER + 1):
        await here.lose(beat(seq))
    await execute(database, "UPDATE dead_letter SET last_at = now() - '500 d'::interval, first_at = last_at")
    await slow(database, "DELETE ON dead_letter")
    left_at: list[int] = []

    async def keep(*_: object, **__: object) -> upkeep.Kept:
        left_at.append(await count(pool, "SELECT count(*) FROM dead_letter"))
        return upkeep.Kept(dropped=0, hours=0, compressed=0, held=False)

    monkeypatch.setattr(upkeep, "keep", keep)
    monkeypatch.setattr(upkeep, "EVERY_S", 0.05)
    monkeypatch.setattr(upkeep, "LETTERS", NUMBER)
    stop = asyncio.Event()
    async with hasty(database) as quick, asyncio.timeout(60):
        serving = asyncio.create_task(Upkeep(quick, Keeping()).serve(stop))
        while await count(pool, "SELECT count(*) FROM dead_letter"):
            await asyncio.sleep(0.1)
        stop.set()
        await serving

    assert left_at[0] == NUMBER


async def test_hours_are_summed_up_though_days_do_not_go(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def keep(*_: object, **__: object) -> upkeep.Kept:
        raise DatabaseUnavailable("The database did not finish the work.")

    async def roll_up(*_: object, **__: object) -> int:
        stop.set()
        return 0

    monkeypatch.setattr(upkeep, "keep", keep)
    monkeypatch.setattr(upkeep, "roll_up", roll_up)
    monkeypatch.setattr(upkeep, "EVERY_S", 0.05)
    stop = asyncio.Event()

    async with asyncio.timeout(60):
        await Upkeep(pool, Keeping()).serve(stop)


async def test_the_fleet_is_counted_but_for_the_unit_that_cannot_be(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(missing, "RANGE", 2)
    async with site(database) as here:
        for unit in (1, 2):
            await hear(here.pool, unit, (1, 5))
        await slow(database, "INSERT ON unit_missing", 30, when="NEW.unit_id = 1")
        async with hasty(database) as quick:
            await Count(quick).look(asyncio.Event())

        async with here.pool.transaction() as conn:
            found = await (await conn.execute("SELECT unit_id FROM unit_missing ORDER BY 1")).fetchall()
        assert [row["unit_id"] for row in found] == [2]
        assert not await count(here.pool, "SELECT count(*) FROM fleet_missing WHERE counted_at IS NULL")
    assert "unit_not_counted" in capsys.readouterr().out
