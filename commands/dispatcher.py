"""From queued to sent: claims what is due and whose unit is expected to listen, and publishes it.

A claim is a lease: the attempt's number fences it, so that a dispatcher that slept through its
lease can neither send the same attempt as another nor write down what came of it. Of one unit at
most one command is in flight: sending, or sent and not answered yet.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Protocol

import structlog
from prometheus_client import Histogram
from psycopg.rows import DictRow

from commands import docket
from commands.docket import Command, Docket
from commands.states import State
from protocol import codec, messages, signing
from protocol.identity import Imei
from protocol.messages import CommandKind, Mode
from protocol.topics import Channel, topic
from registry.lifecycle import Lifecycle
from runtime import clock
from runtime.errors import HeliographError
from runtime.retry import until_done, until_stopped
from runtime.services import pause
from runtime.settings import Commands, Database, Keys
from storage.arrays import int4s, uuids
from storage.errors import StillLocked
from storage.notices import wake
from storage.pool import Pool
from storage.portions import Portions
from storage.sql import Connection, load, rows

BATCH = 500
"""Commands claimed in one transaction at most: what units say waits for its locks."""

LANES = 3
"""Batches on their way to the broker while the next is claimed."""

GATHER_S = 0.01
"""For so long (seconds) what became due waits for more: a claim costs the same for one as for ten."""

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
    attempted_before: datetime | None
    imei: Imei
    key_generation: int
    contact_at: datetime | None
    """When the unit came, if the command had waited for just that."""

    left_s: float
    """How much of the command's life was left at the claim, by the database's clock."""

    def is_of(self, now: Command) -> bool:
        """Whether a command stands in this attempt; one that nobody heard leaves its number to the next."""
        claimed = self.command
        return (now.attempt, now.attempted_at) == (claimed.attempt, claimed.attempted_at)

    @classmethod
    def of(cls, command: Command, due: DictRow, came: datetime | None) -> Sending:
        """Put together what was claimed, what stood in the queue (`due`) and when its unit came."""
        waited = came is not None and came > command.ordered_at and command.attempt == 1
        left_s = (command.expires_at - due["now"]).total_seconds()
        return cls(
            command,
            due["attempted_at"],
            Imei(due["imei"]),
            due["key_generation"],
            came if waited else None,
            left_s,
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """What one look at the queue gave: `sendings` are ours to send, and there may be `more`.

    `began` is when it was taken, `until` when the lease is over, in monotonic seconds.
    """

    more: bool
    sendings: Sequence[Sending]
    began: float
    until: float


class Pace:
    """Keeps a rate: what was spent is waited for afterwards, so a single one never waits."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free_at = 0.0

    def spend(self, number: int) -> None:
        """Note that so many leave now."""
        self._free_at = max(self._free_at, time.monotonic()) + number / self._per_second

    @property
    def wait_s(self) -> float:
        """Seconds until more may leave."""
        return max(0.0, self._free_at - time.monotonic())


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
        self._pace = Pace(settings.command_rate)
        self._claims = Portions(BATCH)
        self._settlements = Portions(BATCH)
        self._woken = asyncio.Event()

    async def listen(self, database: Database, stop: asyncio.Event) -> None:
        """Be woken by what makes a command due; the poll does it too, only later."""
        await until_stopped(
            "dispatcher-listen", lambda stop: wake(database, "command_due", self._woken, stop), stop
        )

    async def serve(self, stop: asyncio.Event) -> None:
        """Send what is due until stopped; what is published is written down, claims or no claims."""
        async with asyncio.TaskGroup() as lanes:
            await until_stopped("dispatcher", partial(self._work, lanes, set()), stop)

    async def step(self) -> int:
        """Claim what is due, publish it, write down what came of it; give the number sent."""
        claim = await self._claim()
        await self._deliver(claim, asyncio.Event())
        return len(claim.sendings)

    async def _work(
        self, lanes: asyncio.TaskGroup, under_way: set[asyncio.Task[None]], stop: asyncio.Event
    ) -> None:
        """Claim batch after batch, at the pace that is set; while one is claimed others are delivered."""
        while not stop.is_set():
            self._woken.clear()
            if len(under_way) >= LANES:  # claimed is only what can leave now, for its lease runs
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            more = False
            if self._publisher.connected:
                claim = await self._claim()
                more = claim.more
                task = lanes.create_task(self._deliver(claim, stop), name="dispatcher-deliver")
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            if not more:
                await pause(self._woken, POLL_S)
                await pause(stop, GATHER_S)
            await pause(stop, self._pace.wait_s)

    async def _claim(self) -> Claim:
        """Lease what is due and whose unit is expected to listen; set the rest aside until it speaks."""
        began = time.monotonic()
        until = began + self._settings.command_lease_s
        with self._claims.next() as portion:
            async with self._pool.transaction() as conn:
                found = await self._due(conn, portion.most)
                portion.number = len(found)
                sendings = await self._lease(conn, found) if found else []
        self._pace.spend(len(sendings))
        return Claim(len(found) >= portion.most, sendings, began, until)

    async def _due(self, conn: Connection, most: int) -> list[DictRow]:
        """Lock what is due; planned anew each time: a plan made while nothing was due reads everything."""
        share = {"first": f"{self._partitions[0]:02}", "last": f"{self._partitions[-1]:02}", "limit": most}
        cursor = await conn.execute(SQL.due, share, prepare=False)
        return await cursor.fetchall()

    async def _lease(self, conn: Connection, found: Sequence[DictRow]) -> list[Sending]:
        """Claim those of what is due that may leave now."""
        lease = timedelta(seconds=self._settings.command_lease_s)
        standing = await self._standing(conn, {due["unit_id"] for due in found})
        book = Docket((Command.from_row(due) for due in found), now=found[0]["now"], actor=self._name)
        sendings = []
        for due in sorted(found, key=_ping_last):
            unit, command = standing[due["unit_id"]], Command.from_row(due)
            if due["lifecycle"] == Lifecycle.TERMINATED or not unit["listens"] or _kept_back(command, unit):
                book.change(command, due_at=command.expires_at)  # its contact makes it due
            elif unit["busy_until"] is not None:
                book.change(command, due_at=min(unit["busy_until"], command.expires_at))
            else:
                unit["busy_until"] = book.now + lease
                claimed = book.move(
                    command,
                    State.SENDING,
                    "claimed",
                    evidence={},
                    attempt=command.attempt + 1,
                    attempted_at=book.now,
                    due_at=book.now + lease,
                )
                sendings.append(Sending.of(claimed, due, unit["contact_at"]))
        await book.write(conn)
        return sendings

    async def _standing(self, conn: Connection, unit_ids: Iterable[int]) -> dict[int, DictRow]:
        """Tell by unit whether it listens, when it came, and until when something is in flight to it."""
        found = await rows(
            conn, dict, SQL.standing, unit_ids=int4s(unit_ids), contact_s=self._settings.command_contact_s
        )
        return {unit["unit_id"]: unit for unit in found}

    async def _deliver(self, claim: Claim, stop: asyncio.Event) -> None:
        """Publish what was claimed, and write down what came of it."""
        ends = [min(claim.until, claim.began + sending.left_s) for sending in claim.sendings]
        outcomes = await asyncio.gather(*map(self._send, claim.sendings, ends))
        published = list(zip(claim.sendings, outcomes, strict=True))
        await until_done("dispatcher-settle", partial(self._settle_all, published, claim.until), stop)

    async def _settle_all(self, published: list[tuple[Sending, Published]], until: float) -> None:
        """Write down what the broker said while the lease holds; what was seen to leaves the list.

        What somebody else does not let go of, and what is left when the lease is over, the reaper puts back.
        """
        while published and time.monotonic() < until:
            with self._settlements.next() as portion:
                some = published[: portion.most]
                portion.number = len(some)
                try:
                    await self._settle(some)
                except StillLocked:
                    await self._settle(some, patient=False)
            del published[: len(some)]
        for sending, outcome in published:
            _not_settled(sending, outcome)

    async def _send(self, sending: Sending, until: float) -> Published:
        """Publish a claimed command, unless its lease or its life is over (`until`, monotonic seconds)."""
        command, imei = sending.command, sending.imei
        left_s = until - time.monotonic()
        if left_s < 1:
            return Published.FAILED
        try:
            key = signing.unit_key(self._keys.master(sending.key_generation), imei)
            body = codec.encode(signing.sign(on_wire(command), imei, key))
        except (HeliographError, ValueError) as error:  # a flaw of one command stops no other, nor heartbeats
            log.warning("command_not_signed", imei=imei, command=str(command.id), why=str(error))
            return Published.FAILED
        outcome = await self._publisher.publish(topic(imei, Channel.COMMAND), body, expiry_s=int(left_s))
        if sending.contact_at is not None:
            CONTACT_TO_PUBLISH.observe((clock.now() - sending.contact_at).total_seconds())
        return outcome

    async def _settle(self, published: Sequence[tuple[Sending, Published]], *, patient: bool = True) -> None:
        """Write down what the broker said, unless the unit's own answer was quicker or the lease is gone."""
        async with self._pool.transaction() as conn:
            ids = uuids([sending.command.id for sending, _ in published])
            lock = SQL.lock if patient else SQL.lock_free
            book = await docket.lock(conn, lock, actor=self._name, ids=ids)
            unheard = {
                sending.command.unit_id for sending, outcome in published if outcome is Published.UNHEARD
            }
            # Behind the lock: who comes later finds the command queued, and makes it due.
            standing = await self._standing(conn, unheard) if unheard else {}
            for sending, outcome in published:
                command = book.get(sending.command.id)
                if command is None:
                    _not_settled(sending, outcome)
                elif command.state is State.SENDING and sending.is_of(command):
                    came = standing[command.unit_id]["contact_at"] if command.unit_id in standing else None
                    settle(book, command, outcome, self._settings, before=sending.attempted_before, came=came)
            await book.write(conn)


