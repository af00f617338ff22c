"""Units that obey at once, many behind one connection: what is left of a command's time is the backend's.

Each keeps its epoch and mode, verifies every command, and answers as the wire says: the ack, then a
heartbeat. Beside it all of them in turn send heartbeats at a steady rate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle

import mqtt5

from bench.load import TICK_S, NotTaken
from bench.stack import PUBLISHERS, Stack, until
from protocol import codec, signing
from protocol.identity import Imei
from protocol.messages import Ack, AckResult, CommandKind, Mode
from protocol.topics import Channel, parse, topic

COMMANDS = "scu/v1/+/+/command"
PACKET_IDS = 0xFFFF
KEY_GENERATION = 1
HEARTBEAT = (
    '{"v":1,"life":2891336453,"boot":3,"seq":%d,"ts":%d,"mode":"%s","epoch":%d,"output":true,"next_s":900,'
    '"fw":"2.4.1","readings":{"battery_v":12.81,"battery_a":1.23,"panel_v":18.2,"panel_a":2.1,"load_a":0.4,'
    '"soc_pct":88,"temp_c":31.5,"rssi_dbm":-71}}'
)
"""The wire contract's example, with the sender's own mode and epoch."""

ADMITTED_S = 10.0


@dataclass(slots=True)
class Unit:
    """What one unit remembers."""

    imei: Imei
    key: bytes
    mode: Mode = Mode.ENABLED
    epoch: int = 0
    seq: int = 0

    def heartbeat(self) -> bytes:
        """Tell the state, under the next number."""
        self.seq += 1
        return (HEARTBEAT % (self.seq, time.time(), self.mode, self.epoch)).encode()

    def obey(self, body: bytes) -> tuple[Ack, bool]:
        """Do what a command says; gives the answer, and whether the mode was set."""
        command = codec.decode_command(body)
        sets_mode = command.kind is CommandKind.SET_MODE
        why = None
        if not signing.verify(command, self.imei, self.key):
            why = "bad_mac"
        elif sets_mode and command.epoch < self.epoch:
            why = "stale_epoch"
        elif sets_mode:
            self.mode, self.epoch = Mode(command.mode or Mode.ENABLED), command.epoch
        ack = Ack(
            command_id=command.id,
            attempt=command.attempt,
            epoch=self.epoch,
            result=AckResult.REFUSED if why else AckResult.APPLIED,
            reason=why,
            mode=self.mode,
        )
        return ack, sets_mode and why is None


class Fleet(asyncio.Protocol):
    """The connection of many units; made by `connect`. Mute units hear commands and say nothing."""

    def __init__(self, hello: mqtt5.ConnectPacket, units: Iterable[Unit], *, mute: bool) -> None:
        self.units = {unit.imei: unit for unit in units}
        self.heard = 0
        self.heard_first = self.heard_last = 0.0
        """When the first and the last command came, by the monotonic clock."""

        self.refused = 0
        """Commands that units did not obey, and messages that the broker did not take or nobody heard."""

        self.ready = self.closed = False
        self._hello = hello
        self._mute = mute
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._out: list[bytes] = []
        self._packet_ids = cycle(range(1, PACKET_IDS + 1))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in, and subscribe in the same breath."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type checker what asyncio promises
        self._transport = transport
        wanted = mqtt5.TopicFilter(COMMANDS, max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        transport.write(self._hello.write() + mqtt5.SubscribePacket(1, [wanted]).write())

    def data_received(self, data: bytes) -> None:
        """Take what came; the answers leave together."""
        view, start = memoryview(self._buffer + data), 0
        while start < len(view):
            try:
                packet, size = mqtt5.read(view[start:])
            except IndexError:  # not all of it is here
                break
            start += size
            self._handle(packet)
        self._buffer = bytes(view[start:])
        self._flush()

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that nobody is there any more."""
        self.closed = True

    async def beat(self, per_second: int) -> None:
        """Let all units in turn send heartbeats at a steady rate, until cancelled."""
        began = time.monotonic()
        for sent, unit in enumerate(cycle(self.units.values()), start=1):
            self._publish(unit, Channel.HEARTBEAT, unit.heartbeat())
            if (ahead := began + sent / per_second - time.monotonic()) > 0:
                self._flush()
                await asyncio.sleep(max(ahead, TICK_S))

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.write(mqtt5.DisconnectPacket().write())
            self._transport.close()

    def _handle(self, packet: object) -> None:
        match packet:
            case mqtt5.PublishPacket():
                self._hear(packet)
            case mqtt5.PubAckPacket():
                self.refused += packet.reason_code is not mqtt5.PubAckReasonCode.SUCCESS
            case mqtt5.SubAckPacket():
                self.ready = packet.reason_codes == [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
            case mqtt5.DisconnectPacket():
                raise NotTaken("The broker cut the units off.", code=packet.reason_code.name)

    def _hear(self, packet: mqtt5.PublishPacket) -> None:
        """Obey one command, and tell the broker that it came."""
        self._out.append(mqtt5.PubAckPacket(packet.packet_id or 0).write())
        self.heard += 1
        self.heard_last = time.monotonic()
        self.heard_first = self.heard_first or self.heard_last
        if self._mute:
            return
        unit = self.units[parse(packet.topic).imei]
        ack, applied = unit.obey(packet.payload)
        self.refused += ack.result is AckResult.REFUSED
        self._publish(unit, Channel.ACK, codec.encode(ack))
        if applied:
            self._publish(unit, Channel.HEARTBEAT, unit.heartbeat())

    def _publish(self, unit: Unit, channel: Channel, body: bytes) -> None:
        self._out.append(
            mqtt5.PublishPacket(
                topic(unit.imei, channel),
                body,
                qos=mqtt5.QoS.AT_LEAST_ONCE,
                packet_id=next(self._packet_ids),
            ).write()
        )

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()


@asynccontextmanager
async def connect(stack: Stack, imeis: Iterable[Imei], *, mute: bool = False) -> AsyncIterator[Fleet]:
    """Have units listen until the block ends."""
    master = bytes.fromhex(stack.folder.secrets.master)
    units = [Unit(imei, b"" if mute else signing.unit_key(master, imei)) for imei in imeis]
    user = PUBLISHERS[0]
    hello = mqtt5.ConnectPacket(user, username=user, password=stack.password.encode(), clean_start=True)
    deadline = time.monotonic() + ADMITTED_S
    while True:  # the broker may not yet have read the password file that admits us
        _, fleet = await asyncio.get_running_loop().create_connection(
            lambda: Fleet(hello, units, mute=mute), "127.0.0.1", stack.broker.port
        )
        await until(lambda: fleet.ready or fleet.closed, ADMITTED_S)  # noqa: B023 - at once
        if fleet.ready:
            break
        if time.monotonic() > deadline:
            raise NotTaken("The broker does not admit the units.", seconds=ADMITTED_S)
    try:
        yield fleet
    finally:
        fleet.close()
