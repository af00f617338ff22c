"""How tests call the API: two entities with a unit each, and callers of every level and scope."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from httpx import ASGITransport, AsyncClient, Response

from api.wiring import Api, application
from commands.observe import Reported, observe
from protocol.messages import Heartbeat, Mode
from registry import accounts, enrolment, entities, tokens
from registry.accounts import AccountExists
from registry.permissions import Level, Scope, listed
from registry.tokens import Terms
from runtime import clock
from runtime.settings import Commands, Database, Keeping, Plans
from storage.pool import Pool, open_pool
from storage.sql import Connection
from telemetry.arrivals import Arrival, moments
from telemetry.partitions import Days
from telemetry.record import record
from tests.builders import a_deed, a_newcomer, a_serial, keys

OWN, FOREIGN = 2, 3
"""The two entities; each has the unit of its number less one: HB000001-G and HB000002-G."""

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass
class Site:
    """A backend with its API."""

    pool: Pool
    app: Api
    http: AsyncClient
    keys: Any
    seq: int = 0

    async def token(
        self,
        level: Level = Level.SYSTEM,
        scope: Scope = None,
        *,
        name: str = "somebody",
        issued_at: datetime | None = None,
        days: int = 90,
    ) -> str:
        """Issue a token; a name with a level and a scope is an account."""
        email = f"{name}-{level}-{'-'.join(map(str, listed(scope) or ()))}@example.com"
        deed = a_deed(now=issued_at or clock.now())
        try:
            async with self.pool.transaction() as conn:
                await accounts.add(conn, email, level, scope, deed)
        except AccountExists:
            pass
        async with self.pool.transaction() as conn:
            secret, _ = await tokens.issue(conn, email, Terms(name="a program", days=days), deed)
        return secret

    async def expired(self) -> str:
        """Issue a token whose time is over."""
        return await self.token(name="late", issued_at=clock.now() - timedelta(days=9), days=1)

    async def revoked(self) -> str:
        """Issue a token and revoke it."""
        secret = await self.token(name="gone")
        await self.sql("UPDATE api_token SET revoked_at = now() WHERE id = (SELECT max(id) FROM api_token)")
        return secret

    async def get(self, path: str, token: str | None = None, **query: Any) -> Response:
        """Ask."""
        return await self.ask("GET", path, token, params=query or None)

    async def post(
        self, path: str, token: str | None, body: Any, *, key: str | None = None, **more: Any
    ) -> Response:
        """Create; without a key, under one of its own."""
        headers = {"Idempotency-Key": key or f"key-{next(self.keys)}"}
        return await self.ask("POST", path, token, json=body, headers=headers, **more)

    async def put(self, path: str, token: str | None, body: Any) -> Response:
        """Set."""
        return await self.ask("PUT", path, token, json=body)

    async def ask(
        self, method: str, path: str, token: str | None = None, *, headers: Any = None, **more: Any
    ) -> Response:
        """Send a request."""
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self.http.request(method, path, headers={**shown, **(headers or {})}, **more)

    async def reports(
        self, unit_id: int, mode: Mode = Mode.ENABLED, epoch: int = 0, at: datetime | None = None, **more: Any
    ) -> None:
        """Let a unit send a heartbeat, as a gateway takes it in."""
        self.seq += 1
        said = Heartbeat(life=1, boot=1, seq=self.seq, mode=mode, epoch=epoch, **more)
        now = at or clock.now()
        arrivals = [Arrival(unit_id=unit_id, message=said, received_at=now, live=True)]
        await Days(self.pool).ensure(moments(arrivals))
        async with self.pool.transaction() as conn:
            await record(conn, arrivals, now=now)
            await self._observe(conn, unit_id, said, now)

    async def sql(self, statement: str, *values: object) -> None:
        """Do what no room does."""
        async with self.pool.transaction() as conn:
            await conn.execute(statement.encode(), values)

    async def sends(self, command_id: str) -> None:
        """Let a command have been sent once."""
        await self.sql(
            "UPDATE command SET state = 'sent', attempt = 1, attempted_at = now() WHERE id = %s", command_id
        )

    async def _observe(self, conn: Connection, unit_id: int, said: Heartbeat, now: datetime) -> None:
        told = Reported(
            unit_id=unit_id, epoch=said.epoch, mode=said.mode, boot=1, seq=said.seq, received_at=now
        )
        await observe(conn, acks=[], reports=[told], listening=[unit_id], actor="g", settings=Commands())


@asynccontextmanager
async def site(database: Database) -> AsyncIterator[Site]:
    """Open a backend with two entities and a unit of each."""
    async with open_pool(database) as pool:
        async with pool.transaction() as conn:
            for name in ("Own", "Foreign"):
                await entities.add(conn, name, a_deed())
            newcomers = [a_newcomer(1, entity_id=OWN), a_newcomer(2, entity_id=FOREIGN)]
            assert await enrolment.enrol_all(conn, newcomers, keys(), a_deed()) == [None, None]
        app = application(pool, Commands(), Keeping(), Plans())
        async with caller(app) as http:
            yield Site(pool, app, http, count())


def caller(app: Api, host: str = "127.0.0.1") -> AsyncClient:
    """Give a client that calls an application from somewhere."""
    return AsyncClient(transport=ASGITransport(app, client=(host, 4711)), base_url="http://heliograph")


def unit_of(entity_id: int) -> str:
    """Give the serial number of an entity's unit."""
    return a_serial(entity_id - 1)


def problem(answer: Response) -> tuple[int, str]:
    """Give status and kind of a problem, once it is well told."""
    assert answer.headers["content-type"] == PROBLEM, answer.text
    told = answer.json()
    assert told["status"] == answer.status_code
    assert told["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail"} <= told.keys()
    return answer.status_code, told["type"].removeprefix("/problems/")
