"""One command brings everything up on this machine, for root and for anybody, and nothing stays behind."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local import web
from deploy.local.account import Account
from deploy.local.folder import REPOSITORY
from deploy.local.processes import Child, Identity, end, until
from tests.acceptance.independent_client import IndependentUnit
from tests.builders import a_serial, an_imei

UP_S = 120.0
"""Seconds to be up: a bound for a machine that does other things too."""

WHO = ("here", "elsewhere") if os.geteuid() == 0 else ("here",)
"""Only root can become somebody else; whoever is not root is that somebody already."""

FOREIGN = {
    "HELIOGRAPH_DATABASE_URL": "postgresql://somebody:secret@127.0.0.1:1/theirs",
    "HELIOGRAPH_DATABASE_OWNER_URL": "postgresql://somebody:secret@127.0.0.1:1/theirs",
    "HELIOGRAPH_BROKER_CA_FILE": "/nowhere/ca.pem",
    "HELIOGRAPH_SECRETS_DIR": "/nowhere",
    "HELIOGRAPH_HTTP_HOST": "::1",
}
"""What a shell may hold of another installation: nothing here goes there."""

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
        return {**os.environ, **FOREIGN, **ours}

    def launch(self, *words: str) -> Child:
        return Child(
            [self.python, "-m", "deploy.local", *words],
            env=self.environment,
            log=self.home / "launcher.log",
            folder=self.code,
            account=self.account,
        )

    def environment_of_children(self) -> dict[str, str]:
        """Say how one more process joins in, as the launcher tells its own."""
        secrets = json.loads((self.state / "secrets.json").read_text())
        ports = json.loads((self.state / "ports.json").read_text())
        url = f"postgresql://heliograph_app:{secrets['app']}@127.0.0.1:{ports['postgres']}/heliograph"
        master = json.dumps({"1": secrets["master"]})
        return {**os.environ, "HELIOGRAPH_DATABASE_URL": url, "HELIOGRAPH_MASTER_SECRETS": master}

    def port(self, name: str) -> int:
        port: int = json.loads((self.state / "ports.json").read_text())[name]
        return port

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


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    """Give a folder that every account can pass through; pytest's own is closed."""
    with tempfile.TemporaryDirectory(prefix="heliograph-", dir="/tmp") as made:
        path = Path(made)
        path.chmod(0o711)
        yield path


@pytest.fixture
def here(homes: Path) -> Iterator[Place]:
    with _home(homes, "here") as home:
        yield Place(home)


@pytest.fixture
def elsewhere(homes: Path) -> Iterator[Place]:
    """Give a readable copy of everything, and an ordinary account to use it."""
    nobody = pwd.getpwnam("nobody")
    code = homes / "code"
    shutil.copytree(REPOSITORY, code, ignore=NOT_COPIED)
    shutil.copytree(sys.prefix, code / ".venv", symlinks=True, ignore=NOT_COPIED, copy_function=_link)
    account = Account(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)
    _rest_on(code / ".venv", _interpreter(account))
    with _home(homes, "elsewhere") as home:
        os.chown(home, account.uid, account.gid)
        yield Place(home, code, code / ".venv" / "bin" / "python", account)


