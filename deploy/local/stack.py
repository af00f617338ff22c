"""The whole system on this machine: both servers, the schema, an administrator, gateways and the API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg

from deploy.local import broker, logins, postgres, web
from deploy.local.account import Account
from deploy.local.children import Children, Watched, step, told
from deploy.local.folder import Folder
from deploy.local.gateways import gateways as plan
from deploy.local.installation import ensure_broker
from deploy.local.logins import Follower
from deploy.local.postgres import Role
from deploy.local.progress import Progress
from deploy.local.tenancy import Tenancy
from runtime import clock
from runtime.errors import Unavailable
from runtime.settings import Http, read
from storage.sql import load

SQL = load(__file__)
ADMINISTRATOR = "admin@heliograph.example"
HTTP_PORT = "HELIOGRAPH_HTTP_PORT"
READY_S = 30.0

Enrol = Callable[[Mapping[str, str]], None]


class NotReady(Unavailable):
    """A process does not become ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A system that is up; made by `up`."""

    folder: Folder
    children: Children
    environment: Mapping[str, str]
    database: str
    api_port: int
    health_ports: Sequence[int]
    token: str
    follower: Follower

    def tend(self) -> None:
        """Keep everything running; raises when that cannot be."""
        self.children.tend()
        self.follower.heed()


@contextmanager
def up(
    folder: Folder,
    account: Account,
    tenancy: Tenancy,
    progress: Progress,
    *,
    gateways: int,
    enrol: Enrol | None = None,
) -> Iterator[Stack]:
    """Start everything, each when what it stands on is there, and end it in reverse; `enrol` brings units."""
    api_port = folder.port("api", wish=read(Http).http_port)
    children = Children(folder, tenancy, progress.say)
    planned = plan(folder, gateways)
    ensure_broker(progress.say)
    with ExitStack() as stack:
        with progress.step("PostgreSQL"):
            database = stack.enter_context(postgres.serve(folder, account))
            stack.enter_context(children.watch("postgres", database.child))
        with progress.step("Mosquitto"):
            mqtt = stack.enter_context(broker.serve(folder, account, [one.name for one in planned]))
            stack.enter_context(children.watch("mosquitto", mqtt.child))
        with progress.step("Schema"):
            owner = {"HELIOGRAPH_DATABASE_OWNER_URL": database.url(Role.OWNER)}
            step("storage", "migrate", env={"HELIOGRAPH_DATABASE_URL": database.url(), **owner})
        serving = {"HELIOGRAPH_DATABASE_URL": database.url(), HTTP_PORT: str(api_port)}
        environment = {
            "HELIOGRAPH_DATABASE_URL": database.url(),
            "HELIOGRAPH_BROKER_URL": mqtt.url,
            "HELIOGRAPH_MASTER_SECRETS": folder.secrets.master_secrets,
        }
        started = [
            stack.enter_context(children.serve(one.name, one.words, environment | one.environment(folder)))
            for one in planned
        ]
        api = stack.enter_context(children.serve("api", ["api"], serving))
        with progress.step(f"Administrator {ADMINISTRATOR}"):
            token = _token(database.url(), environment)
        if enrol:
            with progress.step("Units enrolled"):
                enrol(environment)
        with progress.step("Broker logins"):
            refresh = partial(_refresh_logins, account, mqtt, environment)
            follower = stack.enter_context(logins.follow(database.url(), refresh, progress.say))
            progress.wait(follower.refreshed.is_set, READY_S)
        with progress.step("Gateway" if gateways == 1 else f"{gateways} gateways"):
            for one, watched in zip(planned, started, strict=True):
                _ready(watched, one.health_port, progress)
        with progress.step("API"):
            _ready(api, api_port, progress)
        tenancy.announce(f"http://127.0.0.1:{api_port}")
        yield Stack(
            folder=folder,
            children=children,
            environment=environment,
            database=database.url(),
            api_port=api_port,
            health_ports=[one.health_port for one in planned],
            token=token,
            follower=follower,
        )


def _token(database: str, environment: Mapping[str, str]) -> str:
    """Issue the administrator a fresh token: of an earlier one only the hash is kept."""
    with psycopg.connect(database) as conn:
        known = conn.execute(SQL.account, {"email": ADMINISTRATOR}).fetchone()
    if not known:
        step("registry", "account", "add", ADMINISTRATOR, "--level", "system", "--global", env=environment)
    name = f"start of {clock.now():%Y-%m-%d %H:%M:%S} UTC"
    issued = step("registry", "token", "issue", ADMINISTRATOR, "--name", name, "--json", env=environment)
    token: str = json.loads(issued)["token"]
    return token


def _refresh_logins(account: Account, mqtt: broker.Server, environment: Mapping[str, str]) -> None:
    """Write the broker's password file anew and have it read."""
    files = ("--file", mqtt.logins, "--with", mqtt.backend)
    step("registry", "broker-logins", *files, "--owner", account.name, env=environment)
    mqtt.reload()


def _ready(watched: Watched, port: int, progress: Progress) -> None:
    """Wait until a process says that it is ready; `NotReady` says why it is not."""

    def ready() -> bool:
        answer = web.ask(port, "GET", "/readyz")
        return watched.child.ended is not None or (answer is not None and answer.ok)

    if not progress.wait(ready, READY_S) or watched.child.ended is not None:
        raise NotReady(f"The {watched.name} does not become ready.", **told(watched.child))
