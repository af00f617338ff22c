"""Every scenario of the simulator holds against the running system; one that cannot hold says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.local.__main__ import app
from deploy.local.theatre import short_deadlines
from simulator import scenario
from simulator.roster import table
from tests.acceptance.stack import Stack, following, running

AT_ONCE = 4
SPARE = 2
"""Units for each scenario beyond the one that it needs."""

Ran = subprocess.CompletedProcess[str]


class Theatre:
    """A running system with units of its own for each play."""

    def __init__(self, stack: Stack, rosters: Path) -> None:
        self._stack = stack
        self._rosters = rosters
        self._seed = 0

    def run(self, name: str | Path, roster: Path, *, patience_s: int = 45, **environment: str) -> Ran:
        """Play as an engineer does, to the end."""
        words = (name, "--roster", roster, "--patience", str(patience_s), "--json")
        return subprocess.run(
            [sys.executable, "-m", "simulator", "run", *words],
            env=self._stack.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def enrol(self, names: list[str]) -> dict[str, Path]:
        """Enrol some units for each play, all at once."""
        rosters = {}
        lines: list[str] = []
        for name in names:
            self._seed += 1
            text = table(1 + SPARE, self._seed, interval_s=1)
            rosters[name] = self._rosters / f"{name}.csv"
            rosters[name].write_text(text, encoding="utf-8")
            head, *rest = text.splitlines()
            lines += rest if lines else [head, *rest]
        self._stack.run("registry", "import", "-", stdin="\n".join(lines) + "\n")
        self._stack.refresh_logins()
        return rosters


NAMES = [each.name for each in scenario.catalogue()]


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    with running() as stack, following(stack):
        stack.environment |= short_deadlines() | {
            "HELIOGRAPH_API_URL": stack.api_url,
            "HELIOGRAPH_API_TOKEN": stack.token("admin"),
            "HELIOGRAPH_APPROVER_TOKEN": stack.token("admin", email="second@example.com"),
        }
        stack.start_gateway()
        stack.start_api()
        yield Theatre(stack, tmp_path_factory.mktemp("rosters"))


@pytest.fixture(scope="module")
def plays(theatre: Theatre, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Ran]]]:
    """Let the plays that were asked for run beside each other: most of their time is waiting."""
    asked = [name for name in NAMES if any(item.name.endswith(f"[{name}]") for item in request.session.items)]
    rosters = theatre.enrol(asked)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(theatre.run, name, rosters[name]) for name in asked}


@pytest.fixture(scope="module")
def idle(theatre: Theatre) -> Path:
    """Units with whom nothing is played."""
    return theatre.enrol(["idle"])["idle"]


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_of_the_catalogue_holds(name: str, plays: dict[str, Future[Ran]]) -> None:
    ran = plays[name].result()

    assert ran.returncode == 0, ran.stdout + ran.stderr
    [outcome] = json.loads(ran.stdout)
    assert outcome["broken"] == {}
    assert len(outcome["steps"]) == len(scenario.named(name).steps)


BRIDGED = """
line = "Nobody can switch off a home whose switch is bridged, and here it is demanded all the same."
steps = [
    { do = "strike", fault = "bridged_output" },
    { do = "order", wish = "offline_disabled", command = "off" },
    { do = "wait", command = "off", state = "confirmed" },
]
"""

LYING = """
line = "A unit that lies for ever is to be switched on; that wish stands also when its command has expired."
steps = [
    { do = "order", wish = "offline_disabled", command = "off" },
    { do = "wait", command = "off", state = "confirmed" },
    { do = "strike", fault = "lying_ack", times = 100 },
    { do = "order", wish = "enabled", command = "on" },
    { do = "look", shows = { enable_status = "enabled" } },
]
"""

FAILING = {"bridged": BRIDGED, "lying": LYING}
PATIENCE_S = 16
"""What comes true does so in a second or two, on a busy machine somewhat later."""


@pytest.fixture(scope="module")
def failures(theatre: Theatre, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Ran]]]:
    """Let those that cannot hold run beside each other: each waits until its patience is over."""
    folder, rosters = tmp_path_factory.mktemp("failing"), theatre.enrol([*FAILING])
    with ThreadPoolExecutor(len(FAILING)) as pool:
        plays = {}
        for name, text in FAILING.items():
            (path := folder / f"{name}.toml").write_text(text, encoding="utf-8")
            plays[name] = pool.submit(theatre.run, path, rosters[name], patience_s=PATIENCE_S)
        yield plays


def test_what_the_backend_cannot_mend_ends_1_and_names_the_invariant(
    failures: dict[str, Future[Ran]],
) -> None:
    ran = failures["bridged"].result()

    assert ran.returncode == 1, ran.stdout + ran.stderr
    [outcome] = json.loads(ran.stdout)
    assert outcome["broken"] == {
        "power_follows_intent": "home: the output is on, the newest wish that stands is offline_disabled"
    }
    assert "power_follows_intent is broken" in ran.stderr


def test_a_step_that_does_not_come_true_ends_1_and_is_named(failures: dict[str, Future[Ran]]) -> None:
    ran = failures["lying"].result()

    assert ran.returncode == 1, ran.stdout + ran.stderr
    [outcome] = json.loads(ran.stdout)
    assert outcome["broken"]["steps_come_true"] == (
        f"step 5, home is shown with enable_status enabled: not within {PATIENCE_S} s"
    )
    assert "final_mode_is_newest_intent" in outcome["broken"]


@pytest.mark.parametrize(
    ("name", "environment", "told"),
    [
        ("off-and-on", {"HELIOGRAPH_API_URL": "http://127.0.0.1:9"}, "name it: HELIOGRAPH_API_URL"),
        ("off-and-on", {"HELIOGRAPH_API_TOKEN": "hg_nobody"}, "The API token is not accepted"),
        ("off-and-on", {"HELIOGRAPH_API_TOKEN": ""}, "python -m registry token issue"),
        ("off-and-on", {"HELIOGRAPH_BROKER_URL": "mqtt://127.0.0.1:9"}, "HELIOGRAPH_BROKER_URL"),
        ("off-and-on", {"HELIOGRAPH_MASTER_SECRETS": json.dumps({"1": "ab" * 32})}, "broker-logins"),
        ("reset-forgetting-off", {"HELIOGRAPH_APPROVER_TOKEN": ""}, "HELIOGRAPH_APPROVER_TOKEN"),
        ("silent-beyond-life", {}, "simulator/scenarios/settings.env"),
    ],
    ids=["api", "token", "no-token", "broker", "secret", "approver", "patience"],
)
def test_what_cannot_be_played_ends_2_and_says_what_to_do(
    name: str, environment: dict[str, str], told: str, theatre: Theatre, idle: Path
) -> None:
    ran = theatre.run(name, idle, patience_s=8, **environment)

    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr


def test_one_word_plays_them_against_a_system_of_its_own() -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")}

    ran = subprocess.run(
        [sys.executable, "-m", "deploy.local", "scenarios", "off-and-on", "--json"],
        env=own,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    [outcome] = json.loads(ran.stdout)
    assert (outcome["scenario"], outcome["broken"]) == ("off-and-on", {})


def test_what_is_no_scenario_is_told_before_a_system_is_started() -> None:
    told = CliRunner().invoke(app, ["scenarios", "nobody"])

    assert told.exit_code == 2
    assert "There is no scenario nobody" in told.stderr


def test_a_unit_that_is_not_enrolled_is_told_with_how_to_enrol_it(theatre: Theatre, tmp_path: Path) -> None:
    roster = tmp_path / "unknown.csv"
    roster.write_text(table(1, 9_999, interval_s=1), encoding="utf-8")

    ran = theatre.run("off-and-on", roster)

    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "is not enrolled" in ran.stderr
    assert "python -m registry import" in ran.stderr
