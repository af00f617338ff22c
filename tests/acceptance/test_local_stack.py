"""One command brings everything up on this machine, for root and for anybody, and nothing stays behind."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.local.account import Account
from deploy.local.folder import REPOSITORY
from deploy.local.processes import Child, Identity, end, until

UP_S = 120.0
"""Seconds to be up: a bound for a machine that does other things too."""

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".heliograph", "__pycache__", ".*_cache", ".hypothesis", "out"
)


@dataclass(frozen=True)
class Place:
    """Where a launcher is started from, and who starts it."""

    home: Path
    code: Path = REPOSITORY
    python: Path = Path(sys.executable)
    account: Account | None = None
    launched: list[Child] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "HELIOGRAPH_STATE_DIR": str(self.state),
            "HOME": str(self.home),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return {**os.environ, **ours}

    def launch(self, *words: str) -> Child:
        launcher = Child(
            [self.python, "-m", "deploy.local", *words],
            env=self.environment,
            log=self.home / "launcher.log",
            folder=self.code,
            account=self.account,
        )
        self.launched.append(launcher)
        return launcher

    def clear(self) -> None:
        """End what a failed test left behind."""
        for launcher in self.launched:
            launcher.end()
        for child in self.children().values():
            end(child)

    def record(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self.state / "run.json").read_text())
        except FileNotFoundError:
            told = {"launcher": {"pid": None}, "children": {}, "api": None}
        return told

    def children(self) -> dict[str, Identity]:
        return {name: Identity(**who) for name, who in self.record()["children"].items()}

    def wait_until_up(self, launcher: Child) -> None:
        def is_up() -> bool:
            assert launcher.ended is None, launcher.last_words(30)
            told = self.record()
            return told["launcher"]["pid"] == launcher.pid and told["api"] is not None

        assert until(is_up, UP_S), launcher.last_words(30)


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a folder that every account can pass through; pytest's own is closed."""
    with tempfile.TemporaryDirectory(prefix="heliograph-", dir="/tmp") as made:
        path = Path(made)
        path.chmod(0o711)
        yield path


@pytest.fixture
def here(home: Path) -> Iterator[Place]:
    place = Place(home)
    yield place
    place.clear()


@pytest.fixture
def elsewhere(home: Path) -> Iterator[Place]:
    """Give a readable copy of everything, and an ordinary account to use it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else; the other tests ran as an ordinary account")
    nobody = pwd.getpwnam("nobody")
    code = home / "code"
    shutil.copytree(REPOSITORY, code, ignore=NOT_COPIED)
    shutil.copytree(sys.prefix, code / ".venv", symlinks=True, ignore=NOT_COPIED, copy_function=_link)
    own = home / "own"
    own.mkdir(mode=0o700)
    os.chown(own, nobody.pw_uid, nobody.pw_gid)
    account = Account(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)
    place = Place(own, code, code / ".venv" / "bin" / "python", account)
    yield place
    place.clear()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.mark.parametrize("who", ["here", "elsewhere"])
def test_the_demo_runs_compares_and_ends(who: str, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(who)
    report = place.home / "out.json"

    launcher = place.launch("demo", "--duration", "10", "--interval", "2", "--json", str(report))
    place.wait_until_up(launcher)
    children = place.children()
    assert until(lambda: launcher.ended is not None, UP_S), launcher.last_words(30)

    assert launcher.ended == 0, launcher.last_words(30)
    told = json.loads(report.read_text())
    assert told["heartbeats_sent"] == told["heartbeats_stored"] >= 50
    assert told["heartbeats_unexpected"] == told["heartbeats_doubled"] == 0
    assert told["commands"]["confirmed"] >= 3
    assert told["seconds_to_first_heartbeat"] > 0
    assert children.keys() == {"postgres", "mosquitto", "gateway", "api"}
    assert not [name for name, child in children.items() if child.alive]
    assert not (place.state / "run.json").exists()


def test_a_folder_has_one_launcher_and_outlives_its_murder(here: Place) -> None:
    first = here.launch("up")
    here.wait_until_up(first)
    orphans = here.children()

    second = here.launch("up")
    assert until(lambda: second.ended is not None, UP_S)
    assert second.ended == 3
    assert here.record()["api"] in second.last_words()

    first.tell(signal.SIGKILL)
    first.end()
    assert all(orphan.alive for orphan in orphans.values())

    third = here.launch("up")
    here.wait_until_up(third)
    assert not any(orphan.alive for orphan in orphans.values())
    children = here.children()

    third.tell(signal.SIGTERM)
    assert until(lambda: third.ended is not None, UP_S)
    assert third.ended == 0, third.last_words(30)
    assert not [name for name, child in children.items() if child.alive]


def test_secrets_are_in_no_command_line_and_in_no_open_file(here: Place) -> None:
    launcher = here.launch("up")
    here.wait_until_up(launcher)
    secrets = json.loads((here.state / "secrets.json").read_text()).values()

    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    open_files = [
        path
        for path in here.state.rglob("*")
        if path.is_file() and "bin" not in path.parts and path.stat().st_mode & 0o077
    ]
    launcher.tell(signal.SIGTERM)

    assert until(lambda: launcher.ended is not None, UP_S)
    assert not [secret for secret in secrets if secret in shown]
    assert open_files == []