def _interpreter(account: Account) -> Path:
    """Give a Python of this version that the account can run; ours may lie in a private folder."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for folder in (Path(sys.base_prefix) / "bin", Path("/usr/bin"), Path("/usr/local/bin")):
        try:
            subprocess.run([folder / version, "-c", ""], check=True, **account.dropping)
        except (OSError, subprocess.CalledProcessError):
            continue
        return folder / version
    raise AssertionError(f"no {version} that {account.name} can run")


def _rest_on(environment: Path, interpreter: Path) -> None:
    """Make a copied virtual environment rest on another interpreter of the same version."""
    link, configuration = environment / "bin" / "python3", environment / "pyvenv.cfg"
    link.unlink()
    link.symlink_to(interpreter)
    configuration.unlink()  # it may be the original by another name
    configuration.write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")


@pytest.fixture(scope="module")
def running(homes: Path) -> Iterator[Place]:
    """Give a place in which everything is up; it ends on SIGTERM without a complaint."""
    with _home(homes, "running") as home:
        place = Place(home)
        launcher = place.launch("up")
        place.wait_until_up(launcher)
        yield place
        assert launcher.end() == 0, launcher.last_words(30)


@pytest.mark.parametrize("who", WHO)
def test_the_demo_runs_compares_and_ends(who: str, request: pytest.FixtureRequest) -> None:
    place: Place = request.getfixturevalue(who)
    report = place.home / "out.json"

    words = ("--duration", "10", "--interval", "2", "--gateways", "2", "--json", str(report))
    launcher = place.launch("demo", *words)
    place.wait_until_up(launcher)
    children = place.children()
    assert until(lambda: launcher.ended is not None, UP_S), launcher.last_words(30)

    assert launcher.ended == 0, launcher.last_words(30)
    told = json.loads(report.read_text())
    assert told["heartbeats_sent"] == told["heartbeats_stored"] >= 50
    assert told["heartbeats_unexpected"] == told["heartbeats_doubled"] == 0
    assert told["commands"]["confirmed"] >= 3
    assert told["seconds_to_first_heartbeat"] > 0
    assert children.keys() >= {"postgres", "mosquitto", "gateway-0-49", "gateway-50-99", "api"}
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


@pytest.mark.parametrize("port", ["abc", "99999"])
def test_a_port_that_is_none_is_told_before_anything_starts(
    here: Place, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOGRAPH_HTTP_PORT", port)

    launcher = here.launch("up")

    assert until(lambda: launcher.ended is not None, UP_S)
    assert launcher.ended == 1
    assert launcher.last_words().startswith("heliograph: HELIOGRAPH_HTTP_PORT: ")
    assert not (here.state / "postgres").exists()


def test_secrets_are_in_no_command_line_and_in_no_open_file(running: Place) -> None:
    secrets = json.loads((running.state / "secrets.json").read_text()).values()

    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    files = [Path(folder, name) for folder, _, names in os.walk(running.state) for name in names]
    open_files = [path for path in files if "bin" not in path.parts and is_open(path)]

    assert not [secret for secret in secrets if secret in shown]
    assert open_files == []
    assert running.state / "secrets.json" in files


def is_open(path: Path) -> bool:
    """Whether others may do anything with a file; one that is gone by now is nobody's."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o077)


def test_a_unit_enrolled_while_all_runs_is_let_in_without_more_ado(running: Place) -> None:
    """Also when others were enrolled just before: the broker is then told a little later, once for all."""
    credentials = [
        json.loads(_registry(running, "enrol", an_imei(number), a_serial(number), "--json"))
        for number in (1, 2, 3)
    ]

    for told in credentials:
        unit = IndependentUnit(
            "127.0.0.1",
            running.port("mosquitto"),
            imei=told["login"],
            password=told["password"],
            key=bytes.fromhex(told["key"]),
            life=1,
        )
        assert unit.connect()
        unit.leave()


def test_what_is_far_over_the_wire_s_limit_reaches_the_gateway_and_is_told(running: Place) -> None:
    """A broker that dropped it would make a loss that nobody sees."""
    told = json.loads(_registry(running, "enrol", an_imei(9), a_serial(9), "--json"))
    unit = IndependentUnit(
        "127.0.0.1",
        running.port("mosquitto"),
        imei=told["login"],
        password=told["password"],
        key=bytes.fromhex(told["key"]),
        life=1,
    )
    assert unit.connect()

    unit.say("heartbeat", b"{" + b" " * 512 * 1024 + b"}")
    unit.leave()

    def is_told() -> bool:
        with psycopg.connect(running.environment_of_children()["HELIOGRAPH_DATABASE_URL"]) as conn:
            found = conn.execute("SELECT 1 FROM dead_letter WHERE imei = %s", [told["login"]])
            return found.fetchone() is not None

    assert until(is_told, 10)


def test_a_gateway_that_dies_comes_again(running: Place) -> None:
    before = running.children()["gateway-0-99"]
    os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        answer = web.ask(running.port("health-gateway-0-99"), "GET", "/readyz")
        return running.children()["gateway-0-99"] != before and answer is not None and answer.ok

    assert until(is_back, 30)


def test_without_its_database_the_launcher_ends_and_says_so(here: Place) -> None:
    launcher = here.launch("up")
    here.wait_until_up(launcher)
    children = here.children()

    os.kill(children["postgres"].pid, signal.SIGKILL)

    assert until(lambda: launcher.ended is not None, UP_S)
    assert launcher.ended == 1
    assert "heliograph: postgres has ended." in launcher.last_words(30)
    assert not [name for name, child in children.items() if child.alive]


@contextmanager
def _home(homes: Path, name: str) -> Iterator[Path]:
    """Lend a folder and end whatever a failed test left running in it."""
    home = homes / name
    home.mkdir(mode=0o711)
    try:
        yield home
    finally:
        for child in Place(home).children().values():
            end(child)
        shutil.rmtree(home)


def _registry(place: Place, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "registry", *words],
        env=place.environment_of_children(),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
