"""Who serves under a gateway's name: one process at a time; another of that name stands by."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from runtime.retry import until_stopped
from runtime.services import Service, pause, together
from runtime.settings import Database
from storage import dedicated
from storage.sql import Connection

STANDBY_S = 1.0
LOCK_CHECK_S = 5.0

log = structlog.get_logger()


class Tenure:
    """Runs what logs in at the broker, for as long as this process holds the lock on the name."""

    def __init__(self, name: str, database: Database, services: Mapping[str, Service]) -> None:
        self._name = name
        self._database = database
        self._services = services

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve, or stand by, until stopped."""
        await until_stopped("tenure", self._hold, stop)

    async def _hold(self, stop: asyncio.Event) -> None:
        """Take the lock, or wait for it; a lost lock ends the services, and they begin anew with the next."""
        async with dedicated.connection(self._database) as conn:
            if not await self._taken(conn, stop):
                return
            async with asyncio.TaskGroup() as group:
                guard = group.create_task(dedicated.watch(conn, LOCK_CHECK_S))
                await together(self._services, stop)
                guard.cancel()

    async def _taken(self, conn: Connection, stop: asyncio.Event) -> bool:
        told = False
        while not await dedicated.try_lock(conn, lock_name(self._name)):
            if not told:
                log.info("standing_by", gateway=self._name)
            told = True
            if await pause(stop, STANDBY_S):
                return False
        return True


def lock_name(name: str) -> str:
    """Name the lock that a gateway holds while it serves."""
    return f"gateway {name}"
