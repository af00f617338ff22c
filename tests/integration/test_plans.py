"""Plans on a real database: dry run, execution, waves and gates, caps, second person, cancel, undo."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from commands import bulk, dry_run, ledger, plans
from commands.bulk import Mandate
from commands.dry_run import PlanTooLarge
from commands.ledger import SecondPersonNeeded
from commands.plans import (
    MOVES,
    NothingToUndo,
    Plan,
    PlanElsewhere,
    PlanEmpty,
    PlanExpired,
    PlanGoesOn,
    PlanNotFound,
    State,
)
from commands.policy import Wish, WishMakesNoSense
from commands.selection import Exclusion, Filter, Listing, Matching, Reversal
from commands.waves import CAREFUL, Hold, Terms
from registry.lifecycle import Lifecycle
from registry.permissions import Level, LevelTooLow
from runtime import clock
from runtime.settings import Commands, Database, Plans
from storage.errors import DatabaseUnavailable, NotMigrated
from telemetry import alerts
from telemetry.alerts import Finding, Kind
from tests.builders import a_deed, a_serial, an_imei
from tests.plan_fleet import DISABLE, ENABLE, SETTINGS, PlanFleet, plan_fleet, somebody

WAVES = Terms(waves_pct=(10, 50, 100), gate_pct=80, abort_pct=20, abort_sample=2)


@pytest.fixture
async def fleet(database: Database) -> AsyncIterator[PlanFleet]:
    """Give twenty units that report enabled."""
    async with plan_fleet(database, 20) as opened:
        yield opened


async def open_commands(fleet: PlanFleet) -> int:
    return int(await fleet.value("SELECT count(*) FROM command WHERE finished_at IS NULL"))


async def test_a_plan_says_what_it_would_do_and_does_nothing_yet(fleet: PlanFleet) -> None:
    await fleet.sql("UPDATE unit SET lifecycle = 'TERMINATED' WHERE id = 1")
    await fleet.sql("UPDATE unit SET lifecycle = 'IN_REPAIR_SYSTEM' WHERE id = 2")
    await fleet.sql("UPDATE unit_status SET mode = 'd' WHERE unit_id = 3")
    await fleet.sql("UPDATE unit_status SET contact_at = now() - interval '3 d' WHERE unit_id = 4")

    plan = await fleet.draft()

    assert plan.state is State.READY
    assert plan.summary == {
        "listed": 20,
        "included": 17,
        "excluded": {"terminated": 1, "in_repair": 1, "not_enabled": 1},
        "by_entity": [{"entity_id": 2, "units": 8}, {"entity_id": 3, "units": 9}],
        "by_enable_status": {"enabled": 17},
        "by_contact": {
            "within_hour": 16,
            "within_day": 0,
            "within_week": 1,
            "within_month": 0,
            "longer_ago": 0,
            "never": 0,
        },
        "fleet": 19,
    }
    assert await open_commands(fleet) == 0
    await fleet.carry_out(plan)
    assert await open_commands(fleet) == 0


async def test_an_executed_plan_orders_every_unit_once_in_its_own_name(fleet: PlanFleet) -> None:
    plan = await fleet.draft()

    await fleet.execute(plan)
    done = await fleet.carry_out(plan)

    assert (done.state, done.ordered, done.dropped) == (State.ORDERED, 20, 0)
    lines = await fleet.lines(plan)
    assert {line.command_state for line in lines} == {"queued"}
    ids = [line.command_id for line in lines]
    assert len(set(ids)) == 20
    async with fleet.pool.transaction() as conn:
        assert ids[0] is not None
        command = await ledger.by_id(conn, ids[0])
        [ordered] = await ledger.events(conn, ids[0])
    assert (command.origin, command.plan_id, command.ordered_by) == ("plan", plan.id, "ada@example.com")
    assert (command.epoch, command.mode, command.reason) == (1, "offline_disabled", "not paid")
    assert ordered.evidence == {"reason": "not paid", "plan": str(plan.id)}
    desired = "SELECT count(*) FROM unit_intent WHERE desired = 'offline_disabled' AND epoch = 1"
    assert await fleet.value(desired) == 20
    audited = "SELECT string_agg(action, ' ' ORDER BY id) FROM audit WHERE object_id = %s"
    assert await fleet.value(audited, str(plan.id)) == "draft_plan execute_plan"


async def test_a_plan_of_nothing_cannot_be_executed(fleet: PlanFleet) -> None:
    plan = await fleet.listing([])

    assert plan.summary is not None
    assert (plan.summary["listed"], plan.included) == (0, 0)
    with pytest.raises(PlanEmpty):
        await fleet.execute(plan)


async def test_every_line_of_a_list_is_accounted_for(fleet: PlanFleet) -> None:
    """Bad input 25."""
    await fleet.sql(
        "INSERT INTO unit_alert (unit_id, kind, raised_at, last_at, evidence)"
        " VALUES (7, 'two_units', now(), now(), '{}')"
    )
    lines = [
        "\ufeffnote,IMEI\r\n",
        f"a,{an_imei(1)}\r\n",
        f'"b, quoted",="{an_imei(2)}"\r\n',
        f"c,{a_serial(3).lower()}\r\n",
        f"again,{an_imei(1)}\r\n",
        "\r\n",
        "=cmd(),=cmd()\r\n",
        f'"never closed,{an_imei(4)}\r\n',
        f"e,{an_imei(999)}\r\n",
        "f\r\n",
        "g,3.52099E+14\r\n",
        "h,\x00\x1b[31m%s'; DROP TABLE unit\r\n",
        f"clone,{an_imei(7)}",
    ]

    plan = await fleet.listing(lines)

    told = [(line.row, line.serial_number, line.exclusion) for line in await fleet.lines(plan)]
    assert told == [
        (2, a_serial(1), None),
        (3, a_serial(2), None),
        (4, None, Exclusion.NOT_A_NAME),
        (5, a_serial(1), Exclusion.TWICE),
        (7, None, Exclusion.NOT_A_NAME),
        (8, None, Exclusion.NOT_A_NAME),
        (9, None, Exclusion.UNKNOWN),
        (10, None, Exclusion.NOT_A_NAME),
        (11, None, Exclusion.NOT_A_NAME),
        (12, None, Exclusion.NOT_A_NAME),
        (13, a_serial(7), Exclusion.SUSPECTED_CLONE),
    ]
    given = {line.row: line.given for line in await fleet.lines(plan)}
    assert given[7] == "=cmd()"
    assert given[12] == "\ufffd\ufffd[31m%s'; DROP TABLE unit"


async def test_a_list_without_a_heading_has_its_names_in_the_first_column(fleet: PlanFleet) -> None:
    plan = await fleet.listing([f"{an_imei(1)},x\n", f"{a_serial(2)}\n"])

    assert [(line.row, line.exclusion) for line in await fleet.lines(plan)] == [(1, None), (2, None)]


@pytest.mark.parametrize(
    ("heading", "lost_a_digit", "imei", "serial"),
    [
        ("imei", Exclusion.NOT_A_NAME, None, Exclusion.NOT_A_NAME),
        ("Serial_Number", None, Exclusion.UNKNOWN, None),
        ("serial", None, Exclusion.UNKNOWN, None),
        ("unit", None, None, None),
        (None, None, None, None),
    ],
)
async def test_a_heading_says_which_names_stand_below_it(
    fleet: PlanFleet,
    heading: str | None,
    lost_a_digit: Exclusion | None,
    imei: Exclusion | None,
    serial: Exclusion | None,
) -> None:
    """What is left of an IMEI that lost its first digit is another unit's serial number."""
    await fleet.sql("UPDATE unit SET serial_number = %s WHERE id = 2", an_imei(1)[1:])
    names = [an_imei(1)[1:], an_imei(3), a_serial(4)]

    plan = await fleet.listing(names if heading is None else [heading, *names])

    assert [line.exclusion for line in await fleet.lines(plan)] == [lost_a_digit, imei, serial]