def _not_settled(sending: Sending, outcome: Published) -> None:
    log.warning("command_not_settled", command=str(sending.command.id), outcome=str(outcome))


def _ping_last(due: DictRow) -> bool:
    return CommandKind(due["kind"]) is CommandKind.PING


def _kept_back(command: Command, unit: DictRow) -> bool:
    """Whether something came up since the order for which this unit is not to be switched off now."""
    in_repair = unit["in_repair"] and command.mode is Mode.OFFLINE_DISABLED
    return in_repair or command.kept_back(
        held_since=unit["held_since"], suspected_clone=unit["suspected_clone"]
    )


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


def settle(
    book: Docket,
    command: Command,
    outcome: Published,
    settings: Commands,
    *,
    before: datetime | None,
    came: datetime | None,
) -> None:
    """Move a claimed command on by what the broker said.

    `before` is when it was attempted last until now, `came` when its unit, if unheard, was last in contact.
    """
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
            # Nobody heard it, so it was no attempt; the unit's next contact makes it due, or has meanwhile.
            assert command.attempted_at is not None  # noqa: S101 - it is being sent
            here = came is not None and came > command.attempted_at
            book.move(
                command,
                State.QUEUED,
                "unheard",
                evidence={},
                attempt=command.attempt - 1,
                attempted_at=before,
                due_at=book.now if here else command.expires_at,
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
