"""Every scenario of the simulator holds against the running system; one that cannot hold says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

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
        self._next_seed = 0

    def run(self, *words: str, roster: Path | None = None) -> Ran:
        """Play as an engineer does, to the end."""
        chosen = ("--roster", str(roster)) if roster else ()
        return subprocess.run(
            [sys.executable, "-m", "simulator", "run", *words, *chosen, "--json", "--patience", "45"],
            env=self._stack.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def enrol(self, names: list[str]) -> dict[str, Path]:
        """Enrol some units for each play, all at once."""
        rosters = {}
        lines: list[str] = []
        for seed, name in enumerate(names, 1):
            text = table(1 + SPARE, seed, interval_s=1)
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
        stack.environment |= hasty() | {
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
    asked = [name for name in NAMES if any(f"[{name}]" in item.name for item in request.session.items)]
    rosters = theatre.enrol(asked)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(theatre.run, name, roster=rosters[name]) for name in asked}


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_of_the_catalogue_holds(name: str, plays: dict[str, Future[Ran]]) -> None:
    ran = plays[name].result()

    assert ran.returncode == 0, ran.stdout + ran.stderr
    [outcome] = json.loads(ran.stdout)
    assert outcome["broken"] == {}
    assert len(outcome["steps"]) == len(scenario.named(name).steps)


def hasty() -> dict[str, str]:
    """Read the settings under which scenarios fit into a minute."""
    lines = scenario.SETTINGS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