async def test_a_foreign_unit_cannot_be_told_from_one_that_is_not_there(fleet: PlanFleet) -> None:
    own = somebody("eve", Level.ADMIN, frozenset({2}))

    plan = await fleet.listing([an_imei(1), an_imei(2), an_imei(999)], deed=own)
    matching = await fleet.draft(deed=own)

    told = [(line.serial_number, line.exclusion) for line in await fleet.lines(plan)]
    assert told == [(a_serial(1), None), (None, Exclusion.UNKNOWN), (None, Exclusion.UNKNOWN)]
    assert matching.included == 10
    with pytest.raises(PlanNotFound):
        async with fleet.pool.transaction() as conn:
            await plans.by_id(conn, plan.id, frozenset({3}))


async def test_a_unit_that_moved_away_after_the_dry_run_is_not_ordered(fleet: PlanFleet) -> None:
    own = somebody("eve", Level.ADMIN, frozenset({2}))
    plan = await fleet.listing([an_imei(1), an_imei(3)], deed=own)
    await fleet.sql("UPDATE unit SET entity_id = 3 WHERE id = 3")

    await fleet.execute(plan, own)
    done = await fleet.carry_out(plan)

    assert (done.ordered, done.dropped) == (1, 1)
    told = [(line.serial_number, line.exclusion) for line in await fleet.lines(plan, frozenset({2}))]
    assert told == [(a_serial(1), None), (None, Exclusion.UNKNOWN)]


