"""After a restore nothing that the database remembers switches anybody off by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from typer.testing import CliRunner

from commands import ledger, restored
from commands.__main__ import app
from commands.plans import State
from commands.restored import TakenBack
from registry import audit
from registry.audit import Deed
from registry.permissions import Level, LevelTooLow
from registry.wording import BadText
from runtime.settings import Commands, Database
from tests.builders import a_deed, a_serial, an_imei
from tests.plan_fleet import DISABLE, ENABLE, PlanFleet, plan_fleet, somebody

UNITS = 6


@pytest.fixture
async def fleet(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PlanFleet]:
    monkeypatch.setattr(restored, "BATCH", 2)
    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", database.url)
    async with plan_fleet(database, units=UNITS) as fleet:
        yield fleet


async def take_back(fleet: PlanFleet, deed: Deed | None = None) -> TakenBack:
    """Take all steps, and give them as one."""
    deed = deed or a_deed(reason="backup of 03:00")
    steps = [step async for step in restored.take_back(fleet.pool, deed)]
    return TakenBack(
        [plan for step in steps for plan in step.plans],
        [told for step in steps for told in step.commands],
        sum(step.doubted for step in steps),
    )


async def test_offline_disables_under_way_are_taken_back_and_enables_stay(fleet: PlanFleet) -> None:
    for number in range(1, UNITS):
        wish = ENABLE if number == 1 else DISABLE
        if number == 1:
            await fleet.sql("UPDATE unit_status SET mode = 'o' WHERE unit_id = 1")
        async with fleet.pool.transaction() as conn:
            await ledger.order(conn, await fleet.unit(number), wish, a_deed(), Commands())
    await fleet.sql("UPDATE command SET state = 'confirmed', finished_at = now() WHERE unit_id = 5")

    done = await take_back(fleet)

    assert [unit for unit, _ in done.commands] == [a_serial(2), a_serial(3), a_serial(4)]
    states = "SELECT string_agg(state, ' ' ORDER BY unit_id) FROM command"
    assert await fleet.value(states) == "queued cancelled cancelled cancelled confirmed"
    wanted = "SELECT count(*) FROM unit_intent WHERE desired = 'enabled'"
    assert await fleet.value(wanted) == 4
    async with fleet.pool.transaction() as conn:
        [entry] = await audit.of_object(conn, "command", done.commands[0][1].id)
        events = await ledger.events(conn, done.commands[0][1].id)
    assert (entry.action, entry.reason) == ("cancel_command", "backup of 03:00")
    assert events[-1].evidence == {"reason": "backup of 03:00", "restored": True}
    assert (await take_back(fleet)).commands == []


@pytest.mark.parametrize("state", ["ready", "awaiting_approval", "running", "paused"])
async def test_plans_that_may_still_switch_off_are_cancelled(fleet: PlanFleet, state: str) -> None:
    disabling, enabling = await fleet.draft(), await fleet.listing([an_imei(1)], ENABLE)
    await fleet.sql(
        "UPDATE command_plan SET state = %s, executed_by = 'x', executed_at = now() WHERE id = %s",
        state,
        disabling.id,
    )

    done = await take_back(fleet)

    assert done.plans == [disabling.id]
    assert (await fleet.plan(disabling)).state is State.CANCELLED
    assert (await fleet.plan(enabling)).state is State.READY
    assert (await take_back(fleet)).plans == []


async def test_what_has_ended_or_expired_is_left_alone(fleet: PlanFleet) -> None:
    expired = await fleet.draft()
    await fleet.sql("UPDATE command_plan SET expires_at = now() - interval '1 s'")

    assert (await take_back(fleet)).plans == []
    assert (await fleet.plan(expired)).state is State.EXPIRED


async def test_it_takes_every_right_and_a_reason(fleet: PlanFleet) -> None:
    with pytest.raises(LevelTooLow):
        await take_back(fleet, somebody(level=Level.ADMIN))
    with pytest.raises(BadText):
        await take_back(fleet, a_deed(reason=""))


async def test_the_command_line_lists_what_was_taken_back(fleet: PlanFleet) -> None:
    plan = await fleet.draft()
    async with fleet.pool.transaction() as conn:
        await ledger.order(conn, await fleet.unit(2), DISABLE, a_deed(), Commands())

    words = ["restored", "--reason", "backup of 03:00"]
    result = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--json"])
    again = await asyncio.to_thread(CliRunner().invoke, app, words)

    assert result.exit_code == 0, result.output
    told_plan, told_command, counts = map(json.loads, result.stdout.splitlines())
    assert told_plan == {"plan": str(plan.id)}
    assert (told_command["unit"], told_command["reason"]) == (a_serial(2), a_deed().reason)
    assert counts == {"plans": 1, "commands": 1, "doubted": 0}
    assert again.stdout == "plans 0  commands 0  doubted 0\n"
