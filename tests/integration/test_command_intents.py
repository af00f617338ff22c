"""A wish outlives its command: what contradicts it is kept, and it goes out again or waits for a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from commands import drift, ledger, restored, selection
from commands.docket import Command, Origin
from commands.drift import Drift, Resolution
from commands.intent import Cause
from commands.ledger import ChangedHands, CommandEnded, NothingToApprove, SecondPersonNeeded
from commands.policy import NotEnabled, Wish
from commands.resolving import AwaitsApproval, Decision, NotAcceptable, NothingWanted, resolve
from commands.states import State
from protocol.messages import AckResult, CommandKind, Mode
from registry import entities, ownership
from registry.lifecycle import Lifecycle
from registry.permissions import Level
from runtime import clock
from runtime.errors import Forbidden, NotFound
from telemetry import alerts
from telemetry.alerts import Finding, Kind
from tests.builders import a_caller, a_deed
from tests.integration.test_commands import DISABLE, ENABLE, PING, SETTINGS, System, enabled, system

__all__ = ["enabled", "system"]
ARMED = Wish(kind=CommandKind.SET_MODE, mode=Mode.OFFLINE_DISABLED, after_s=86_400)
OTHER = "grace@example.com"


async def drifts(system: System) -> list[Drift]:
    """Give the unit's drifts, oldest first."""
    async with system.pool.transaction() as conn:
        return (await drift.of_unit(conn, system.unit.id, limit=99))[::-1]


async def open_causes(system: System) -> list[Cause]:
    """Give the causes of what is open."""
    return [one.cause for one in await drifts(system) if one.closed_at is None]


async def decides(system: System, found: Drift, decision: Decision, **by: Any) -> Drift:
    """Settle a drift as a person does."""
    async with system.pool.transaction() as conn:
        return await resolve(conn, found.id, decision, a_deed(by=a_caller(**by)), SETTINGS)


async def again(system: System) -> Command:
    """Give the command that the system made by itself."""
    command = await system.open_command()
    assert command is not None
    assert command.origin is Origin.INTENT
    return command


@pytest.fixture
async def disabled(enabled: System) -> System:
    """Give a system whose unit was offline-disabled, and has proven it under epoch 1."""
    await enabled.obeys(await enabled.order(DISABLE))
    return enabled


# -- repeating, cancelling, approving


async def test_a_wish_that_is_pending_or_holds_gives_the_command_that_carries_it_out(enabled: System) -> None:
    first = await enabled.order(DISABLE)

    assert (await enabled.order(DISABLE)).id == first.id
    await enabled.obeys(first)
    assert (await enabled.order(DISABLE)).id == first.id
    with pytest.raises(NotEnabled):
        await enabled.order(ARMED)
    enable = await enabled.order(ENABLE)
    assert enable.id != first.id
    await enabled.obeys(enable)
    assert (await enabled.order(ENABLE)).id == enable.id


async def test_a_cancelled_command_is_not_sent_and_says_why(enabled: System) -> None:
    command = await enabled.order(DISABLE)

    cancelled = await enabled.cancel(command, level=Level.TECHNICAL)

    assert cancelled.state is State.CANCELLED
    assert await enabled.dispatcher.step() == 0
    assert await enabled.events(command) == ["ordered", "cancelled"]
    assert (await enabled.cancel(command)).state is State.CANCELLED
    await enabled.reports(Mode.ENABLED)
    assert await enabled.open_command() is None
    with pytest.raises(Forbidden):
        await enabled.cancel(await enabled.order(PING), level=Level.OVERVIEW)


async def test_what_has_ended_otherwise_cannot_be_cancelled(disabled: System) -> None:
    ended = await disabled.order(DISABLE)

    with pytest.raises(CommandEnded, match="confirmed"):
        await disabled.cancel(ended)