@pytest.mark.parametrize(
    ("wanted", "included"),
    [
        (Filter(entity_id=2), 10),
        (Filter(product_type="large"), 1),
        (Filter(lifecycle=Lifecycle.STORED), 19),
        (Filter(serial_prefix="HB00001"), 10),
        (Filter(enable_status="disabled"), 0),
        (Filter(silent_s=3600), 2),
        (Filter(heard_s=3600), 18),
        (Filter(entity_id=3, silent_s=3600), 1),
    ],
)
async def test_a_filter_narrows(fleet: PlanFleet, wanted: Filter, included: int) -> None:
    await fleet.sql("UPDATE unit SET product_type = 'large', lifecycle = 'SHIPPED' WHERE id = 9")
    await fleet.sql("UPDATE unit_status SET contact_at = NULL WHERE unit_id = 1")
    await fleet.sql("UPDATE unit_status SET contact_at = now() - interval '2 h' WHERE unit_id = 2")

    plan = await fleet.draft(source=Matching(wanted))

    assert plan.included == included


async def test_what_changed_since_the_dry_run_is_left_out_with_its_reason(fleet: PlanFleet) -> None:
    plan = await fleet.listing([an_imei(number) for number in range(1, 6)])
    await fleet.sql("UPDATE unit SET lifecycle = 'TERMINATED' WHERE id = 1")
    await fleet.sql("UPDATE unit_status SET mode = 'o' WHERE unit_id = 2")
    async with fleet.pool.transaction() as conn:
        for number, wish in ((3, DISABLE), (4, ENABLE)):
            await ledger.order(conn, await fleet.unit(number), wish, a_deed(), Commands())

    await fleet.execute(plan)
    await fleet.carry_out(plan)

    assert [line.exclusion for line in await fleet.lines(plan)] == [
        Exclusion.TERMINATED,
        Exclusion.ALREADY_SO,
        Exclusion.ALREADY_PENDING,
        Exclusion.NOT_ENABLED,
        None,
    ]


async def test_what_is_ordered_of_units_that_are_away_waits_for_their_contact(fleet: PlanFleet) -> None:
    await fleet.sql("UPDATE unit_status SET presence = 'online' WHERE unit_id = 1")
    await fleet.sql("UPDATE unit_status SET live_contact_at = now() WHERE unit_id = 2")
    await fleet.sql("UPDATE unit_status SET live_contact_at = now() - interval '1 h' WHERE unit_id = 3")
    plan = await fleet.listing([an_imei(number) for number in (1, 2, 3, 4)])

    await fleet.execute(plan)
    await fleet.carry_out(plan)

    due = "SELECT string_agg((due_at < expires_at)::text, ' ' ORDER BY unit_id) FROM command"
    assert await fleet.value(due) == "true true false false"


async def test_an_enable_takes_the_place_of_a_disable_under_way(fleet: PlanFleet) -> None:
    disabling = await fleet.draft()
    await fleet.execute(disabling)
    await fleet.carry_out(disabling)

    enabling = await fleet.draft(ENABLE)
    await fleet.execute(enabling)
    await fleet.carry_out(enabling)

    assert {line.command_state for line in await fleet.lines(disabling)} == {"superseded"}
    assert {line.command_state for line in await fleet.lines(enabling)} == {"queued"}
    assert await fleet.value("SELECT count(*) FROM unit_intent WHERE desired = 'enabled' AND epoch = 2") == 20


async def test_an_enable_takes_the_place_of_a_disable_that_waits_for_a_second_person(
    fleet: PlanFleet,
) -> None:
    unit = await fleet.unit(1)
    async with fleet.pool.transaction() as conn:
        await alerts.raise_all(conn, [Finding(unit.id, Kind.TWO_UNITS, {})], now=clock.now())
        await ledger.order(conn, unit, DISABLE, a_deed(), Commands())

    plan = await fleet.listing([an_imei(1), an_imei(2)], ENABLE)
    await fleet.execute(plan)
    await fleet.carry_out(plan)

    assert [line.exclusion for line in await fleet.lines(plan)] == [None, Exclusion.ALREADY_SO]
    assert await fleet.value("SELECT string_agg(state, ' ' ORDER BY id) FROM command") == "superseded queued"


