"""What a unit does under each fault of the catalogue; no broker is there, its ledger tells."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from protocol.codec import encode
from protocol.identity import Imei
from protocol.messages import Command, CommandKind, Mode
from protocol.signing import sign, unit_key
from runtime import clock
from simulator import rogue
from simulator.battery import Battery
from simulator.faults import MISHANDLINGS, Fault, Span
from simulator.ledger import Truth
from simulator.link import Endpoint
from simulator.memory import Memories, Memory
from simulator.plan import Faults, Plan, Tally
from simulator.rogue import Rogue
from simulator.station import Field
from simulator.unit import Unit
from simulator.weather import Sky

IMEI = Imei("352099001761481")
KEY = unit_key(bytes(range(32)), IMEI)
OFF, ON = Mode.OFFLINE_DISABLED, Mode.ENABLED


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rogue, "MOMENT_S", 0.01)


def _rogue(truth: Truth, **faults: float) -> Rogue:
    memory = Memory(imei=IMEI, life=77, boot=3, charge=0.9)
    field = Field(
        plan=Plan(units=1, interval_s=1.0, seed=4, faults=Faults(**faults)),
        endpoint=Endpoint("127.0.0.1", 1, None),
        ledger=truth,
        memories=Memories(None),
        tally=Tally(1),
        opening=asyncio.Semaphore(1),
    )
    unit = Unit(memory, KEY, Battery(sky=Sky(1, IMEI), charge=0.9), interval_s=1.0)
    unit.clock_set = True
    return Rogue(unit, "password", field)


def _set(mode: Mode, epoch: int, **fields: Any) -> bytes:
    later = int(clock.now().timestamp()) + 3600
    command = Command(
        id=uuid7(),
        kind=CommandKind.SET_MODE,
        mode=mode,
        epoch=epoch,
        **{"attempt": 1, "issued_at": 0, "expires_at": later} | fields,
    )
    return encode(sign(command, IMEI, KEY))


def _ping() -> bytes:
    later = int(clock.now().timestamp()) + 3600
    command = Command(id=uuid7(), kind=CommandKind.PING, attempt=1, issued_at=0, expires_at=later)
    return encode(sign(command, IMEI, KEY))


def _events(truth: Truth) -> list[str]:
    """Name what happened to commands and boots, in order."""
    return [line["event"] for line in truth.lines if line["event"].startswith(("command", "reboot", "reset"))]


async def _later(truth: Truth, event: str, times: int = 1) -> None:
    async with asyncio.timeout(5):
        while _events(truth).count(event) < times:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("fault", "events", "mode"),
    [
        (Fault.ACT_WITHOUT_ACK, ["command_received", "command_applied"], OFF),
        (Fault.LYING_ACK, ["command_received", "command_promised"], ON),
        (Fault.REBOOT_BEFORE_ACT, ["command_received", "rebooted"], ON),
        (Fault.REBOOT_AFTER_ACT, ["command_received", "command_applied", "rebooted"], OFF),
        (Fault.BROKEN_SWITCH, ["command_received", "command_refused"], ON),
        (Fault.LOST, [], ON),
        (Fault.OVERTAKEN, [], ON),
        (Fault.TWICE, ["command_received", "command_applied"] * 2, OFF),
    ],
)
async def test_a_fault_strikes_the_next_command_and_no_other(
    fault: Fault, events: list[str], mode: Mode
) -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(fault)

    unit.hear(_set(OFF, 1))
    struck, struck_mode = _events(truth), unit.unit.memory.mode
    unit.hear(_set(ON, 2))

    assert (struck, struck_mode) == (events, mode)
    assert (unit.unit.memory.mode, unit.unit.memory.epoch) == (ON, 2)
    assert "command_applied" in _events(truth)[len(events) :]


async def test_a_lie_promises_what_was_asked_and_heartbeats_keep_the_old() -> None:
    unit = _rogue(Truth(None)).unit
    command = Command.model_validate_json(_set(OFF, 9), strict=False)

    promised = unit.promise(command, clock.now())
    told = unit.measure(clock.now())

    assert (promised.result, promised.epoch, promised.mode) == ("applied", 9, OFF)
    assert (told.epoch, told.mode) == (0, ON)


async def test_a_unit_that_acknowledges_first_acts_a_moment_later() -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(Fault.ACK_BEFORE_ACT)

    unit.hear(_set(OFF, 1))
    at_once = _events(truth)
    await _later(truth, "command_applied")

    assert at_once == ["command_received", "command_promised"]
    assert unit.unit.memory.mode is OFF


async def test_what_a_unit_was_about_to_do_is_forgotten_when_it_restarts() -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(Fault.ACK_BEFORE_ACT, 2)

    unit.hear(_set(OFF, 1))
    unit.strike(Fault.REBOOT)
    unit.hear(_set(OFF, 2))
    await _later(truth, "command_applied")

    assert [line["epoch"] for line in truth.lines if line["event"] == "command_applied"] == [2]


async def test_power_is_lost_once_the_ack_is_out() -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(Fault.POWER_LOST_AFTER_ACK)

    unit.hear(_set(OFF, 1))
    await _later(truth, "rebooted")

    assert _events(truth) == ["command_received", "command_promised", "rebooted"]
    assert unit.unit.memory.mode is ON


async def test_a_command_that_was_overtaken_comes_after_the_next_and_is_stale() -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(Fault.OVERTAKEN)

    unit.hear(_set(OFF, 1))
    unit.hear(_set(ON, 2))

    assert _events(truth)[-1] == "command_refused"
    assert truth.lines[-1]["reason"] == "stale_epoch"
    assert unit.unit.memory.mode is ON


async def test_a_unit_that_acts_out_of_turn_undoes_the_newer_command() -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(Fault.ACT_OUT_OF_TURN)

    unit.hear(_set(OFF, 1))
    unit.hear(_set(ON, 2))
    before = unit.unit.memory.mode
    await _later(truth, "command_applied", 2)

    assert before is ON
    assert (unit.unit.memory.mode, unit.unit.memory.epoch) == (OFF, 1)


async def test_a_ping_meets_no_fault_of_a_mode_command() -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(Fault.LYING_ACK)

    unit.hear(_ping())
    unit.hear(_set(OFF, 1))

    assert _events(truth) == ["command_received", "command_applied", "command_received", "command_promised"]


async def test_faults_wait_their_turn() -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(Fault.LYING_ACK)
    unit.strike(Fault.LOST)

    for epoch in (1, 2, 3):
        unit.hear(_set(OFF, epoch))

    assert [line["epoch"] for line in truth.lines if line["event"] == "command_received"] == [1, 3]
    assert unit.unit.memory.epoch == 3


async def test_what_is_mended_strikes_no_more() -> None:
    truth = Truth(None)
    unit = _rogue(truth)
    unit.strike(Fault.LYING_ACK, 100)

    unit.mend(Fault.LYING_ACK)
    unit.hear(_set(OFF, 1))

    assert unit.unit.memory.mode is OFF


async def test_a_bridge_gives_power_whatever_was_applied() -> None:
    unit = _rogue(Truth(None))

    unit.strike(Fault.BRIDGED_OUTPUT)
    unit.hear(_set(OFF, 1))
    bridged = (unit.unit.memory.mode, unit.unit.output)
    unit.mend(Fault.BRIDGED_OUTPUT)

    assert bridged == (OFF, True)
    assert not unit.unit.output


@pytest.mark.parametrize(("fault", "years"), [(Fault.CLOCK_AHEAD, 8), (Fault.CLOCK_BEHIND, -8)])
async def test_a_wrong_clock_tells_wrong_times_and_judges_lives_by_them(fault: Fault, years: int) -> None:
    truth = Truth(None)
    unit = _rogue(truth)

    unit.strike(fault)
    unit.unit.clock_set = True  # as a connection does it
    unit.hear(_set(OFF, 1))

    told = unit.unit.measure(clock.now()).ts
    assert told is not None
    assert abs(told - (clock.now() + timedelta(days=365 * years)).timestamp()) < 5
    assert (unit.unit.memory.mode is ON) == (fault is Fault.CLOCK_AHEAD)


async def test_a_factory_reset_keeps_what_the_wire_demands() -> None:
    unit = _rogue(Truth(None))
    unit.hear(_set(OFF, 5))

    unit.strike(Fault.RESET_KEEPING)

    memory = unit.unit.memory
    assert (memory.life, memory.boot, memory.epoch, memory.mode) == (77, 4, 5, OFF)


async def test_a_bad_factory_reset_forgets_it() -> None:
    unit = _rogue(Truth(None))
    unit.hear(_set(OFF, 5))

    unit.strike(Fault.RESET_FORGETTING)

    memory = unit.unit.memory
    assert (memory.boot, memory.epoch, memory.mode, memory.power) == (1, 0, ON, True)
    assert memory.life != 77
    assert unit.unit.backlog == {}


async def test_a_fleet_mishandles_by_the_dice_and_the_next_sending_may_be_obeyed() -> None:
    truth = Truth(None)
    unit = _rogue(truth, mishandle=0.5)

    for epoch in range(1, 41):
        unit.hear(_set(OFF if epoch % 2 else ON, epoch))

    promised = _events(truth).count("command_promised")
    received = _events(truth).count("command_received")
    assert received == 40
    assert 0 < promised < received


def test_the_catalogue_tells_each_fault() -> None:
    assert all(fault.meaning.endswith(".") for fault in Fault)
    assert {fault.span for fault in MISHANDLINGS} == {Span.COMMAND}
