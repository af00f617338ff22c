"""What all tests stand on: a real PostgreSQL per run, a database per test, no way out of this machine."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import psycopg
import pytest
from psycopg import sql

from deploy.local import given, postgres
from deploy.local.account import servers_account
from deploy.local.folder import open_folder
from deploy.local.given import GivenServer
from deploy.local.postgres import Role
from runtime.settings import Database
from storage.migrate import migrate
from storage.pool import Pool, open_pool
from storage.sql import Connection

TEMPLATE = "template_heliograph"
LOOPBACK = ("127.", "::1", "localhost")
ADMITTED_SKIPS = ("no TimescaleDB here", "no tmpfs here")

hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

_numbers = count(1)


class Addressed(Protocol):
    """A server that says where a role connects; ours, or one that is given."""

    def url(self, role: Role, database: str) -> str:
        """Give the address, password included."""
        ...


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Addressed]:
    """Run a PostgreSQL of our own for as long as the tests do, or use the one that is named."""
    if url := os.environ.get(given.VARIABLE):
        yield GivenServer(url)
        return
    with tempfile.TemporaryDirectory(prefix="heliograph-test-", dir="/tmp") as home:
        account = servers_account()
        with postgres.serve(open_folder(Path(home), account), account) as server:
            yield server


@pytest.fixture(scope="session")
def template(postgres_server: Addressed) -> str:
    """Make a migrated database that others are copied from; with TimescaleDB where the server has it."""
    _drop(postgres_server, TEMPLATE)
    _create(postgres_server, TEMPLATE)
    given.extend(postgres_server.url(Role.SUPERUSER, TEMPLATE))
    asyncio.run(migrate(_settings(postgres_server, TEMPLATE)))
    _close(postgres_server, TEMPLATE)
    return TEMPLATE


@pytest.fixture
def database(postgres_server: Addressed, template: str) -> Iterator[Database]:
    """Give a fresh migrated database; the application's role connects, the owner's may too."""
    name = f"test_{next(_numbers)}"
    _drop(postgres_server, name)
    _create(postgres_server, name, template=template)
    yield _settings(postgres_server, name)
    _drop(postgres_server, name)


@pytest.fixture
def empty_database(postgres_server: Addressed) -> Iterator[Database]:
    """Give a database in which nothing was ever migrated; with TimescaleDB where the server has it."""
    name = f"test_{next(_numbers)}"
    _drop(postgres_server, name)
    _create(postgres_server, name)
    given.extend(postgres_server.url(Role.SUPERUSER, name))
    yield _settings(postgres_server, name)
    _drop(postgres_server, name)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Open a pool on the test's database, as the application's role."""
    async with open_pool(database) as opened:
        yield opened


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection in a transaction that ends with the test."""
    async with pool.transaction() as lent:
        yield lent


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test connect anywhere but to loopback."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test wanted to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Turn every skip into a failure in CI: a hole must not look like a pass."""
    outcome = yield
    _fail_if_skipped(outcome.get_result(), item.nodeid)


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """Do the same for a whole file that skips itself."""
    outcome = yield
    _fail_if_skipped(outcome.get_result(), collector.nodeid)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport, what: str) -> None:
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(ADMITTED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"{what} was skipped in CI: {reason}"


def _settings(server: Addressed, name: str) -> Database:
    return Database.model_validate(
        {"database_url": server.url(Role.APP, name), "database_owner_url": server.url(Role.OWNER, name)}
    )


def _create(server: Addressed, name: str, template: str = "template0") -> None:
    _administer(
        server,
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(Role.OWNER), sql.Identifier(template)
        ),
    )


def _drop(server: Addressed, name: str) -> None:
    _administer(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _close(server: Addressed, name: str) -> None:
    """Keep everybody out: a worker of TimescaleDB that is inside keeps a database from being copied."""
    _administer(server, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
    _administer(
        server,
        sql.SQL("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = {}").format(
            sql.Literal(name)
        ),
    )


def _administer(server: Addressed, statement: sql.Composed) -> None:
    with psycopg.connect(server.url(Role.SUPERUSER, "postgres"), autocommit=True) as conn:
        conn.execute(statement)