async def test_who_was_wanted_enabled_after_a_plan_was_made_is_not_switched_off_by_it(
    fleet: PlanFleet,
) -> None:
    """Also where the unit was enabled already, so that nothing new was ordered."""
    paid = await fleet.unit(1)
    async with fleet.pool.transaction() as conn:
        await ledger.order(conn, await fleet.unit(2), ENABLE, a_deed(), Commands())
    await fleet.sql("UPDATE command SET state = 'confirmed', finished_at = now()")
    plan = await fleet.listing([an_imei(1), an_imei(2), an_imei(3)])
    await fleet.execute(plan)
    async with fleet.pool.transaction() as conn:
        await ledger.order(conn, paid, ENABLE, a_deed(), Commands())
    await fleet.sql("UPDATE command SET state = 'confirmed', finished_at = now() WHERE finished_at IS NULL")

    await fleet.carry_out(plan)

    assert [line.exclusion for line in await fleet.lines(plan)] == [Exclusion.ENABLED_SINCE, None, None]


@pytest.mark.parametrize("off", [None, 3])
async def test_a_plan_that_enables_speaks_for_units_that_it_leaves_out(
    fleet: PlanFleet, off: int | None
) -> None:
    """A list of those who have paid; most of them are on. Whether or not anything is to be ordered of it."""
    disabling = await fleet.draft()
    await fleet.execute(disabling)
    if off is not None:
        await fleet.sql("UPDATE unit_status SET mode = 'o' WHERE unit_id = %s", off)
    enabling = await fleet.listing([an_imei(1), an_imei(2), an_imei(3)], ENABLE)
    await fleet.execute(enabling)

    await fleet.carry_out(enabling)
    await fleet.carry_out(disabling)

    assert (await fleet.plan(enabling)).state is State.ORDERED
    left_out = [line.exclusion for line in await fleet.lines(disabling)]
    already = Exclusion.ENABLED_SINCE
    assert left_out == [already, already, Exclusion.NOT_ENABLED if off else already] + [None] * 17


async def test_a_plan_that_enables_reaches_who_was_told_to_go_dark_after_its_dry_run(
    fleet: PlanFleet,
) -> None:
    """A list of those who have paid, drafted while all of them are on, and executed after another plan."""
    enabling = await fleet.listing([an_imei(number) for number in (1, 2, 3)], ENABLE)
    disabling = await fleet.listing([an_imei(number) for number in (1, 2)])
    await fleet.execute(disabling)
    await fleet.carry_out(disabling)
    await fleet.ends(disabling, "confirmed", 1)

    executed = await fleet.execute(enabling)
    done = await fleet.carry_out(enabling)

    assert executed.summary is not None
    assert (executed.summary["included"], executed.included) == (0, 3)
    assert (done.state, done.ordered, done.dropped) == (State.ORDERED, 2, 1)
    told = [(line.command_state, line.exclusion) for line in await fleet.lines(enabling)]
    assert told == [("queued", None), ("queued", None), (None, Exclusion.ALREADY_SO)]
    assert [line.command_state for line in await fleet.lines(disabling)] == ["confirmed", "superseded"]
    assert await fleet.value("SELECT count(*) FROM unit_intent WHERE desired = 'offline_disabled'") == 0


async def test_an_undo_reaches_who_was_to_be_on_already_and_was_told_to_go_dark_since(
    fleet: PlanFleet,
) -> None:
    plan = await fleet.listing([an_imei(1), an_imei(2), an_imei(3)])
    await fleet.execute(plan)
    await fleet.carry_out(plan)
    await fleet.ends(plan, "confirmed")
    first = await fleet.unit(1)
    async with fleet.pool.transaction() as conn:
        for unit in (first, await fleet.unit(2)):
            await ledger.order(conn, unit, ENABLE, a_deed(), Commands())
    undo = await fleet.draft(ENABLE, source=Reversal(plan.id), undo_of=plan.id)
    async with fleet.pool.transaction() as conn:
        await conn.execute("UPDATE unit_status SET mode = 'e', epoch = 2 WHERE unit_id = 1")
        await conn.execute("UPDATE command SET state = 'confirmed', finished_at = now() WHERE unit_id = 1")
        await ledger.order(conn, first, DISABLE, a_deed(), Commands())

    executed = await fleet.execute(undo)
    done = await fleet.carry_out(undo)

    assert undo.summary is not None
    assert undo.summary["excluded"] == {"already_pending": 2}
    assert (undo.included, executed.included, done.ordered, done.dropped) == (1, 3, 2, 1)
    assert [line.exclusion for line in await fleet.lines(undo)] == [None, Exclusion.ALREADY_PENDING, None]


async def test_a_low_rate_counts_orders_and_passes_over_who_is_on(fleet: PlanFleet) -> None:
    await fleet.sql("UPDATE unit_status SET mode = 'd' WHERE unit_id IN (10, 20)")
    plan = await fleet.draft(ENABLE, Terms(rate_per_s=1))
    await fleet.execute(plan)
    executor = fleet.executor()

    await fleet.passes_time()
    await executor.step()
    first = await fleet.plan(plan)
    await fleet.passes_time()
    await executor.step()
    second = await fleet.plan(plan)

    assert (first.included, first.ordered, first.dropped, first.place) == (20, 1, 18, 19)
    assert (second.ordered, second.dropped, second.place) == (2, 18, 20)
    assert (await fleet.carry_out(plan)).state is State.ORDERED