async def test_a_suspected_clone_is_switched_off_only_with_a_second_person(enabled: System) -> None:
    await enabled.may_be_two()
    command = await enabled.order(DISABLE)

    assert (command.state, command.epoch) == (State.AWAITING_APPROVAL, 0)
    assert await enabled.dispatcher.step() == 0
    assert (await enabled.standing()).enable_status == "enabled"
    with pytest.raises(SecondPersonNeeded):
        await enabled.approve(command)
    with pytest.raises(Forbidden):
        await enabled.approve(command, email=OTHER, level=Level.TECHNICAL)
    approved = await enabled.approve(command, email=OTHER)
    assert (approved.state, approved.epoch, approved.approved_by) == (State.QUEUED, 1, OTHER)
    with pytest.raises(NothingToApprove):
        await enabled.approve(command, email=OTHER)
    await enabled.obeys(approved)


async def test_what_waits_for_approval_wins_over_nothing_and_an_enable_takes_its_place(
    enabled: System,
) -> None:
    await enabled.obeys(await enabled.order(ENABLE))
    await enabled.may_be_two()
    waits = await enabled.order(DISABLE)
    assert (await enabled.order(DISABLE)).id == waits.id

    newest = await enabled.order(ENABLE)

    assert (newest.state, newest.epoch) == (State.QUEUED, 2)
    assert await enabled.state(waits) is State.SUPERSEDED


async def test_what_waits_for_approval_keeps_no_enable_back(enabled: System) -> None:
    await enabled.obeys(await enabled.order(ENABLE))
    await enabled.may_be_two()
    waits = await enabled.order(DISABLE)

    await enabled.reports(Mode.DISABLED, 1)

    async with enabled.pool.transaction() as conn:
        newest, *_ = await ledger.of_unit(conn, enabled.unit.id, limit=1)
    assert (newest.mode, newest.origin, newest.state) == (Mode.ENABLED, Origin.INTENT, State.QUEUED)
    assert await enabled.state(waits) is State.AWAITING_APPROVAL


async def test_an_approval_asks_again_whether_the_unit_is_enabled(enabled: System) -> None:
    await enabled.may_be_two()
    command = await enabled.order(DISABLE)
    await enabled.reports(Mode.DISABLED)

    with pytest.raises(NotEnabled):
        await enabled.approve(command, email=OTHER)

    assert await enabled.state(command) is State.AWAITING_APPROVAL


# -- drift


async def test_a_contradiction_is_sent_again_a_few_times_and_then_waits_for_a_person(
    disabled: System,
) -> None:
    for number in range(SETTINGS.command_drift_sendings):
        await disabled.reports(Mode.ENABLED, 1 + number)
        command = await again(disabled)
        assert (command.mode, command.epoch) == (Mode.OFFLINE_DISABLED, 2 + number)
        await disabled.makes_due(command)
        await disabled.dispatcher.step()
        await disabled.reports(Mode.OFFLINE_DISABLED, command.epoch)

    await disabled.reports(Mode.ENABLED, 1 + SETTINGS.command_drift_sendings)
    await disabled.reports(Mode.ENABLED, 1 + SETTINGS.command_drift_sendings)

    assert await disabled.open_command() is None
    [found] = await drifts(disabled)
    assert (found.cause, found.sendings) == (Cause.MODE_DIFFERS, SETTINGS.command_drift_sendings)
    assert (found.desired, found.reported_mode) == (Mode.OFFLINE_DISABLED, Mode.ENABLED)
    assert found.gave_up_at is not None


async def test_accord_closes_a_contradiction(disabled: System) -> None:
    await disabled.reports(Mode.ENABLED, 1)

    await disabled.obeys(await again(disabled))

    [found] = await drifts(disabled)
    assert (found.resolution, found.closed_by) == (Resolution.IN_ACCORD, "heliograph")


async def test_what_waited_on_its_way_contradicts_nothing(disabled: System) -> None:
    await disabled.reports(Mode.ENABLED, 1, live=False)

    assert await drifts(disabled) == []
    assert await disabled.open_command() is None


async def test_a_contradiction_of_a_wish_under_way_is_none(enabled: System) -> None:
    await enabled.order(DISABLE)

    await enabled.reports(Mode.ENABLED)

    assert await drifts(enabled) == []


