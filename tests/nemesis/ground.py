"""What promises are tried on: the acceptance tests' stack with enrolled units, and logins that speak for all.

The database is a server of our own: of the programs in the folder that HELIOGRAPH_TEST_POSTGRES_BIN
names, with TimescaleDB where they have it, else of the wheel. A promise that leaves the server alone
is tried on the one that HELIOGRAPH_TEST_DATABASE_URL names, if it names one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from bench import stack as bench
from deploy.local import broker, given
from deploy.local.account import Account, servers_account
from deploy.local.folder import Folder, write_private
from deploy.local.postgres import Role
from protocol.identity import Imei
from runtime.settings import Database
from tests.acceptance.stack import Stack, running
from tests.nemesis import server
from tests.nemesis.load import Load, Message
from tests.nemesis.rows import CannotTry

PROGRAMS = "HELIOGRAPH_TEST_POSTGRES_BIN"
DATABASE_URL = "HELIOGRAPH_DATABASE_URL"
BROKER_URL = "HELIOGRAPH_BROKER_URL"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ground:
    """A running stack with so many units enrolled; made by `laid`."""

    stack: Stack
    imeis: Sequence[Imei]
    password: str = field(repr=False)

    def load(self, messages: Iterator[Message], per_second: float, *, place: int = 0) -> Load:
        """Give a connection that publishes these from when it is entered; several need a place each."""
        return Load(self.stack.mqtt.port, (bench.PUBLISHERS[place], self.password), messages, per_second)

    @property
    def server(self) -> server.Server:
        """The database server that may come to harm, of a ground with `own_server`."""
        assert isinstance(self.stack.database, server.Server)
        return self.stack.database

    @property
    def settings(self) -> Database:
        """How the application reaches the database, for who uses its modules and no process of its own."""
        return Database(database_url=SecretStr(self.stack.database.url()))

    def port(self, variable: str) -> int:
        """Give the port that an address of the environment names."""
        port = urlsplit(self.stack.environment[variable]).port
        assert port is not None, variable
        return port

    def through(self, variable: str, proxy_port: int) -> Mapping[str, str]:
        """Give the environment of a process that goes through a proxy to database or broker."""
        place = urlsplit(self.stack.environment[variable])
        login, at, _ = place.netloc.rpartition("@")
        return {variable: urlunsplit(place._replace(netloc=f"{login}{at}127.0.0.1:{proxy_port}"))}


@contextmanager
def laid(
    units: int, *, own_server: bool = False, gateways: Sequence[str] = (broker.UPLINK,)
) -> Iterator[Ground]:
    """Run a stack with units enrolled; `own_server` when the promise does harm to the database server."""
    with running(gateways, _own if own_server or not _given() else _lent) as stack:
        password = secrets.token_urlsafe()
        admit(stack, bench.PUBLISHERS, password, bench.access())
        rig = bench.Stack(stack.folder, stack.database, stack.mqtt, password)
        yield Ground(stack, list(asyncio.run(rig.enrol(units))), password)


@contextmanager
def entered(runner: asyncio.Runner, context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Hold something asynchronous open on a loop that runs now and then, as Hypothesis asks for it."""
    held = runner.run(_enter(context))
    try:
        yield held
    finally:
        runner.run(_leave(context))


async def _enter(context: AbstractAsyncContextManager[T]) -> T:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[T]) -> None:
    await context.__aexit__(None, None, None)


def programs() -> Path | None:
    """Give the folder of server programs that is to be used instead of the wheel's."""
    named = os.environ.get(PROGRAMS)
    return Path(named) if named else None


def _given() -> str | None:
    """Give the address of a server of somebody else's."""
    return None if programs() else os.environ.get(given.VARIABLE)


@contextmanager
def _own(folder: Folder, account: Account) -> Iterator[bench.Addressed]:
    url = _given()
    if url and given.timescale(url):
        raise CannotTry(f"A TimescaleDB that may come to harm is needed: name its programs in {PROGRAMS}.")
    with server.serve(folder, account, programs()) as ours:
        given.extend(ours.url(Role.SUPERUSER))
        yield ours


@contextmanager
def _lent(_folder: Folder, _account: Account) -> Iterator[bench.Addressed]:
    with given.lend(_given() or "", "heliograph_nemesis") as database:
        yield database


def admit(stack: Stack, users: Sequence[str], password: str, access: str) -> None:
    """Let more users in at the broker, also after the units' logins were written anew."""
    account = servers_account()
    listed = stack.mqtt.logins.with_name("access")
    write_private(listed, listed.read_text(encoding="ascii") + access, owner=account)
    backend = stack.mqtt.backend
    lines = "".join(broker.login(user, password) for user in users)
    write_private(backend, backend.read_text(encoding="ascii") + lines)
    write_private(stack.mqtt.logins, backend.read_text(encoding="ascii"), owner=account)
    stack.mqtt.reload()
