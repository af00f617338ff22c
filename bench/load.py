"""Heartbeats made ready beforehand, and eight connections that send them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import mqtt5

from bench.stack import PUBLISHERS, Stack
from protocol.identity import Imei
from protocol.topics import Channel, topic
from runtime.errors import Forbidden

BOOT = 3
EXAMPLE = (
    '{"v":1,"life":2891336453,"boot":3,"seq":%d,"ts":%d,"mode":"enabled","epoch":12,"output":true,'
    '"next_s":900,"fw":"2.4.1","readings":{"battery_v":12.81,"battery_a":1.23,"panel_v":18.2,"panel_a":2.1,'
    '"load_a":0.4,"soc_pct":88,"temp_c":31.5,"rssi_dbm":-71}}'
)
"""The wire contract's own example, of another number and moment each time."""

PUBACK = b"\x40\x02"
"""How an acknowledgement begins that only says yes; a reason other than success makes it longer."""

PUBACK_BYTES = 4
CHUNK = 100  # packets in one write
TICK_S = 0.01
ADMITTED_S = 10.0
PAUSE_S = 0.05


class NotTaken(Forbidden):
    """The broker refused a login or a message of the load."""


@dataclass(frozen=True, slots=True)
class Load:
    """`size` heartbeats at one moment: every unit in turn, its numbers from `first_seq` up.

    A unit keeps to one connection, so its numbers arrive in order.
    """

    imeis: Sequence[Imei]
    first_seq: int
    size: int
    unit_ts: int

    def seq(self, place: int) -> int:
        """Give the sequence number of the heartbeat at this place."""
        return self.first_seq + place // len(self.imeis)

    @property
    def next_seq(self) -> int:
        """Give the first number that this load leaves free for every unit."""
        return self.seq(self.size - 1) + 1

    def packets(self) -> list[bytes]:
        """Encode everything; the packets of place modulo eight belong to one connection."""
        return [self._packet(place) for place in range(self.size)]

    def body(self, place: int) -> bytes:
        """Give the payload of the heartbeat at this place."""
        return (EXAMPLE % (self.seq(place), self.unit_ts)).encode()

    def _packet(self, place: int) -> bytes:
        return mqtt5.PublishPacket(
            topic(self.imeis[place % len(self.imeis)], Channel.HEARTBEAT),
            self.body(place),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=place // len(PUBLISHERS) + 1,
        ).write()


class Lines:
    """The eight connections; made by `connect`."""

    def __init__(self, ends: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        self._ends = ends

    async def blast(self, packets: Sequence[bytes]) -> float:
        """Send everything as fast as the broker takes it; gives the moment of the first publish."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for place, (reader, writer) in enumerate(self._ends):
                mine = packets[place :: len(self._ends)]
                group.create_task(_send(writer, mine))
                group.create_task(_taken(reader, len(mine)))
        return began

    async def trickle(self, packets: Sequence[bytes], per_second: int) -> list[float]:
        """Send at a steady rate; gives the moment at which each was published."""
        published: list[float] = []
        began, step = time.monotonic(), round(per_second * TICK_S)
        async with asyncio.TaskGroup() as group:
            for place, (reader, _) in enumerate(self._ends):
                group.create_task(_taken(reader, len(packets[place :: len(self._ends)])))
            for start in range(0, len(packets), step):
                await asyncio.sleep(began + start / per_second - time.monotonic())
                for place in range(start, min(start + step, len(packets))):
                    self._ends[place % len(self._ends)][1].write(packets[place])
                    published.append(time.monotonic())
        return published


@asynccontextmanager
async def connect(stack: Stack) -> AsyncIterator[Lines]:
    """Log in eight times."""
    async with AsyncExitStack() as held:
        try:
            async with asyncio.timeout(ADMITTED_S):
                ends = [
                    await held.enter_async_context(_end(stack, user, stack.password)) for user in PUBLISHERS
                ]
        except TimeoutError:
            raise NotTaken("The broker does not admit the load.", seconds=ADMITTED_S) from None
        yield Lines(ends)


async def forget(stack: Stack, gateway: str) -> None:
    """End the session that a gateway left at the broker, with all that waits in it."""
    async with _end(stack, gateway, stack.folder.secrets.uplink):
        pass  # a clean start without expiry: nothing of it remains


@asynccontextmanager
async def _end(
    stack: Stack, user: str, password: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect one; the broker may not yet have read the password file that admits us."""
    hello = mqtt5.ConnectPacket(user, username=user, password=password.encode(), clean_start=True)
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.broker.port)
        writer.write(hello.write())
        welcome = mqtt5.read(memoryview(await reader.read(1024)))[0]
        if getattr(welcome, "reason_code", None) is mqtt5.ConnAckReasonCode.SUCCESS:
            break
        writer.close()
        await asyncio.sleep(PAUSE_S)
    try:
        yield reader, writer
    finally:
        writer.write(mqtt5.DisconnectPacket().write())
        writer.close()
        await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter, packets: Sequence[bytes]) -> None:
    for start in range(0, len(packets), CHUNK):
        writer.write(b"".join(packets[start : start + CHUNK]))
        await writer.drain()


async def _taken(reader: asyncio.StreamReader, number: int) -> None:
    """Wait until the broker has taken so many messages, each with a plain yes."""
    answers = await reader.readexactly(PUBACK_BYTES * number)
    for place, byte in enumerate(PUBACK):
        if set(answers[place::PUBACK_BYTES]) != {byte}:
            raise NotTaken("The broker did not take every message of the load.", answers=answers[:32].hex())