async def test_an_enable_outlives_its_command(disabled: System) -> None:
    """The unit comes back after its enable has expired."""
    await disabled.expires(await disabled.order(ENABLE))

    await disabled.reports(Mode.OFFLINE_DISABLED, 1)

    assert await open_causes(disabled) == [Cause.LAPSED]
    renewed = await again(disabled)
    assert (renewed.mode, renewed.epoch) == (Mode.ENABLED, 3)
    await disabled.obeys(renewed)
    assert await open_causes(disabled) == []
    assert (await disabled.standing()).changed_by == "ada@example.com"  # whose wish it was


@pytest.mark.parametrize("state", [Lifecycle.TERMINATED, Lifecycle.IN_REPAIR_SYSTEM])
async def test_who_is_gone_or_in_repair_is_not_switched_off_by_itself(
    disabled: System, state: Lifecycle
) -> None:
    await disabled.sql("UPDATE unit SET lifecycle = %s", state)

    await disabled.reports(Mode.ENABLED, 1)

    assert await open_causes(disabled) == [Cause.MODE_DIFFERS]
    assert await disabled.open_command() is None


async def test_an_offline_disable_ends_with_its_command_and_what_was_sent_is_fenced(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    await enabled.expires(command)

    await enabled.reports(Mode.ENABLED)

    assert await open_causes(enabled) == [Cause.UNFENCED]
    fence = await again(enabled)
    assert (fence.mode, fence.epoch) == (Mode.ENABLED, 2)
    await enabled.obeys(fence)
    assert await open_causes(enabled) == []


async def test_an_offline_disable_that_was_never_sent_needs_no_fence(enabled: System) -> None:
    await enabled.expires(await enabled.order(DISABLE))

    await enabled.reports(Mode.ENABLED)

    assert await enabled.open_command() is None


async def test_a_cancelled_offline_disable_that_arrives_after_all_is_overruled(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    await enabled.cancel(command)

    await enabled.reports(Mode.OFFLINE_DISABLED, command.epoch)

    assert (await enabled.events(command))[-1] == "late_report"
    assert (await again(enabled)).mode is Mode.ENABLED


async def test_an_expired_offline_disable_that_is_proven_late_is_what_is_wanted(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    await enabled.expires(command)

    await enabled.reports(Mode.OFFLINE_DISABLED, command.epoch)

    assert await enabled.state(command) is State.CONFIRMED
    assert await drifts(enabled) == []


async def test_a_superseded_enable_comes_back_when_the_newer_wish_is_cancelled(disabled: System) -> None:
    enable = await disabled.order(ENABLE)
    await disabled.reports(Mode.ENABLED, 1)  # what people see decides whether it can be disabled
    await disabled.cancel(enable)
    enable = await disabled.order(ENABLE)
    later = await disabled.order(PING)
    await disabled.cancel(later)

    assert (await disabled.open_command()) == enable


async def test_a_factory_reset_of_an_enabled_unit_is_mended_and_shown(enabled: System) -> None:
    await enabled.obeys(await enabled.order(ENABLE))

    await enabled.reports(Mode.ENABLED, 0)

    assert (await again(enabled)).epoch == 2
    await enabled.obeys(await again(enabled))
    assert await open_causes(enabled) == [Cause.EPOCH_WENT_BACK]


async def test_a_factory_reset_of_a_disabled_unit_takes_power_away_only_with_approval(
    disabled: System,
) -> None:
    await disabled.reports(Mode.ENABLED, 0)
    await disabled.reports(Mode.ENABLED, 0)

    command = await again(disabled)
    assert (command.state, command.mode) == (State.AWAITING_APPROVAL, Mode.OFFLINE_DISABLED)
    approved = await disabled.approve(command)
    assert approved.epoch == 2
    await disabled.obeys(approved)


async def test_an_epoch_that_was_never_given_is_adopted_and_shown(enabled: System) -> None:
    """The database is older than the unit's memory."""
    await enabled.obeys(await enabled.order(ENABLE))

    await enabled.reports(Mode.OFFLINE_DISABLED, 40)

    assert await open_causes(enabled) == [Cause.EPOCH_AHEAD]
    assert (await again(enabled)).epoch == 41


async def test_an_absurd_epoch_is_never_adopted(enabled: System) -> None:
    await enabled.reports(Mode.ENABLED, 2**31 + 1)
    await enabled.reports(Mode.ENABLED, 2**31 + 1)

    [found] = await drifts(enabled)
    assert (found.cause, found.reported_epoch) == (Cause.EPOCH_ABSURD, 2**31 + 1)
    assert (await enabled.order(ENABLE)).epoch == 1


@pytest.mark.parametrize(
    ("reason", "refusal"), [("stale_epoch", "stale_epoch"), ("expired", "bad_unit_clock")]
)
async def test_a_refusal_that_is_no_end_of_the_wish_sends_it_once_more(
    disabled: System, reason: str, refusal: str
) -> None:
    command = await disabled.order(ENABLE)
    await disabled.dispatcher.step()

    await disabled.acks(command, result=AckResult.REFUSED, reason=reason, epoch=9, mode=Mode.OFFLINE_DISABLED)

    assert (await disabled.command(command)).refusal == refusal
    renewed = await again(disabled)
    assert (renewed.mode, renewed.epoch) == (Mode.ENABLED, 10)
    assert await open_causes(disabled) == [Cause.NOT_OBEYED]


async def test_a_disable_that_was_refused_as_stale_ends_with_the_command_that_carried_it_on(
    enabled: System,
) -> None:
    """A refusal that is no end must not outlast a person's word."""
    refused = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    await enabled.acks(
        refused, result=AckResult.REFUSED, reason="stale_epoch", epoch=refused.epoch + 1, mode=Mode.ENABLED
    )

    await enabled.cancel(await again(enabled))
    await enabled.reports(Mode.ENABLED, refused.epoch + 1)

    assert await enabled.open_command() is None
    assert await open_causes(enabled) == [Cause.EPOCH_AHEAD]  # somebody is to know of it


async def test_a_refusal_for_good_ends_the_wish(disabled: System) -> None:
    command = await disabled.order(ENABLE)
    await disabled.dispatcher.step()

    await disabled.acks(
        command, result=AckResult.REFUSED, reason="hardware", epoch=1, mode=Mode.OFFLINE_DISABLED
    )
    await disabled.reports(Mode.OFFLINE_DISABLED, 1)

    assert await disabled.open_command() is None


async def test_a_contradiction_that_comes_back_soon_is_the_same(disabled: System) -> None:
    await disabled.reports(Mode.ENABLED, 1)
    await disabled.obeys(await again(disabled))
    await disabled.reports(Mode.ENABLED, 2)

    [found] = await drifts(disabled)
    assert (found.sendings, found.closed_at) == (2, None)


# -- what people decide


async def test_a_dismissed_drift_is_closed_with_its_reason_and_one_that_goes_on_is_another(
    disabled: System,
) -> None:
    await disabled.reports(Mode.ENABLED, 0)
    [found] = await drifts(disabled)

    closed = await decides(disabled, found, Decision.DISMISS, email=OTHER, level=Level.TECHNICAL)

    assert (closed.resolution, closed.closed_by) == (Resolution.DISMISSED, OTHER)
    assert await decides(disabled, found, Decision.DISMISS) == closed
    await disabled.cancel(await again(disabled))
    await disabled.reports(Mode.ENABLED, 0)
    assert [one.cause for one in await drifts(disabled)] == [Cause.EPOCH_WENT_BACK] * 2


async def test_a_person_may_send_again_or_let_the_unit_have_its_way(disabled: System) -> None:
    await disabled.reports(Mode.ENABLED, 0)
    [found] = await drifts(disabled)
    with pytest.raises(AwaitsApproval):
        await decides(disabled, found, Decision.SEND_AGAIN)
    await disabled.cancel(await again(disabled))

    with pytest.raises(Forbidden):
        await decides(disabled, found, Decision.SEND_AGAIN, level=Level.TECHNICAL)
    await decides(disabled, found, Decision.SEND_AGAIN)
    ordered = await disabled.open_command()
    assert ordered is not None
    assert (ordered.mode, ordered.origin) == (Mode.OFFLINE_DISABLED, Origin.PERSON)
    await disabled.cancel(ordered)
    await disabled.reports(Mode.ENABLED, 0)
    other = (await drifts(disabled))[-1]
    await decides(disabled, other, Decision.ACCEPT, level=Level.TECHNICAL)
    accepted = await disabled.open_command()
    assert accepted is not None
    assert accepted.mode is Mode.ENABLED


async def test_what_is_sent_again_is_what_is_wanted_now(disabled: System) -> None:
    """A drift that began under another wish switches nobody off."""
    await disabled.reports(Mode.ENABLED, 0)
    [found] = await drifts(disabled)
    await disabled.obeys(await disabled.order(ENABLE))

    await decides(disabled, found, Decision.SEND_AGAIN)

    assert await disabled.open_command() is None
    assert (await disabled.standing()).enable_status == "enabled"


async def test_darkness_is_not_accepted(enabled: System) -> None:
    await enabled.obeys(await enabled.order(ENABLE))
    await enabled.reports(Mode.OFFLINE_DISABLED, 40)
    await enabled.cancel(await again(enabled))
    [found] = await drifts(enabled)

    with pytest.raises(NotAcceptable):
        await decides(enabled, found, Decision.ACCEPT)


async def test_who_is_ahead_of_this_system_is_never_switched_off_by_itself(disabled: System) -> None:
    """Not when the first question was answered with no, and not when nobody answered."""
    await disabled.reports(Mode.ENABLED, 9)
    asked = await again(disabled)
    await disabled.cancel(asked)

    await disabled.reports(Mode.ENABLED, 9)

    again_asked = await again(disabled)
    assert (asked.state, again_asked.state) == (State.AWAITING_APPROVAL, State.AWAITING_APPROVAL)
    await disabled.expires(again_asked)
    await disabled.reports(Mode.ENABLED, 9)
    last = await again(disabled)
    assert last.state is State.AWAITING_APPROVAL
    await disabled.obeys(await disabled.approve(last))


async def test_a_disable_that_was_overtaken_unseen_is_not_repeated_by_itself(enabled: System) -> None:
    """This database forgot an enable; the unit refuses the old offline-disable as stale."""
    command = await enabled.order(DISABLE)
    await enabled.dispatcher.step()

    await enabled.acks(command, result=AckResult.REFUSED, reason="stale_epoch", epoch=9, mode=Mode.ENABLED)

    assert (await again(enabled)).state is State.AWAITING_APPROVAL
    assert await open_causes(enabled) == [Cause.EPOCH_AHEAD]


async def test_another_wish_has_a_count_of_its_own(disabled: System) -> None:
    """What was sent in vain to switch off does not keep an enable from being sent."""
    for number in range(SETTINGS.command_drift_sendings):
        await disabled.reports(Mode.ENABLED, 1 + number)
        command = await again(disabled)
        await disabled.makes_due(command)
        await disabled.dispatcher.step()
        await disabled.reports(Mode.OFFLINE_DISABLED, command.epoch)
    await disabled.reports(Mode.ENABLED, 1 + SETTINGS.command_drift_sendings)
    await disabled.obeys(enable := await disabled.order(ENABLE))

    await disabled.reports(Mode.OFFLINE_DISABLED, enable.epoch)

    assert (await again(disabled)).mode is Mode.ENABLED


async def test_two_units_under_one_name_are_not_switched_off_by_itself(disabled: System) -> None:
    async with disabled.pool.transaction() as conn:
        await alerts.raise_all(conn, [Finding(disabled.unit.id, Kind.TWO_UNITS, {})], now=clock.now())

    await disabled.reports(Mode.ENABLED, 1)

    assert (await again(disabled)).state is State.AWAITING_APPROVAL


@pytest.mark.parametrize("trouble", ["two units", "repair"])
async def test_what_came_up_since_the_order_keeps_a_disable_back(enabled: System, trouble: str) -> None:
    command = await enabled.order(DISABLE)
    if trouble == "repair":
        await enabled.sql("UPDATE unit SET lifecycle = 'IN_REPAIR_SYSTEM'")
    else:
        await enabled.may_be_two()

    assert await enabled.dispatcher.step() == 0

    assert await enabled.state(command) is State.QUEUED


async def test_who_takes_a_disable_back_takes_back_all_darkness_before_it(disabled: System) -> None:
    """Whether it was sent again by itself or ordered: an older one that was proven must not come back."""
    await disabled.reports(Mode.ENABLED, 1)
    await disabled.cancel(await again(disabled))

    await disabled.reports(Mode.ENABLED, 1)

    assert await disabled.open_command() is None
    ordered = await disabled.order(DISABLE)
    await disabled.obeys(ordered)
    assert (await disabled.standing()).enable_status == "offline_disabled"


@pytest.mark.parametrize("end", ["cancelled", "expired"])
async def test_a_disable_that_comes_to_nothing_ends_no_enable_that_was_refused(
    disabled: System, end: str
) -> None:
    """The unit claimed a higher epoch until nothing was sent any more, and is on all the same."""
    refused = await disabled.order(ENABLE)
    for epoch in range(9, 60, 10):
        await disabled.makes_due(refused)
        await disabled.dispatcher.step()
        await disabled.acks(
            refused, result=AckResult.REFUSED, reason="stale_epoch", epoch=epoch, mode=Mode.ENABLED
        )
        if (renewed := await disabled.open_command()) is None:
            break
        refused = renewed
    await disabled.reports(Mode.ENABLED, 1)
    disable = await disabled.order(DISABLE)

    await (disabled.cancel(disable) if end == "cancelled" else disabled.expires(disable))
    await disabled.reports(Mode.ENABLED, 1)

    found = await disabled.open_command()
    assert found is None or found.mode is Mode.ENABLED


async def test_what_is_sent_again_to_a_suspected_clone_is_approved_by_somebody_else(disabled: System) -> None:
    await disabled.may_be_two()
    await disabled.reports(Mode.ENABLED, 1)
    waits = await again(disabled)

    with pytest.raises(SecondPersonNeeded):
        await disabled.approve(waits)

    assert (await disabled.approve(waits, email=OTHER)).state is State.QUEUED


async def test_nothing_whose_life_is_over_is_approved_or_given_for_an_order(enabled: System) -> None:
    """Though no gateway was there to end it."""
    over = await enabled.order(DISABLE)
    await enabled.sql("UPDATE command SET ordered_at = now() - interval '4 d', expires_at = now()")

    anew = await enabled.order(DISABLE)

    assert (anew.id != over.id, anew.state) == (True, State.QUEUED)
    await enabled.cancel(anew)
    await enabled.may_be_two()
    waits = await enabled.order(DISABLE)
    await enabled.sql(
        "UPDATE command SET ordered_at = now() - interval '4 d', expires_at = now() WHERE id = %s", waits.id
    )
    with pytest.raises(NothingToApprove):
        await enabled.approve(waits, email=OTHER)


async def test_who_has_become_somebody_else_s_is_not_switched_off_for_the_one_before(enabled: System) -> None:
    command = await enabled.order(DISABLE)
    await reassigned(enabled)

    assert await enabled.dispatcher.step() == 0

    assert await enabled.state(command) is State.QUEUED
    assert (await enabled.cancel(command)).state is State.CANCELLED
    await enabled.obeys(await enabled.order(DISABLE))


async def test_who_has_become_somebody_else_s_is_switched_off_again_only_with_approval(
    disabled: System,
) -> None:
    await reassigned(disabled)

    await disabled.reports(Mode.ENABLED, 1)

    waits = await again(disabled)
    assert waits.state is State.AWAITING_APPROVAL
    approved = await disabled.approve(waits)
    await disabled.obeys(approved)
    await disabled.reports(Mode.ENABLED, approved.epoch)
    assert (await again(disabled)).state is State.QUEUED


async def test_what_an_earlier_release_ordered_is_told_by_which_came_first(enabled: System) -> None:
    """Before commands named the holding, or while both run."""
    command = await enabled.order(DISABLE)
    await enabled.sql("UPDATE command SET held_since = NULL")
    await reassigned(enabled)

    assert await enabled.dispatcher.step() == 0
    async with enabled.pool.transaction() as conn:
        facts = await selection.facts(conn, [enabled.unit.id], None)
    assert facts[enabled.unit.id].pending is None
    await enabled.cancel(command)


async def test_so_is_what_would_be_sent_again(disabled: System) -> None:
    await disabled.sql("UPDATE command SET held_since = NULL")
    await reassigned(disabled)

    await disabled.reports(Mode.ENABLED, 1)

    assert (await again(disabled)).state is State.AWAITING_APPROVAL


async def test_a_new_owner_s_disable_takes_the_place_of_the_old_one_s(enabled: System) -> None:
    old = await enabled.order(DISABLE)
    await reassigned(enabled)
    assert await enabled.dispatcher.step() == 0

    async with enabled.pool.transaction() as conn:
        facts = await selection.facts(conn, [enabled.unit.id], None)
    new = await enabled.order(DISABLE)

    assert selection.judge(DISABLE, facts[enabled.unit.id]) is None
    assert await enabled.state(old) is State.SUPERSEDED
    await enabled.obeys(new)


async def test_what_is_ordered_for_whose_the_unit_just_was_is_refused(enabled: System) -> None:
    before = enabled.unit
    await reassigned(enabled)

    for wish in (DISABLE, ENABLE):
        async with enabled.pool.transaction() as conn:
            with pytest.raises(ChangedHands):
                await ledger.order(conn, before, wish, a_deed(), SETTINGS)


async def test_a_reassignment_that_commits_behind_an_order_keeps_it_back(enabled: System) -> None:
    """Its moment is taken before the order, and lies before it."""
    deed = a_deed(now=datetime.now(UTC))
    async with enabled.pool.transaction() as conn:
        new = await entities.add(conn, "New owner", deed)
    command = await enabled.order(DISABLE)
    async with enabled.pool.transaction() as conn:
        await ownership.reassign(conn, enabled.unit, new.id, deed)

    assert await enabled.dispatcher.step() == 0
    assert await enabled.state(command) is State.QUEUED


async def test_a_second_order_for_who_may_be_two_waits_for_a_second_person(enabled: System) -> None:
    """The first was queued before that was known, and is kept back."""
    first = await enabled.order(DISABLE)
    await enabled.may_be_two()

    second = await enabled.order(DISABLE, email=OTHER)

    assert (second.id != first.id, second.state) == (True, State.AWAITING_APPROVAL)
    assert await enabled.state(first) is State.QUEUED
    approved = await enabled.approve(second)
    assert await enabled.state(first) is State.SUPERSEDED
    await enabled.obeys(approved)


@pytest.mark.parametrize("times", [1, 4])
async def test_a_disable_that_is_taken_back_is_overruled_each_time(disabled: System, times: int) -> None:
    """Also on a day on which an enable had been sent often enough already."""
    lit = await disabled.order(ENABLE)
    await disabled.obeys(lit)
    await disabled.reports(Mode.DISABLED, lit.epoch)
    while again_sent := await disabled.open_command():
        await disabled.makes_due(again_sent)
        await disabled.dispatcher.step()
        await disabled.acks(
            again_sent, result="refused", reason="hardware", mode=Mode.DISABLED, epoch=lit.epoch
        )
        await disabled.reports(Mode.DISABLED, lit.epoch)
    await disabled.reports(Mode.ENABLED, lit.epoch)

    for _ in range(times):
        dark = await disabled.order(DISABLE)
        await disabled.makes_due(dark)
        assert await disabled.dispatcher.step() == 1
        await disabled.cancel(dark)
        await disabled.reports(Mode.OFFLINE_DISABLED, dark.epoch)
        overruling = await disabled.open_command()
        assert overruling is not None
        assert overruling.mode is Mode.ENABLED
        await disabled.obeys(overruling)


async def test_what_is_wanted_of_a_dark_unit_is_sent_again_when_somebody_says_so(disabled: System) -> None:
    """An enable was sent and taken back; it might still come, and darkness was sent often enough."""
    lit = await disabled.order(ENABLE)
    await disabled.makes_due(lit)
    await disabled.dispatcher.step()
    await disabled.cancel(lit)
    await disabled.reports(Mode.OFFLINE_DISABLED, 1)
    while again_sent := await disabled.open_command():
        await disabled.makes_due(again_sent)
        await disabled.dispatcher.step()
        await disabled.expires(again_sent)
        await disabled.reports(Mode.OFFLINE_DISABLED, 1)
    [given_up] = [one for one in await drifts(disabled) if one.closed_at is None]
    assert given_up.gave_up_at is not None

    with pytest.raises(NotEnabled):
        await disabled.order(DISABLE)
    await decides(disabled, given_up, Decision.SEND_AGAIN)

    sent = await disabled.open_command()
    assert sent is not None
    await disabled.obeys(sent)


async def reassigned(system: System) -> None:
    """Let the unit be held by another entity from now on; the name of it does not matter here."""
    await system.sql("UPDATE unit_entity SET ended_at = now()")
    await system.sql(
        "INSERT INTO unit_entity (unit_id, entity_id, started_at) SELECT id, entity_id, now() FROM unit"
    )


@pytest.mark.parametrize("ahead", [timedelta(days=-40), timedelta(days=40)])
async def test_a_gateway_s_clock_has_no_part_in_whether_a_command_leaves(
    enabled: System, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    command = await enabled.order(DISABLE)
    monkeypatch.setattr("commands.dispatcher.clock.now", lambda: datetime.now(UTC) + ahead)

    assert await enabled.dispatcher.step() == 1

    assert len(enabled.publisher.sent) == 1
    assert await enabled.state(command) is State.SENT


async def test_a_repeated_enable_overrules_what_waits_for_approval(enabled: System) -> None:
    await enabled.obeys(await enabled.order(ENABLE))
    await enabled.may_be_two()
    waits = await enabled.order(DISABLE)
    await enabled.reports(Mode.DISABLED, 1)

    same = await enabled.order(ENABLE)

    assert same.origin is Origin.INTENT
    assert await enabled.state(waits) is State.SUPERSEDED


async def test_only_an_administrator_takes_back_an_enable_that_was_sent(disabled: System) -> None:
    """What was wanted before is darkness."""
    command = await disabled.order(ENABLE)
    await disabled.dispatcher.step()

    with pytest.raises(Forbidden):
        await disabled.cancel(command, level=Level.TECHNICAL)

    assert (await disabled.cancel(command, level=Level.ADMIN)).state is State.CANCELLED


async def test_nothing_can_be_sent_again_where_nothing_was_wanted(enabled: System) -> None:
    await enabled.reports(Mode.ENABLED, 7)
    [found] = await drifts(enabled)

    with pytest.raises(NothingWanted):
        await decides(enabled, found, Decision.SEND_AGAIN)


async def test_a_drift_outside_the_scope_is_not_there(disabled: System) -> None:
    await disabled.reports(Mode.ENABLED, 0)
    [found] = await drifts(disabled)

    with pytest.raises(NotFound):
        await decides(disabled, found, Decision.DISMISS, scope=frozenset({999}))


async def test_after_a_restore_a_unit_that_is_on_is_not_switched_off_without_a_persons_word(
    disabled: System,
) -> None:
    """Somebody may have accepted it since the backup, and the unit not have heard of it."""
    async for _ in restored.take_back(disabled.pool, a_deed()):
        pass

    await disabled.reports(Mode.ENABLED, 1)

    waits = await again(disabled)
    assert (waits.state, waits.mode) == (State.AWAITING_APPROVAL, Mode.OFFLINE_DISABLED)
    assert await disabled.dispatcher.step() == 0
    await disabled.obeys(await disabled.approve(waits, email=OTHER))
    await disabled.reports(Mode.ENABLED, 2)
    assert (await again(disabled)).state is State.QUEUED


async def test_after_a_restore_what_was_sent_and_taken_back_is_overruled_by_an_enable(
    enabled: System,
) -> None:
    sent = await enabled.order(DISABLE)
    await enabled.dispatcher.step()
    async for _ in restored.take_back(enabled.pool, a_deed()):
        pass

    await enabled.reports(Mode.ENABLED)

    overruling = await again(enabled)
    assert await enabled.state(sent) is State.CANCELLED
    assert (overruling.mode, overruling.state, overruling.epoch) == (Mode.ENABLED, State.QUEUED, 2)
