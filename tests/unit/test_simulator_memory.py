"""What units remember from run to run."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from protocol.identity import Imei
from protocol.messages import Mode
from simulator.ledger import Ledger
from simulator.memory import Memories, Memory, UnreadableState
from simulator.roster import imeis

FLEET = imeis(3, 1)


def _run(path: Path, units: list[Imei] = FLEET) -> list[Memory]:
    with closing(Memories(path)) as memories:
        return memories.start(units)


def test_without_a_file_every_run_has_new_lives() -> None:
    first, second = Memories(None).start(FLEET), Memories(None).start(FLEET)

    assert [memory.boot for memory in first + second] == [1] * 6
    assert {memory.life for memory in first}.isdisjoint(memory.life for memory in second)


def test_a_later_run_with_the_file_goes_on_with_the_next_boot_of_the_same_life(tmp_path: Path) -> None:
    before = _run(tmp_path / "state")

    after = _run(tmp_path / "state")

    assert [memory.life for memory in after] == [memory.life for memory in before]
    assert [memory.boot for memory in after] == [2, 2, 2]


def test_what_was_kept_survives_a_run_that_was_killed(tmp_path: Path) -> None:
    with closing(Memories(tmp_path / "state")) as memories:
        first, *_ = memories.start(FLEET)
        first.mode, first.epoch, first.power, first.boot = Mode.OFFLINE_DISABLED, 7, False, 4
        memories.keep(first)
    with (tmp_path / "state").open("a") as file:
        file.write('{"imei": "352099')  # the line that the kill cut short

    again, *others = _run(tmp_path / "state")

    assert (again.mode, again.epoch, again.power, again.boot) == (Mode.OFFLINE_DISABLED, 7, False, 5)
    assert [memory.boot for memory in others] == [2, 2]


def test_units_of_another_fleet_stay_in_the_file(tmp_path: Path) -> None:
    _run(tmp_path / "state")
    _run(tmp_path / "state", FLEET[:1])

    assert [memory.boot for memory in _run(tmp_path / "state")] == [3, 2, 2]


@pytest.mark.parametrize("line", ["not json", "{}", '{"imei": "1", "mode": "enabled"}', "[]"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "state"
    path.write_text(line + "\n")

    with pytest.raises(UnreadableState):
        Memories(path)
    assert path.read_text() == line + "\n"


def test_a_file_that_is_not_utf_8_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"\xff\n")

    with pytest.raises(UnreadableState, match="UTF-8"):
        Memories(path)
    assert path.read_bytes() == b"\xff\n"


def test_the_ledger_writes_one_json_line_per_fact_and_appends(tmp_path: Path) -> None:
    (memory,) = Memories(None).start(FLEET[:1])
    for what in ("sent", "acked"):
        with Ledger(tmp_path / "ledger") as ledger:
            ledger.heartbeats(what, memory, [(1, 2), (1, 1)])

    lines = [json.loads(line) for line in (tmp_path / "ledger").read_text().splitlines()]

    assert [line["event"] for line in lines] == ["heartbeats_sent", "heartbeats_acked"]
    assert lines[0] | {"at": ""} == {
        "event": "heartbeats_sent",
        "at": "",
        "imei": memory.imei,
        "life": memory.life,
        "keys": [[1, 2], [1, 1]],
    }
