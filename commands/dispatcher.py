"""From queued to sent: claims what is due and whose unit is expected to listen, and publishes it.

A claim is a lease: the attempt's number fences it, so that a dispatcher that slept through its
lease can neither send the same attempt as another nor write down what came of it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import structlog
from prometheus_client import Histogram
from psycopg.rows import DictRow

from commands import docket
from commands.docket import Command, Docket
from commands.states import State
from protocol import codec, messages, signing
from protocol.identity import Imei
from protocol.messages import Mode
from protocol.topics import Channel, topic
from runtime import clock
from runtime.errors import HeliographError
from runtime.retry import until_stopped
from runtime.services import pause
from runtime.settings import Commands, Database, Keys
from storage.notices import wake
from storage.pool import Pool
from storage.sql import execute, load, rows

BATCH = 200
POLL_S = 1.0
log = structlog.get_logger()

CONTACT_TO_PUBLISH = Histogram(
    "heliograph_contact_to_publish_seconds",
    "seconds from the contact of a unit that a new command waited for to its publish",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
)

SQL = load(__file__)


class Published(StrEnum):
    """What the broker said to a publish."""

    TAKEN = "taken"
    UNHEARD = "unheard"
    """Nobody is subscribed: the unit is away after all."""

    FAILED = "failed"


class Publisher(Protocol):
    """What carries commands to the broker."""

    @property
    def connected(self) -> bool:
        """Whether a publish has a chance now."""

    async def publish(self, topic: str, body: bytes, *, expiry_s: int) -> Published:
        """Publish at QoS 1, not retained, forgotten by the broker after `expiry_s` seconds; never raises."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A claimed command with what it takes to send it."""

    command: Command
    imei: Imei
    key_generation: int
    contact_at: datetime | None
    """When the unit came, if the command had waited for just that."""

    @classmethod
    def of(cls, command: Command, due: DictRow) -> Sending:
        """Put together what was claimed and what the claim found out."""
        came = due["contact_at"]
        waited = came is not None and came > command.ordered_at and command.attempt == 1
        return cls(command, Imei(due["imei"]), due["key_generation"], came if waited else None)