async def test_a_plan_that_an_older_release_executed_orders_what_that_counted(fleet: PlanFleet) -> None:
    """It was let go with those alone that its dry run had found fit."""
    await fleet.sql("UPDATE unit_status SET mode = 'd' WHERE unit_id = 20")
    plan = await fleet.draft(ENABLE)
    await fleet.execute(plan)
    await fleet.sql("UPDATE command_plan SET included = 1")

    done = await fleet.carry_out(plan)

    assert (done.state, done.ordered, done.dropped) == (State.ORDERED, 1, 0)


async def test_who_had_a_disable_taken_back_is_not_switched_off_by_an_older_plan(fleet: PlanFleet) -> None:
    plan = await fleet.listing([an_imei(1), an_imei(2)])
    await fleet.execute(plan)
    async with fleet.pool.transaction() as conn:
        ordered = await ledger.order(conn, await fleet.unit(1), DISABLE, a_deed(), Commands())
    async with fleet.pool.transaction() as conn:
        await ledger.cancel(conn, ordered.command.id, a_deed())

    await fleet.carry_out(plan)

    assert [line.exclusion for line in await fleet.lines(plan)] == [Exclusion.ENABLED_SINCE, None]


async def test_an_enable_under_way_does_not_let_a_disable_wait_for_its_approval(fleet: PlanFleet) -> None:
    async with fleet.pool.transaction() as conn:
        await alerts.raise_all(conn, [Finding(1, Kind.TWO_UNITS, {})], now=clock.now())
        await ledger.order(conn, await fleet.unit(1), ENABLE, a_deed(), Commands())
    await fleet.sql(
        "INSERT INTO command (id, unit_id, kind, mode, after_s, epoch, state, reason, ordered_by, ordered_at,"
        " expires_at, due_at) SELECT gen_random_uuid(), 1, 'set_mode', 'offline_disabled', 0, 0,"
        " 'awaiting_approval', 'x', 'x', now(), now() + interval '1 d', now() + interval '1 d'"
    )

    plan = await fleet.listing([an_imei(1)], ENABLE)
    await fleet.execute(plan)
    await fleet.carry_out(plan)

    assert [line.exclusion for line in await fleet.lines(plan)] == [None]
    states = "SELECT string_agg(mode || ' ' || state, ', ' ORDER BY ordered_at, mode) FROM command"
    assert await fleet.value(states) == ("enabled superseded, offline_disabled superseded, enabled queued")


async def test_an_expired_plan_orders_nothing(fleet: PlanFleet) -> None:
    plan = await fleet.draft()
    await fleet.sql("UPDATE command_plan SET expires_at = now() - interval '1 s'")

    with pytest.raises(PlanExpired):
        await fleet.execute(plan)

    assert (await fleet.plan(plan)).state is State.EXPIRED


async def test_the_next_wave_waits_for_its_gate(fleet: PlanFleet) -> None:
    plan = await fleet.draft(terms=WAVES)
    await fleet.execute(plan)

    first = await fleet.carry_out(plan)
    assert (first.ordered, first.waits_for) == (2, Hold.GATE)
    await fleet.ends(plan, "confirmed", 1)
    assert (await fleet.carry_out(plan)).ordered == 2
    await fleet.ends(plan, "confirmed")
    second = await fleet.carry_out(plan)

    assert (second.ordered, second.waits_for) == (10, Hold.GATE)
    await fleet.ends(plan, "confirmed", 6)
    assert (await fleet.carry_out(plan)).state is State.ORDERED


async def test_a_plan_whose_commands_fail_is_given_up(fleet: PlanFleet) -> None:
    plan = await fleet.draft(terms=WAVES)
    await fleet.execute(plan)
    await fleet.carry_out(plan)

    await fleet.ends(plan, "refused", 1)
    assert (await fleet.carry_out(plan)).state is State.RUNNING
    await fleet.ends(plan, "confirmed", 1)
    given_up = await fleet.carry_out(plan)

    assert (given_up.state, given_up.ordered) == (State.ABORTED, 2)
    assert given_up.aborted_because == {"failed": 1, "ended": 2, "abort_pct": 20}
    assert (await fleet.carry_out(plan)).ordered == 2


