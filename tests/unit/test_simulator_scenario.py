"""What a scenario file may say, and what it is told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator import scenario
from simulator.faults import Fault
from simulator.scenario import BadScenario, NoSuchScenario, Strike

GOOD = """
line = "A unit is switched off."
steps = [
    { do = "strike", fault = "lying_ack", times = 2 },
    { do = "order", wish = "offline_disabled", command = "off" },
    { do = "wait", command = "off", state = "confirmed" },
]
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_scenario_is_read_with_its_name(tmp_path: Path) -> None:
    read = scenario.load(_written(tmp_path, GOOD))

    assert (read.name, read.units) == ("mine", ("home",))
    assert [str(step) for step in read.steps] == [
        "home: lying_ack with the next 2 commands",
        "order offline_disabled for home",
        "off is confirmed",
    ]


@pytest.mark.parametrize(
    ("wrong", "by", "told"),
    [
        ("steps = [", "steps = [[", "is not TOML"),
        ('fault = "lying_ack"', 'fault = "lying"', "steps.0.strike.fault: Input should be"),
        ('do = "wait"', 'do = "hope"', "steps.2: Input tag 'hope'"),
        ("times = 2", "times = 0", "steps.0.strike.times: Input should be greater"),
        ("times = 2", "often = 2", "steps.0.strike.often: Extra inputs"),
        ('{ do = "wait", command = "off"', '{ do = "wait", command = "of"', "names the command of before"),
        ('fault = "lying_ack"', 'fault = "lying_ack", unit = "away"', "names the unit away"),
        ('line = "A unit is switched off."', "", "line: Field required"),
        ("steps = [", "interval_s = inf\nsteps = [", "interval_s: Input should be less"),
        ("\n]\n", '\n]\n[unheld]\nworld_peace = "far"\n', "unheld names no invariant: world_peace"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, wrong: str, by: str, told: str) -> None:
    path = _written(tmp_path, GOOD.replace(wrong, by))

    with pytest.raises(BadScenario) as refused:
        scenario.load(path)

    assert told in refused.value.message
    assert str(path) in refused.value.message


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"line = '\xff'")

    with pytest.raises(BadScenario, match="UTF-8"):
        scenario.load(tmp_path / "mine.toml")


def test_a_scenario_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(NoSuchScenario, match="lying-ack, off-and-on"):
        scenario.named("lies")


def test_the_catalogue_shows_every_fault_at_work() -> None:
    at_work = {step.fault for each in scenario.catalogue() for step in each.steps if isinstance(step, Strike)}

    assert at_work == set(Fault)


def test_an_invariant_that_is_not_held_has_a_reason() -> None:
    reasons = [reason for each in scenario.catalogue() for reason in each.unheld.values()]

    assert all(len(reason) > 20 for reason in reasons)
