"""Numbered heartbeats at a steady rate, and the truth about them: what was sent, what the broker took.

A thread with an event loop of its own, so that whoever kills and freezes may wait meanwhile. It lives
through an outage of the broker: it connects again and sends once more what was not acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

import mqtt5

from bench.load import BOOT, EXAMPLE
from deploy.local.processes import until
from protocol.identity import Imei
from protocol.topics import Channel, topic
from runtime.errors import Forbidden, Unavailable
from tests.acceptance.stack import Key

LIFE = 2891336453
"""Of `bench.load.EXAMPLE`."""

TICK_S = 0.01
PAUSE_S = 0.1
CONNACK, YES = b"\x20", b"\0"
PUBACK = 4
REFUSED = 0x80
IN_FLIGHT = 20_000
"""Messages without an answer at most: a broker that is frozen must not fill our memory."""

PACKET_IDS = 65_535
TAKEN_S = 60.0


class NotTaken(Unavailable):
    """The broker did not acknowledge the load in time."""


class Refused(Forbidden):
    """The broker did not take a message of the load."""


class Message(NamedTuple):
    """What a unit says; without a key it is no heartbeat that could be stored."""

    topic: str
    body: bytes
    key: Key | None


def heartbeat(imei: Imei, seq: int) -> Message:
    """Give the wire's example under this number."""
    body = (EXAMPLE % (seq, int(time.time()))).encode()
    return Message(topic(imei, Channel.HEARTBEAT), body, (str(imei), LIFE, BOOT, seq))


def numbered(imeis: Sequence[Imei], first_seq: int = 1) -> Iterator[Message]:
    """Let every unit in turn say its next number, for ever."""
    seq = first_seq
    while True:
        for imei in imeis:
            yield heartbeat(imei, seq)
        seq += 1


def repeated(messages: Sequence[Message], dice: random.Random) -> list[Message]:
    """Give every message one to five times, shuffled."""
    many = [message for message in messages for _ in range(dice.randint(1, 5))]
    dice.shuffle(many)
    return many


class Load:
    """One connection that publishes until its messages end or it is told to; a context manager."""

    def __init__(
        self, port: int, login: tuple[str, str], messages: Iterator[Message], per_second: float
    ) -> None:
        self._port = port
        self._user, self._password = login
        self._messages = messages
        self._per_second = per_second
        self._next_id = 0
        self._waiting: dict[int, Message] = {}
        self._enough = threading.Event()
        self._over = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)
        self.sent: list[Key] = []
        """Keys of heartbeats as they were published; one published twice stands twice."""
        self.acked: list[Key] = []
        """Likewise, as the broker acknowledged them."""
        self.messages_acked = 0
        self.reconnects = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._over.set()
        self._thread.join()

    @property
    def ended(self) -> bool:
        """Whether everything was said and acknowledged, or cannot be."""
        return not self._thread.is_alive()

    def finish(self, seconds: float = TAKEN_S) -> None:
        """Say no more, and wait until the broker has acknowledged everything; raises `NotTaken`."""
        self._enough.set()
        self.await_end(seconds)

    def await_end(self, seconds: float) -> None:
        """Wait until everything was said and acknowledged; raises `NotTaken`."""
        if not until(lambda: self.ended, seconds):
            raise NotTaken("The broker did not acknowledge the load in time.", waiting=len(self._waiting))
        if self._failed is not None:
            raise self._failed

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the end
            self._failed = error

    async def _serve(self) -> None:
        """Connect again and again until everything is acknowledged."""
        while not self._over.is_set():
            with suppress(OSError, asyncio.IncompleteReadError):  # the broker is away: that is what is tried
                if await self._session():
                    return
            self.reconnects += 1
            await asyncio.sleep(PAUSE_S)

    async def _session(self) -> bool:
        """Log in and publish; true when everything is acknowledged."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            if not await self._welcome(reader, writer):
                return False
            for packet_id, message in self._waiting.items():
                writer.write(_packet(message, packet_id))
            listening = asyncio.create_task(self._listen(reader))
            try:
                return await self._publish(writer, listening)
            finally:
                listening.cancel()
                with suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                    await listening
        finally:
            writer.close()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Introduce ourselves; false while the broker does not know us yet."""
        hello = mqtt5.ConnectPacket(
            self._user, username=self._user, password=self._password.encode(), clean_start=True
        )
        writer.write(hello.write())
        answer = await reader.read(1024)
        return answer[:1] == CONNACK and answer[3:4] == YES

    async def _publish(self, writer: asyncio.StreamWriter, listening: asyncio.Task[None]) -> bool:
        """Publish at the rate, as measured from here, until there is no more; then wait for the answers."""
        loop = asyncio.get_running_loop()
        began, published = loop.time(), 0
        more = True
        while not self._over.is_set():
            if listening.done():
                listening.result()  # raises: the connection was lost
            due = round((loop.time() - began) * self._per_second) - published
            while more and due > 0 and len(self._waiting) < IN_FLIGHT and not self._enough.is_set():
                due -= 1
                published += 1
                message = next(self._messages, None)
                if message is None:
                    more = False
                else:
                    self._say(writer, message)
            await writer.drain()
            if (self._enough.is_set() or not more) and not self._waiting:
                writer.write(mqtt5.DisconnectPacket().write())
                return True
            await asyncio.sleep(TICK_S)
        return True

    def _say(self, writer: asyncio.StreamWriter, message: Message) -> None:
        self._next_id = self._next_id % PACKET_IDS + 1
        while self._next_id in self._waiting:
            self._next_id = self._next_id % PACKET_IDS + 1
        self._waiting[self._next_id] = message
        if message.key is not None:
            self.sent.append(message.key)
        writer.write(_packet(message, self._next_id))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Note what the broker takes; what nobody is subscribed to is taken too."""
        while True:
            kind, size = struct.unpack("!BB", await reader.readexactly(2))
            rest = await reader.readexactly(size)
            if kind >> 4 == PUBACK:
                if size > 2 and rest[2] >= REFUSED:
                    raise Refused("The broker refused a message of the load.", code=rest[2])
                message = self._waiting.pop(int.from_bytes(rest[:2], "big"))
                self.messages_acked += 1
                if message.key is not None:
                    self.acked.append(message.key)


def _packet(message: Message, packet_id: int) -> bytes:
    return mqtt5.PublishPacket(
        message.topic, message.body, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id
    ).write()