class Dispatcher:
    """Sends the commands of one range of partitions; any number of dispatchers may share it."""

    def __init__(
        self, name: str, partitions: range, publisher: Publisher, pool: Pool, keys: Keys, settings: Commands
    ) -> None:
        self._name = name
        self._partitions = partitions
        self._publisher = publisher
        self._pool = pool
        self._keys = keys
        self._settings = settings
        self._woken = asyncio.Event()

    async def listen(self, database: Database, stop: asyncio.Event) -> None:
        """Be woken by what makes a command due; the poll does it too, only later."""
        await until_stopped(
            "dispatcher-listen", lambda stop: wake(database, "command_due", self._woken, stop), stop
        )

    async def serve(self, stop: asyncio.Event) -> None:
        """Send what is due until stopped."""
        await until_stopped("dispatcher", self._work, stop)

    async def step(self) -> int:
        """Claim what is due, publish it, write down what came of it; give the number claimed."""
        until = time.monotonic() + self._settings.command_lease_s
        sendings = await self._claim()
        outcomes = await asyncio.gather(*(self._send(sending, until) for sending in sendings))
        if sendings:
            await self._settle(sendings, outcomes)
        return len(sendings)

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._woken.clear()
            if not self._publisher.connected or await self.step() < BATCH:
                await pause(self._woken, POLL_S)

    async def _claim(self) -> list[Sending]:
        """Lease what is due and whose unit is expected to listen; set the rest aside until it speaks."""
        lease = timedelta(seconds=self._settings.command_lease_s)
        share = {
            "first": f"{self._partitions[0]:02}",
            "last": f"{self._partitions[-1]:02}",
            "contact_s": self._settings.command_contact_s,
        }
        async with self._pool.transaction() as conn:
            found = await rows(conn, dict, SQL.due, **share, limit=BATCH)
            await execute(conn, SQL.park, **share)
            if not found:
                return []
            now = found[0]["now"]
            book = Docket((Command.from_row(due) for due in found), now=now, actor=self._name)
            sendings = []
            for due in found:
                command = Command.from_row(due)
                attempt = {"attempt": command.attempt + 1, "attempted_at": now, "due_at": now + lease}
                claimed = book.move(command, State.SENDING, "claimed", evidence={}, **attempt)
                sendings.append(Sending.of(claimed, due))
            await book.write(conn)
        return sendings

    async def _send(self, sending: Sending, until: float) -> Published:
        """Publish a claimed command, unless the lease is over (`until`, monotonic seconds) or its life is."""
        command, imei = sending.command, sending.imei
        left_s = min(until - time.monotonic(), (command.expires_at - clock.now()).total_seconds())
        if left_s < 1:
            return Published.FAILED
        try:
            key = signing.unit_key(self._keys.master(sending.key_generation), imei)
        except HeliographError as error:
            log.warning("command_not_signed", imei=imei, why=str(error))
            return Published.FAILED
        body = codec.encode(signing.sign(on_wire(command), imei, key))
        outcome = await self._publisher.publish(topic(imei, Channel.COMMAND), body, expiry_s=int(left_s))
        if sending.contact_at is not None:
            CONTACT_TO_PUBLISH.observe((clock.now() - sending.contact_at).total_seconds())
        return outcome

    async def _settle(self, sendings: Sequence[Sending], outcomes: Sequence[Published]) -> None:
        """Write down what the broker said, unless the unit's own answer was quicker or the lease is gone."""
        async with self._pool.transaction() as conn:
            ids = [sending.command.id for sending in sendings]
            book = await docket.lock(conn, SQL.lock, actor=self._name, ids=ids)
            for sending, outcome in zip(sendings, outcomes, strict=True):
                command = book.get(sending.command.id)
                if command and command.state is State.SENDING and command.attempt == sending.command.attempt:
                    settle(book, command, outcome, self._settings)
            await book.write(conn)


def on_wire(command: Command) -> messages.Command:
    """Give a command as units read it, not signed yet."""
    return messages.Command(
        v=1,
        id=command.id,
        kind=command.kind,
        mode=command.mode,
        after_s=command.after_s if command.mode is Mode.OFFLINE_DISABLED else None,
        epoch=command.epoch,
        attempt=command.attempt,
        issued_at=int(command.ordered_at.timestamp()),
        expires_at=int(command.expires_at.timestamp()),
    )


def settle(book: Docket, command: Command, outcome: Published, settings: Commands) -> None:
    """Move a claimed command on by what the broker said."""
    match outcome:
        case Published.TAKEN:
            book.move(
                command,
                State.SENT,
                "published",
                evidence={},
                due_at=book.now + timedelta(seconds=settings.command_ack_s),
            )
        case Published.UNHEARD:
            # Nobody heard it, so it was no attempt; the unit's next contact makes it due.
            attempted_at = command.attempted_at if command.attempt > 1 else None
            book.move(
                command,
                State.QUEUED,
                "unheard",
                evidence={},
                attempt=command.attempt - 1,
                attempted_at=attempted_at,
                due_at=command.expires_at,
            )
        case Published.FAILED:
            requeue(book, command, "publish_failed", settings)


def requeue(book: Docket, command: Command, event: str, settings: Commands) -> None:
    """Put a command back after an attempt that came to nothing; after many it waits for contact alone."""
    tired = command.attempt >= settings.command_attempts
    due_at = command.expires_at if tired else book.now + backoff(command.attempt, settings)
    book.move(
        command, State.QUEUED, event, evidence={"waits_for": "contact" if tired else "backoff"}, due_at=due_at
    )


def backoff(attempt: int, settings: Commands) -> timedelta:
    """Give the pause after so many attempts: doubling, capped, the upper half of it random."""
    whole = min(settings.command_pause_s * 2 ** min(attempt - 1, 30), settings.command_pause_max_s)
    return timedelta(seconds=random.uniform(max(whole / 2, settings.command_pause_s), whole))  # noqa: S311 - no secret
