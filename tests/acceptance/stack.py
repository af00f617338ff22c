"""The whole system as real processes on this machine, one folder each: what acceptance tests talk to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
from psycopg.rows import TupleRow

from bench.stack import Addressed
from deploy.local import broker, logins, postgres
from deploy.local.account import Account, servers_account
from deploy.local.folder import Folder, open_folder
from deploy.local.postgres import Role
from deploy.local.processes import Child, until

READY_S = 30.0

Key = tuple[str, int, int, int]
"""(imei, life, boot, seq): the name of a heartbeat for ever."""

ServeDatabase = Callable[[Folder, Account], AbstractContextManager[Addressed]]
"""Runs or lends an empty database, as `postgres.serve` does."""


class Stack:
    """PostgreSQL and Mosquitto of its own, migrated; gateway and API are started by the tests."""

    def __init__(self, folder: Folder, database: Addressed, mqtt: broker.Server) -> None:
        self.folder = folder
        self.database = database
        self.mqtt = mqtt
        self.health_port = folder.port("health")
        self.api_port = folder.port("api")
        self.children: list[Child] = []
        self.environment = {
            **os.environ,
            "HELIOGRAPH_DATABASE_URL": database.url(),
            "HELIOGRAPH_DATABASE_OWNER_URL": database.url(Role.OWNER),
            "HELIOGRAPH_BROKER_URL": mqtt.url,
            "HELIOGRAPH_BROKER_UPLINK_PASSWORD": folder.secrets.uplink,
            "HELIOGRAPH_BROKER_DOWNLINK_PASSWORD": folder.secrets.downlink,
            "HELIOGRAPH_MASTER_SECRETS": folder.secrets.master_secrets,
            "HELIOGRAPH_HTTP_PORT": str(self.api_port),
            "HELIOGRAPH_HEALTH_PORT": str(self.health_port),
        }

    def run(self, *words: str | Path, stdin: str | None = None, code: int = 0) -> str:
        """Run `python -m …` to its end and give what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *words: str | Path, env: Mapping[str, str] | None = None) -> Child:
        """Start `python -m …`; it ends with the stack at the latest."""
        log = self.folder.log("-".join(str(word).strip("-") for word in words[:2]).replace("/", "_"))
        child = Child([sys.executable, "-m", *words], env=self.environment | dict(env or {}), log=log)
        self.children.append(child)
        return child

    def start_gateway(
        self, *words: str | Path, module: str = "gateway", env: Mapping[str, str] | None = None
    ) -> Child:
        """Start a gateway and wait until it is subscribed."""
        child = self.start(module, *words, env=env)
        ready = until(lambda: child.ended is not None or self.gateway_ready(), READY_S)
        assert ready, child.last_words()
        assert child.ended is None, child.last_words()
        return child

    @property
    def api_url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.api_port}"

    def start_api(self) -> Child:
        """Start the API and wait until it answers."""
        child = self.start("api")
        ready = until(lambda: child.ended is not None or answers(f"{self.api_url}/readyz"), READY_S)
        assert ready, child.last_words()
        assert child.ended is None, child.last_words()
        return child

    def gateway_ready(self) -> bool:
        """Whether the gateway says that it is ready."""
        return answers(f"http://127.0.0.1:{self.health_port}/readyz")

    def metric(self, name: str) -> float:
        """Read a figure of the gateway; 0 before it was first counted."""
        with urlopen(f"http://127.0.0.1:{self.health_port}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        return 0.0

    def drained(self, quiet_s: float = 1.0) -> bool:
        """Whether the gateway was subscribed for so long and had nothing unacknowledged.

        One that is away holds nothing either, while the broker keeps its messages for it.
        """
        return not until(self._busy_or_away, quiet_s)

    def _busy_or_away(self) -> bool:
        return (
            self.metric("heliograph_gateway_connected") == 0
            or self.metric("heliograph_gateway_unacknowledged") > 0
        )

    def refresh_logins(self) -> None:
        """Tell the broker who is enrolled."""
        account = servers_account()
        self.run(
            "registry",
            "broker-logins",
            "--file",
            self.mqtt.logins,
            "--owner",
            account.name,
            "--with",
            self.mqtt.backend,
        )
        self.mqtt.reload()

    def enrol_fleet(self, units: int, seed: int) -> None:
        """Enrol a simulated fleet and tell the broker."""
        roster = self.run("simulator", "roster", "--units", str(units), "--seed", str(seed))
        self.run("registry", "import", "-", stdin=roster)
        self.refresh_logins()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """Look into the database, as its superuser."""
        with psycopg.connect(self.database.url(Role.SUPERUSER), autocommit=True) as conn:
            yield conn

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database one thing."""
        with self.connection() as conn:
            return conn.execute(statement.encode(), values or None).fetchall()

    def stored(self) -> list[Key]:
        """Name every stored heartbeat, as often as it is stored."""
        return [
            tuple(row)
            for row in self.query(
                "SELECT u.imei, l.life, h.boot, h.seq FROM heartbeat h JOIN unit u ON u.id = h.unit_id"
                " JOIN unit_life l ON l.unit_id = h.unit_id AND l.ordinal = h.life"
            )
        ]

    def token(self, level: str, *, email: str | None = None) -> str:
        """Issue an API token to somebody of that level."""
        address = email or f"{level}@example.com"
        self.run("registry", "account", "add", address, "--level", level, "--global")
        issued = json.loads(self.run("registry", "token", "issue", address, "--name", "test", "--json"))
        return str(issued["token"])


@contextmanager
def following(stack: Stack) -> Iterator[None]:
    """Have enrolments reach the broker by themselves until the block ends."""
    with logins.follow(stack.database.url(), stack.refresh_logins, print):
        yield


@contextmanager
def running(
    gateways: Sequence[str] = (broker.UPLINK,), serve_database: ServeDatabase = postgres.serve
) -> Iterator[Stack]:
    """Run a stack in a folder of its own, whose broker admits these gateways, until the block ends."""
    account = servers_account()
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="heliograph-", dir="/tmp"))
        folder = open_folder(Path(home), account)
        database = stack.enter_context(serve_database(folder, account))
        mqtt = stack.enter_context(broker.serve(folder, account, gateways))
        system = Stack(folder, database, mqtt)
        system.run("storage", "migrate")
        system.refresh_logins()
        try:
            yield system
        finally:
            for child in reversed(system.children):
                child.end()


def answers(address: str) -> bool:
    """Whether a page answers with 200."""
    try:
        with urlopen(address, timeout=5) as answer:  # noqa: S310 - ours, on loopback
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def ledger(path: Path, event: str) -> set[Key]:
    """Read which heartbeats the fleet's ground truth names under an event, as far as it is written."""
    keys: set[Key] = set()
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    for line in whole.splitlines():
        entry = json.loads(line)
        if entry["event"] == event:
            keys |= {(entry["imei"], entry["life"], boot, seq) for boot, seq in entry["keys"]}
    return keys
