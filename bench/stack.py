"""The servers that a measurement runs on: a fresh database and broker, set up as the local stack does it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr
from stdnum import luhn

from deploy.local import broker, given, postgres
from deploy.local.account import Account, servers_account
from deploy.local.folder import REPOSITORY, Folder, open_folder, write_private
from deploy.local.gateways import ranges
from deploy.local.postgres import Role
from deploy.local.processes import Child
from protocol.identity import Imei, SerialNumber
from registry import access_list, accounts, enrolment, tokens, units
from registry.audit import Deed
from registry.newcomers import Newcomer
from registry.permissions import Level, shell
from registry.tokens import Terms
from runtime import clock
from runtime.errors import Unavailable
from runtime.settings import Database, Keys
from storage.migrate import migrate
from storage.pool import open_pool

PUBLISHERS = tuple(f"bench-{number}" for number in range(8))
"""Broker logins of the load: a unit's login may speak for one unit only."""

GATEWAYS = tuple(access_list.gateway(partitions) for number in (1, 2) for partitions in ranges(number))
"""Who may be started: one for all units, or two that share them."""

READY_S = 120.0
"""Seconds to wait for a process; a gateway takes in what waited for it before it is subscribed."""
POLL_S = 0.02
BATCH = 1000  # units enrolled in one transaction


class DidNotHappen(Unavailable):
    """A measurement waited in vain."""


class Addressed(Protocol):
    """A database that says where a role connects: of our own server, or of the one that is named."""

    def url(self, role: Role = ...) -> str:
        """Give the address, password included."""
        ...


@dataclass(frozen=True, slots=True)
class Stack:
    """A running database and broker; made by `serve`."""

    folder: Folder
    database: Addressed
    broker: broker.Server
    password: str = field(repr=False)
    """Of every publisher."""

    @property
    def settings(self) -> Database:
        """Say how this process reaches the database."""
        return Database(
            database_url=SecretStr(self.database.url()),
            database_owner_url=SecretStr(self.database.url(Role.OWNER)),
        )

    @asynccontextmanager
    async def running(
        self, module: str, *words: str, ready: str = "uplink_subscribed"
    ) -> AsyncIterator[Child]:
        """Run `python -m MODULE`, from when it says that it is `ready` to the end of the block."""
        child = Child(
            [sys.executable, "-m", module, *words],
            env=self._environment(),
            log=self.folder.log(f"{'-'.join((module, *words))}-{time.monotonic_ns()}"),
        )
        try:
            await until(lambda: child.ended is not None or ready in told(child), READY_S)
            if child.ended is not None:
                raise DidNotHappen(f"{module} does not start.", said=child.last_words())
            yield child
        finally:
            child.end()

    def gateway(self, partitions: range = range(100)) -> AbstractAsyncContextManager[Child]:
        """Run a gateway over some partitions, from its subscription to the end of the block."""
        return self.running("gateway", "--partitions", f"{partitions[0]}-{partitions[-1]}")

    @asynccontextmanager
    async def api(self) -> AsyncIterator[str]:
        """Run the API to the end of the block; gives its address."""
        async with self.running("api", ready="api_served") as child:
            yield next(
                str(json.loads(line)["address"]) for line in told(child).splitlines() if "api_served" in line
            )

    async def token(self) -> str:
        """Issue an API token that may do everything."""
        deed = Deed(by=shell(), now=clock.now(), reason="to be measured")
        async with open_pool(self.settings) as pool, pool.transaction() as conn:
            account = await accounts.add(conn, "bench@example.com", Level.SYSTEM, None, deed)
            secret, _ = await tokens.issue(conn, account.email, Terms(name="bench"), deed)
        return secret

    async def enrol(self, number: int) -> dict[Imei, int]:
        """Enrol so many units; gives their row ids."""
        everyone = [_newcomer(place) for place in range(number)]
        keys = Keys.model_validate({"master_secrets": {1: self.folder.secrets.master}})
        deed = Deed(by=shell(), now=clock.now(), reason="to be measured")
        async with open_pool(self.settings) as pool:
            for start in range(0, number, BATCH):
                async with pool.transaction() as conn:
                    await enrolment.enrol_all(conn, everyone[start : start + BATCH], keys, deed)
            async with pool.transaction() as conn:
                known = await units.ids_by_imei(conn, [unit.imei for unit in everyone])
        return {unit.imei: known[unit.imei] for unit in everyone}

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "PYTHONPATH": str(REPOSITORY),
            "HELIOGRAPH_DATABASE_URL": self.database.url(),
            "HELIOGRAPH_BROKER_URL": self.broker.url,
            "HELIOGRAPH_BROKER_UPLINK_PASSWORD": self.folder.secrets.uplink,
            "HELIOGRAPH_BROKER_DOWNLINK_PASSWORD": self.folder.secrets.downlink,
            "HELIOGRAPH_MASTER_SECRETS": self.folder.secrets.master_secrets,
            "HELIOGRAPH_HTTP_PORT": "0",
        }


@asynccontextmanager
async def serve(database: str = "heliograph_bench") -> AsyncIterator[Stack]:
    """Run both servers in a folder of their own that is gone afterwards; of a given server, one database."""
    account = servers_account()
    with ExitStack() as held:
        path = held.enter_context(tempfile.TemporaryDirectory(prefix="heliograph-bench-"))
        folder = open_folder(Path(path), account)
        served = _database(held, folder, account, database)
        courier = held.enter_context(broker.serve(folder, account, GATEWAYS))
        stack = Stack(folder, served, courier, secrets.token_urlsafe())
        await migrate(stack.settings)
        listed = courier.logins.with_name("access")
        write_private(listed, listed.read_text(encoding="ascii") + access(), owner=account)
        write_private(
            courier.logins,
            courier.logins.read_text(encoding="ascii")
            + "".join(broker.login(user, stack.password) for user in PUBLISHERS),
            owner=account,
        )
        courier.reload()
        yield stack


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition; raises `DidNotHappen`."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - other processes make it come true
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise DidNotHappen("A measurement waited in vain.", seconds=seconds) from None


def told(child: Child) -> str:
    """Give everything that a process has said, but for a line that it is still at."""
    said = child.log.read_text(encoding="utf-8", errors="replace")
    return said[: said.rfind("\n") + 1]


def access() -> str:
    """Give the lines of the broker's access list that let the load speak, and hear, for every unit."""
    return "".join(
        f"\nuser {user}\ntopic write scu/v1/+/+/heartbeat\ntopic write scu/v1/+/+/ack\n"
        "topic read scu/v1/+/+/command\n"
        for user in PUBLISHERS
    )


def _database(held: ExitStack, folder: Folder, account: Account, name: str) -> Addressed:
    if url := os.environ.get(given.VARIABLE):
        return held.enter_context(given.lend(url, name))
    return held.enter_context(postgres.serve(folder, account))


def _newcomer(number: int) -> Newcomer:
    return Newcomer(imei=imei(number), serial_number=SerialNumber(f"BENCH-{number:08}"))


def imei(number: int) -> Imei:
    """Name a unit of the load by its number."""
    body = f"{35209900000000 + number:014}"
    return Imei(body + luhn.calc_check_digit(body))