async def test_a_wave_that_ended_behind_a_shut_gate_is_the_last(fleet: PlanFleet) -> None:
    """It had fewer commands than the sample; evidence months later is no reason to switch off many."""
    plan = await fleet.draft(terms=CAREFUL)
    await fleet.execute(plan)
    await fleet.carry_out(plan)

    await fleet.ends(plan, "expired")
    given_up = await fleet.carry_out(plan)
    await fleet.sql("UPDATE command SET state = 'confirmed'")

    assert (given_up.state, given_up.ordered) == (State.ABORTED, 1)
    assert given_up.aborted_because == {"failed": 1, "ended": 1, "gate_pct": 90}
    assert (await fleet.carry_out(plan)).ordered == 1
    plans.require_undoable(given_up)


async def test_nothing_gives_up_a_plan_that_enables(fleet: PlanFleet) -> None:
    await fleet.sql("UPDATE unit_status SET mode = 'd'")
    plan = await fleet.draft(ENABLE)
    await fleet.execute(plan)
    executor = fleet.executor()
    await fleet.sql("UPDATE command_plan SET rate_per_s = 2, metered_at = now() - interval '10 s'")
    await executor.step()
    await fleet.ends(plan, "refused")

    done = await fleet.carry_out(plan)

    assert (done.state, done.ordered) == (State.ORDERED, 20)
    for held in (Terms(waves_pct=(50, 100)), Terms(gate_pct=1), Terms(abort_pct=99)):
        with pytest.raises(WishMakesNoSense):
            await fleet.draft(ENABLE, held)


async def test_the_rate_bounds_what_a_step_orders(fleet: PlanFleet) -> None:
    plan = await fleet.draft(terms=Terms(rate_per_s=4))
    await fleet.execute(plan)
    executor = fleet.executor()

    await fleet.sql("UPDATE command_plan SET next_at = now(), metered_at = now() + interval '1 h'")
    await executor.step()
    assert (await fleet.plan(plan)).ordered == 0
    await fleet.passes_time()
    due = await fleet.plan(plan)
    await executor.step()

    done = await fleet.plan(plan)
    assert done.ordered == 4
    assert done.next_at >= due.read_at + timedelta(seconds=1 / 4)


@pytest.mark.parametrize("rate", [1e-300, 1e-11, 1e-5])
async def test_a_plan_that_was_kept_with_next_to_no_rate_goes_on(fleet: PlanFleet, rate: float) -> None:
    plan = await fleet.draft()
    await fleet.execute(plan)
    await fleet.sql("UPDATE command_plan SET rate_per_s = %s", rate)
    executor = fleet.executor()

    await executor.step()
    waiting = await fleet.plan(plan)
    await fleet.sql("UPDATE command_plan SET next_at = now(), metered_at = now() - interval '9 d'")
    await executor.step()

    assert waiting.waits_for is Hold.RATE
    assert waiting.next_at <= waiting.read_at + timedelta(days=2)
    assert (await fleet.plan(plan)).ordered == 1


async def test_a_plan_slower_than_one_command_an_hour_cannot_be_made(fleet: PlanFleet) -> None:
    with pytest.raises(WishMakesNoSense):
        await fleet.draft(terms=Terms(rate_per_s=1 / 3601))


@pytest.mark.parametrize(
    ("wish", "state", "told"),
    [
        (DISABLE, State.PAUSED, "pause_plan: Its step failed: ArithmeticError: too small to count"),
        (ENABLE, State.RUNNING, None),
    ],
)
async def test_a_plan_whose_step_fails_stops_itself_alone(
    fleet: PlanFleet, monkeypatch: pytest.MonkeyPatch, wish: Wish, state: State, told: str | None
) -> None:
    """One that enables is tried again: nothing but a person stops it."""
    await fleet.sql("UPDATE unit_status SET mode = 'd' WHERE unit_id = 1")
    plan = await fleet.listing([an_imei(1), an_imei(2)], wish)
    other = await fleet.listing([an_imei(3)])
    await fleet.execute(plan)
    await fleet.sql("UPDATE command_plan SET next_at = now() - interval '1 h'")
    await fleet.execute(other)
    whole = bulk.order_all

    async def broken(conn: Any, ids: Any, wish: Any, mandate: Mandate, settings: Any) -> Any:
        done = await whole(conn, ids, wish, mandate, settings)
        if mandate.plan_id == plan.id:
            raise ArithmeticError("too small\nto count")
        return done

    monkeypatch.setattr(bulk, "order_all", broken)
    await fleet.passes_time()
    executor = fleet.executor()
    while await executor.step():
        pass

    failed = await fleet.plan(plan)
    assert (failed.state, failed.ordered, failed.place) == (state, 0, 0)
    assert (await fleet.plan(other)).state is State.ORDERED
    audited = "SELECT action || ': ' || reason FROM audit WHERE actor = 'heliograph' AND object_id = %s"
    assert await fleet.value(audited, str(plan.id)) == told
    monkeypatch.undo()
    if failed.state is State.PAUSED:
        await fleet.act(plans.resume, plan)
    assert (await fleet.carry_out(plan)).ordered == 1


