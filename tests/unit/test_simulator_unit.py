"""What a simulated unit does with commands, time and its memory, rule by rule."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from protocol.codec import MAX_BODY, decode, encode
from protocol.identity import Imei
from protocol.messages import Ack, AckResult, Command, CommandKind, Heartbeat, Mode, PresenceState
from protocol.signing import sign, unit_key
from protocol.topics import Channel, topic
from simulator.battery import Battery
from simulator.memory import Memory
from simulator.unit import ENTRIES, KEPT, Unit, key
from simulator.weather import Sky

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
IMEI = Imei("352099001761481")
KEY = unit_key(bytes(range(32)), IMEI)
LATER, EARLIER = int(NOON.timestamp()) + 3600, int(NOON.timestamp()) - 1
DAY = timedelta(days=1)


def _unit(**memory: Any) -> Unit:
    known = Memory(imei=IMEI, life=77, **{"boot": 3} | memory)
    unit = Unit(known, KEY, Battery(sky=Sky(1, IMEI), charge=0.9), interval_s=0.5)
    unit.clock_set = True
    return unit


def _command(*, key: bytes = KEY, **fields: Any) -> Command:
    given: dict[str, Any] = {"kind": CommandKind.SET_MODE, "attempt": 2, "issued_at": 0, "expires_at": LATER}
    command = Command(id=uuid7(), **given | fields)
    return sign(command, IMEI, key)


def _set(mode: str, epoch: int, after_s: int | None = None, **fields: Any) -> Command:
    return _command(mode=mode, epoch=epoch, after_s=after_s, **fields)


def _heard(unit: Unit, at: datetime = NOON) -> Heartbeat:
    body, _ = unit.pack(unit.measure(at))
    message = decode(topic(IMEI, Channel.HEARTBEAT), body).message
    assert isinstance(message, Heartbeat)
    return message


OD = Mode.OFFLINE_DISABLED
HELD: dict[str, Any] = {"mode": OD, "epoch": 12, "after_s": 86_400}


@pytest.mark.parametrize(
    ("command", "reason", "epoch", "mode"),
    [
        pytest.param(_set("disabled", 13), None, 13, "disabled", id="newer"),
        pytest.param(_set("enabled", 40), None, 40, "enabled", id="much newer"),
        pytest.param(
            _set("enabled", 13, expires_at=EARLIER), None, 13, "enabled", id="an enable never lapses"
        ),
        pytest.param(_set("disabled", 13, expires_at=EARLIER), "expired", 12, OD, id="late disable"),
        pytest.param(_set("offline_disabled", 13, expires_at=EARLIER), "expired", 12, OD, id="late OD"),
        pytest.param(_set("enabled", 11), "stale_epoch", 12, OD, id="older epoch"),
        pytest.param(_set("enabled", 12), "stale_epoch", 12, OD, id="equal epoch, other mode"),
        pytest.param(_set("offline_disabled", 12, 0), "stale_epoch", 12, OD, id="equal epoch, other after_s"),
        pytest.param(_set("offline_disabled", 12), "stale_epoch", 12, OD, id="equal epoch, no after_s"),
        pytest.param(_set("offline_disabled", 12, 86_400), None, 12, OD, id="equal in everything"),
        pytest.param(
            _set("offline_disabled", 12, 86_400, expires_at=EARLIER), None, 12, OD, id="equal, though late"
        ),
        pytest.param(
            _set("enabled", 11, expires_at=EARLIER, key=bytes(32)), "bad_mac", 12, OD, id="mac comes first"
        ),
        pytest.param(_set("enabled", 13, key=bytes(32)), "bad_mac", 12, OD, id="foreign key"),
        pytest.param(_command(kind="ping"), None, 12, OD, id="ping"),
        pytest.param(_command(kind="ping", expires_at=EARLIER), None, 12, OD, id="ping never expires here"),
        pytest.param(_command(kind="ping", key=bytes(32)), "bad_mac", 12, OD, id="ping, foreign key"),
        pytest.param(_command(kind="resend", args='{"last":200}'), "unsupported", 12, OD, id="kind to come"),
        pytest.param(
            _command(kind="resend", key=bytes(32)), "bad_mac", 12, OD, id="kind to come, foreign key"
        ),
        pytest.param(_set("eco", 13), "unsupported", 12, OD, id="mode to come"),
        pytest.param(_set("eco", 11), "unsupported", 12, OD, id="mode to come, older epoch"),
    ],
)
def test_a_unit_answers_a_command_as_the_contract_says(
    command: Command, reason: str | None, epoch: int, mode: str
) -> None:
    unit = _unit(**HELD, contact_at=NOON.timestamp())
    before = asdict(unit.memory)

    ack = unit.obey(command, NOON)

    assert (ack.result, ack.reason) == (AckResult.REFUSED if reason else AckResult.APPLIED, reason)
    assert (ack.command_id, ack.attempt, ack.life, ack.boot) == (command.id, 2, 77, 3)
    assert (ack.epoch, ack.mode, ack.ts) == (epoch, mode, int(NOON.timestamp()))
    assert isinstance(decode(topic(IMEI, Channel.ACK), encode(ack)).message, Ack)
    if epoch == 12:
        assert asdict(unit.memory) == before


def test_a_unit_without_a_clock_cannot_know_that_a_command_is_late_and_shows_no_time() -> None:
    unit = _unit()
    unit.clock_set = False

    ack = unit.obey(_set("disabled", 1, expires_at=EARLIER), NOON)

    assert (ack.result, ack.ts) == (AckResult.APPLIED, None)
    assert _heard(unit).ts is None


def test_a_broken_switch_refuses_what_would_move_it_and_nothing_else() -> None:
    unit = _unit(mode=Mode.DISABLED, epoch=5, power=False)

    answers = [
        unit.obey(command, NOON, broken=True).reason
        for command in (_set("enabled", 6), _set("disabled", 5), _command(kind="ping"), _set("enabled", 4))
    ]

    assert answers == ["hardware", None, None, "stale_epoch"]
    assert (unit.memory.epoch, unit.output) == (5, False)


@given(
    st.lists(st.tuples(st.integers(1, 2**32 - 1), st.sampled_from(list(Mode)), st.sampled_from([0, 86_400])))
)
def test_whatever_order_commands_come_in_the_highest_epoch_applied_decides(
    orders: list[tuple[int, Mode, int]],
) -> None:
    unit, applied = _unit(), {0: (Mode.ENABLED, 0)}

    for epoch, mode, after_s in orders:
        ack = unit.obey(_set(mode, epoch, after_s), NOON)
        if ack.result is AckResult.APPLIED:
            assert applied.setdefault(epoch, (mode, after_s)) == (mode, after_s)
        assert ack.epoch == max(applied)

    assert max(applied) == max([0, *(epoch for epoch, _, _ in orders)])
    assert (unit.memory.mode, unit.memory.after_s) == applied[max(applied)]


def test_disabled_and_offline_disabled_without_delay_act_alike_and_are_reported_as_sent() -> None:
    for mode in ("disabled", "offline_disabled"):
        unit = _unit()

        unit.obey(_set(mode, 1, 0), NOON)

        assert (_heard(unit).mode, unit.output) == (mode, False)


def test_a_reboot_keeps_the_memory_and_begins_again_with_the_numbers() -> None:
    unit = _unit()
    unit.obey(_set("offline_disabled", 9, 0), NOON)
    unit.measure(NOON)
    unit.connections = 4

    unit.reboot()
    report = _heard(unit)

    assert (report.life, report.boot, report.seq) == (77, 4, 1)
    assert (report.mode, report.epoch, report.output, report.ts) == (OD, 9, False, None)
    assert unit.presence(PresenceState.ONLINE).conn is None


def test_heartbeats_are_numbered_by_one_and_promise_the_next_contact() -> None:
    unit = _unit()

    reports = [_heard(unit, NOON + timedelta(seconds=second)) for second in range(5)]

    assert [report.seq for report in reports] == [1, 2, 3, 4, 5]
    assert {report.next_s for report in reports} == {1}


def test_an_armed_unit_reports_the_mode_at_once_and_keeps_its_power() -> None:
    unit = _unit()

    unit.obey(_set("offline_disabled", 1, 86_400), NOON)

    assert (_heard(unit).mode, _heard(unit).output) == (OD, True)


def test_an_armed_unit_switches_off_by_itself_after_so_long_without_contact() -> None:
    unit = _unit()
    unit.obey(_set("offline_disabled", 1, 86_400), NOON)

    almost = unit.measure(NOON + timedelta(seconds=86_399)).output
    then = unit.measure(NOON + DAY).output

    assert (almost, then) == (True, False)


def test_contact_puts_the_switch_off_further_away() -> None:
    unit = _unit()
    unit.obey(_set("offline_disabled", 1, 86_400), NOON)

    for day in range(1, 5):
        unit.contact(NOON + day * DAY * 0.9)

    assert unit.measure(NOON + 4.5 * DAY).output is True
    assert unit.measure(NOON + 4.6 * DAY).output is False


def test_contact_does_not_revive_a_unit_that_has_switched_off() -> None:
    unit = _unit()
    unit.obey(_set("offline_disabled", 1, 86_400), NOON)

    unit.contact(NOON + DAY)

    assert unit.measure(NOON + DAY).output is False


def test_neither_a_reboot_nor_another_arming_revives_a_unit_and_only_an_enable_does() -> None:
    unit = _unit()
    unit.obey(_set("offline_disabled", 1, 86_400), NOON)
    unit.measure(NOON + DAY)

    unit.reboot()
    rebooted = unit.measure(NOON + DAY).output
    unit.obey(_set("offline_disabled", 2, 172_800), NOON + DAY)
    armed = unit.measure(NOON + DAY).output
    unit.obey(_set("enabled", 3), NOON + DAY)

    assert (rebooted, armed, unit.output) == (False, False, True)


def test_the_count_towards_the_switch_off_survives_a_reboot() -> None:
    unit = _unit()
    unit.obey(_set("offline_disabled", 1, 86_400), NOON)

    unit.reboot()

    assert unit.measure(NOON + DAY - timedelta(seconds=1)).output is True
    assert unit.measure(NOON + DAY).output is False


def test_repeating_the_arming_command_does_not_start_the_count_again() -> None:
    unit = _unit()
    arming = _set("offline_disabled", 1, 86_400)
    unit.obey(arming, NOON)

    unit.obey(arming, NOON + DAY / 2)

    assert unit.measure(NOON + DAY).output is False


def test_a_long_backlog_is_sent_in_messages_that_each_fit_and_nothing_is_left_out() -> None:
    unit = _unit()
    unit.keep_back([unit.measure(NOON) for _ in range(800)])
    sent: list[tuple[int, int]] = []
    messages = 0

    while unit.backlog:
        body, entries = unit.pack(unit.measure(NOON))
        heartbeat = decode(topic(IMEI, Channel.HEARTBEAT), body).message
        messages += 1
        sent += [key(entry) for entry in entries]

        assert len(body) <= MAX_BODY
        assert isinstance(heartbeat, Heartbeat)
        assert len(heartbeat.backlog) == len(entries) - 1 <= ENTRIES

    assert sorted(sent) == [(3, seq) for seq in range(1, 801 + messages)]
    assert 2 <= messages <= 6


def test_a_backlog_of_an_earlier_boot_names_it_and_one_of_this_boot_does_not() -> None:
    unit = _unit()
    unit.keep_back([unit.measure(NOON)])
    unit.reboot()
    unit.keep_back([unit.measure(NOON)])

    report = _heard(unit)

    assert [(entry.boot, entry.seq) for entry in report.backlog] == [(3, 1), (None, 1)]
    assert (report.boot, report.seq) == (4, 2)


def test_a_full_backlog_lets_the_oldest_go_and_names_them() -> None:
    unit = _unit()

    gone = unit.keep_back([unit.measure(NOON) for _ in range(KEPT + 3)])

    assert gone == [(3, 1), (3, 2), (3, 3)]
    assert len(unit.backlog) == KEPT >= 200