async def test_a_failed_step_of_a_plan_that_was_cancelled_meanwhile_leaves_it_cancelled(
    fleet: PlanFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await fleet.draft()
    await fleet.execute(plan)
    await fleet.passes_time()
    lock = plans.lock

    async def late(*args: Any) -> Plan:
        await fleet.sql("UPDATE command_plan SET state = 'cancelled', finished_at = now()")
        return await lock(*args)

    async def broken(*_: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr(bulk, "order_all", broken)
    monkeypatch.setattr(plans, "lock", late)
    await fleet.executor().step()

    assert (await fleet.plan(plan)).state is State.CANCELLED


async def test_a_step_that_fails_before_it_holds_a_plan_is_not_held_against_one(
    fleet: PlanFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await fleet.draft()
    await fleet.execute(plan)
    await fleet.passes_time()

    with monkeypatch.context() as patch:
        patch.setattr(Plan, "from_row", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await fleet.executor().step()

    assert (await fleet.plan(plan)).state is State.RUNNING


@pytest.mark.parametrize("lost", [DatabaseUnavailable("gone"), NotMigrated("old")])
async def test_what_is_no_fault_of_a_plan_is_not_held_against_it(
    fleet: PlanFleet, monkeypatch: pytest.MonkeyPatch, lost: Exception
) -> None:
    plan = await fleet.draft()
    await fleet.execute(plan)
    await fleet.passes_time()

    async def broken(*_: Any) -> None:
        raise lost

    monkeypatch.setattr(bulk, "order_all", broken)
    with pytest.raises(type(lost)):
        await fleet.executor().step()

    assert (await fleet.plan(plan)).state is State.RUNNING


async def test_a_day_s_cap_holds_every_plan_that_disables(fleet: PlanFleet) -> None:
    capped = Plans(plan_disables_per_day=5)
    first = await fleet.listing([an_imei(number) for number in range(1, 4)])
    second = await fleet.listing([an_imei(number) for number in range(4, 9)])
    for plan in (first, second):
        await fleet.execute(plan)

    await fleet.carry_out(first, settings=capped)
    held = await fleet.carry_out(second, settings=capped)
    assert (held.ordered, held.waits_for) == (2, Hold.DAILY_CAP)
    assert (await fleet.carry_out(second, settings=capped)).ordered == 2
    await fleet.sql("UPDATE command SET ordered_at = ordered_at - interval '25 h'")
    freed = await fleet.carry_out(second, settings=capped)

    assert (freed.state, freed.ordered) == (State.ORDERED, 5)


async def test_many_disables_need_another_person(fleet: PlanFleet) -> None:
    fleet.settings = Plans(plan_second_person_above=3)
    plan = await fleet.draft(deed=somebody("author", Level.ADMIN))

    waiting = await fleet.execute(plan, somebody("executor", Level.ADMIN))
    assert waiting.state is State.AWAITING_APPROVAL
    assert (await fleet.carry_out(plan)).ordered == 0
    for name in ("author", "executor"):
        with pytest.raises(SecondPersonNeeded):
            await fleet.act(plans.approve, plan, somebody(name, Level.ADMIN))
    with pytest.raises(LevelTooLow):
        await fleet.act(plans.approve, plan, somebody("other", Level.TECHNICAL))
    approved = await fleet.act(plans.approve, plan, somebody("other", Level.ADMIN))

    assert (approved.state, approved.approved_by) == (State.RUNNING, "other@example.com")
    assert (await fleet.carry_out(plan)).ordered > 0


async def test_enables_and_few_disables_need_no_other_person(fleet: PlanFleet) -> None:
    fleet.settings = Plans(plan_second_person_above=3)
    few = await fleet.listing([an_imei(number) for number in (1, 2, 3)])
    await fleet.sql("UPDATE unit_status SET mode = 'd' WHERE unit_id > 3")
    many = await fleet.draft(ENABLE)

    assert (await fleet.execute(few)).state is State.RUNNING
    assert (await fleet.execute(many)).state is State.RUNNING


async def test_disables_need_the_admin_level_and_enables_the_technical(fleet: PlanFleet) -> None:
    technical = somebody("tim", Level.TECHNICAL)
    with pytest.raises(LevelTooLow):
        await fleet.draft(deed=technical)
    with pytest.raises(LevelTooLow):
        await fleet.draft(ENABLE, deed=somebody("olga", Level.OVERVIEW))
    plan = await fleet.draft()
    with pytest.raises(LevelTooLow):
        await fleet.execute(plan, technical)

    await fleet.execute(plan)
    await fleet.act(plans.pause, plan, technical)
    with pytest.raises(LevelTooLow):
        await fleet.act(plans.resume, plan, technical)
    cancelled = await fleet.act(plans.cancel, plan, technical)

    assert cancelled.state is State.CANCELLED


async def test_a_paused_plan_orders_nothing_until_it_is_resumed(fleet: PlanFleet) -> None:
    plan = await fleet.draft(terms=Terms(rate_per_s=5))
    await fleet.execute(plan)
    await fleet.passes_time()
    await fleet.executor().step()

    await fleet.act(plans.pause, plan)
    assert (await fleet.carry_out(plan)).ordered == 5
    await fleet.act(plans.resume, plan)

    assert (await fleet.carry_out(plan)).ordered == 20


async def test_a_cancelled_plan_leaves_what_it_ordered_and_can_be_undone(fleet: PlanFleet) -> None:
    plan = await fleet.draft(terms=Terms(rate_per_s=5))
    await fleet.execute(plan)
    await fleet.passes_time()
    await fleet.executor().step()
    await fleet.passes_time()
    await fleet.executor().step()
    await fleet.ends(plan, "confirmed", 3)
    with pytest.raises(PlanGoesOn):
        plans.require_undoable(await fleet.plan(plan))

    cancelled = await fleet.act(plans.cancel, plan)
    plans.require_undoable(await fleet.plan(plan))
    undo = await fleet.draft(ENABLE, source=Reversal(plan.id), undo_of=plan.id)
    await fleet.execute(undo)
    undone = await fleet.carry_out(undo)

    assert (cancelled.ordered, undone.included, undone.ordered) == (10, 10, 10)
    assert undone.undo_of == plan.id
    assert {line.command_state for line in await fleet.lines(plan)} == {"confirmed", "superseded", None}
    assert await fleet.value("SELECT count(*) FROM unit_intent WHERE desired = 'offline_disabled'") == 0


async def test_a_plan_that_disabled_nothing_cannot_be_undone(fleet: PlanFleet) -> None:
    await fleet.sql("UPDATE unit_status SET mode = 'd'")
    enabling = await fleet.draft(ENABLE)
    await fleet.execute(enabling)

    with pytest.raises(NothingToUndo):
        plans.require_undoable(await fleet.carry_out(enabling))


@pytest.mark.parametrize("act", [plans.approve, plans.pause, plans.resume])
async def test_what_a_plan_s_state_does_not_allow_is_refused(fleet: PlanFleet, act: object) -> None:
    plan = await fleet.draft()

    with pytest.raises(PlanElsewhere):
        await fleet.act(act, plan)
    await fleet.act(plans.cancel, plan)
    with pytest.raises(PlanElsewhere):
        await fleet.act(plans.cancel, plan)
    with pytest.raises(PlanElsewhere):
        await fleet.execute(plan)


async def test_a_list_that_is_too_long_is_refused(fleet: PlanFleet) -> None:
    fleet.settings = Plans(plan_units_max=3)

    with pytest.raises(PlanTooLarge):
        await fleet.listing([an_imei(number) for number in range(1, 5)])


async def test_a_dry_run_that_broke_off_can_never_be_executed(fleet: PlanFleet) -> None:
    draft = plans.Draft(wish=DISABLE, terms=Terms(), scope=None)
    plan_id, _ = await dry_run.perform(fleet.pool, draft, Listing([an_imei(1)], ""), somebody(), SETTINGS)

    with pytest.raises(PlanElsewhere):
        async with fleet.pool.transaction() as conn:
            await plans.execute_plan(conn, plan_id, somebody(), SETTINGS)


async def test_executors_beside_one_another_order_nothing_twice(database: Database) -> None:
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(plan_fleet(database, 300))
        plan = await fleet.draft(terms=Terms(rate_per_s=100_000))
        other = await fleet.draft(terms=Terms(rate_per_s=100_000))
        for one in (plan, other):
            await fleet.execute(one)
        stop = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(fleet.executor().serve(stop))
            while {(await fleet.plan(one)).state for one in (plan, other)} != {State.ORDERED}:
                await asyncio.sleep(0.02)
            stop.set()

        assert await open_commands(fleet) == 300
        assert await fleet.value("SELECT count(*) FROM command") == 300
        assert await fleet.value("SELECT max(epoch) FROM command") == 1
        lines = [*await fleet.lines(plan), *await fleet.lines(other)]
        ordered = [line.command_id for line in lines if isinstance(line.command_id, UUID)]
        assert len(ordered) == len(set(ordered)) == 300
        assert {line.exclusion for line in lines} == {None, Exclusion.ALREADY_PENDING}


def test_a_plan_ends_where_nothing_leaves_it() -> None:
    assert {state for state, away in MOVES.items() if not away} == plans.FINAL | {State.EXPIRED}
    assert set(MOVES) == set(State)
