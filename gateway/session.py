"""One connection to the broker over MQTT 5: it frames, reads, acknowledges and publishes, and nothing else.

The codec `mqtt5` does the packets; this adds what a lossless uplink needs and no client has:
acknowledgement by the caller, after its commit, and a stop to reading when the caller has enough; and
for the downlink the broker's own word on every publish.
An ack belongs to the connection that brought its message, because it is given to this object; on
a connection that is gone it goes nowhere, as it must.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import mqtt5
import structlog

from runtime.errors import Conflict, Forbidden, Unavailable
from runtime.settings import Broker, Gateway

CONNECT_S = 10.0
PUBLISH = 3
REFUSED = 0x80
"""Reason codes from here on up say no."""

PACKET_IDS = 65_535
MAX_LENGTH_BYTES = 4
CONTINUED = 0x80
"""Set in a byte of MQTT's variable length when another one follows."""

CLOCK_GRAIN_S = 0.001
"""What passes between two looks at the clock makes no second less."""

SILENCE = 1.5
"""A broker that says nothing for so many keepalives, although asked, is gone."""

BAD_LOGIN = (mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD, mqtt5.ConnAckReasonCode.NOT_AUTHORIZED)

log = structlog.get_logger()


class BrokerGone(Unavailable):
    """The broker does not answer now."""


class BrokerRefuses(Forbidden):
    """The broker does not admit this login."""


def refuses(login: str, code: str) -> BrokerRefuses:
    """Say who is refused, and what to look at."""
    return BrokerRefuses(
        f"The broker does not admit {login}: look at its password and the broker's access list.",
        login=login,
        code=code,
    )


class TakenOver(Conflict):
    """Another process connected under this gateway's name."""


class Delivery(NamedTuple):
    """A message as the broker delivered it.

    `again` when an earlier delivery was never acknowledged; `fault` when the packet cannot be read.
    `session` is None when no broker delivered it: a dead letter that is taken in once more.
    """

    session: Session | None
    packet_id: int | None
    topic: str
    body: bytes
    retained: bool
    again: bool
    fault: str | None = None

    @property
    def weight(self) -> int:
        """What it counts where something is bounded: one, and one more for each whole KiB."""
        return 1 + (len(self.topic) + len(self.body)) // 1024


Sink = Callable[[Sequence[Delivery]], bool]
"""Takes what came at one moment, in order; answers whether there is room for more."""


def introduction(name: str, gateway: Gateway, *, last: bool = False) -> mqtt5.ConnectPacket:
    """Say who connects: for a session that lasts, or for the last time, and nothing is to stay of it."""
    return mqtt5.ConnectPacket(
        name,
        username=name,
        password=gateway.broker_uplink_password.get_secret_value().encode(),
        clean_start=last,
        keep_alive=gateway.gateway_keepalive_s,
        session_expiry_interval=0 if last else gateway.gateway_session_expiry_s,
        receive_max=gateway.gateway_window,
    )


async def dial(broker: Broker, hello: mqtt5.ConnectPacket, sink: Sink) -> Session:
    """Open a connection that begins with these words; `BrokerGone` when there is none in time."""
    tls = broker.trust
    try:
        async with asyncio.timeout(CONNECT_S):
            _, session = await asyncio.get_running_loop().create_connection(
                lambda: Session(hello, sink), broker.host, broker.port, ssl=tls
            )
    except (OSError, TimeoutError) as error:
        raise BrokerGone("The broker cannot be reached.", why=str(error) or type(error).__name__) from error
    return session


class Session(asyncio.Protocol):
    """One connection, from TCP connect to its end; `ended` resolves with the reason."""

    def __init__(self, connect: mqtt5.ConnectPacket, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        self._connect = connect
        self._sink = sink
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._paused = False
        self._heard_at = loop.time()
        self._waiting: dict[int, asyncio.Future[list[int]]] = {}
        self._next_id = 0
        self._window = asyncio.Semaphore(0)  # publishes that the broker takes before it answers one
        self.accepted: asyncio.Future[mqtt5.ConnAckPacket] = loop.create_future()
        self.ended: asyncio.Future[Exception] = loop.create_future()
        self.cut_off = False
        """Whether the broker, which had let it in, closed the connection without a word."""

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce ourselves."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type checker what asyncio promises
        self._transport = transport
        # While reading is paused no answer is heard; then what the network does not take tells of its end.
        line: socket.socket = transport.get_extra_info("socket")
        if self._connect.keep_alive and line.family in {socket.AF_INET, socket.AF_INET6}:
            patience_ms = round(self._connect.keep_alive * SILENCE * 1000)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
        self._write(self._connect.write())

    def data_received(self, data: bytes) -> None:
        """Take bytes; as many packets as are whole are handled."""
        self._heard_at = asyncio.get_running_loop().time()
        self._buffer += data
        self._drain()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell everyone who waits."""
        self.cut_off = error is None and not self.ended.done() and self.accepted.done()
        self._end(
            BrokerGone("The connection to the broker was lost.", why=str(error or "closed by the broker"))
        )

    # -- what uplink and downlink call

    async def admitted(self) -> mqtt5.ConnAckPacket:
        """Wait to be let in; `BrokerGone` when the broker does not answer in time."""
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.shield(self.accepted)  # others wait for it as well
        except TimeoutError:
            raise BrokerGone("The broker did not answer in time.", seconds=CONNECT_S) from None

    async def fail_when_ended(self) -> None:
        """Raise the reason when this connection ends."""
        raise await self.ended

    async def publish(self, topic: str, body: bytes, *, expiry_s: int) -> int | None:
        """Publish at QoS 1, not retained, and give the reason code of the broker's answer.

        The seconds count from this call: when they are over before the broker's window has room,
        nothing is sent, and None is the answer. Between the look at the clock and the write nothing waits.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + expiry_s
        await self._window.acquire()
        if self.ended.done():
            self._window.release()  # whoever waits behind is told the same
            raise self.ended.result()
        left_s = int(deadline - loop.time() + CLOCK_GRAIN_S)
        if left_s < 1:
            self._window.release()
            return None
        packet_id = self._packet_id()
        packet = mqtt5.PublishPacket(
            topic,
            body,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=packet_id,
            message_expiry_interval=left_s,
        )
        [code] = await self._ask(packet_id, packet.write())
        return code

    async def subscribe(self, filters: Iterable[mqtt5.TopicFilter]) -> list[int]:
        """Subscribe and give the broker's reason code for each filter."""
        packet_id = self._packet_id()
        return await self._ask(packet_id, mqtt5.SubscribePacket(packet_id, list(filters)).write())

    async def unsubscribe(self, patterns: Iterable[str]) -> list[int]:
        """Unsubscribe and give the broker's reason code for each pattern."""
        packet_id = self._packet_id()
        return await self._ask(packet_id, mqtt5.UnsubscribePacket(packet_id, list(patterns)).write())

    def acknowledge(self, packet_ids: Iterable[int]) -> None:
        """Tell the broker that these messages are ours now; call after the commit."""
        self._write(b"".join(struct.pack("!BBH", 0x40, 2, packet_id) for packet_id in packet_ids))

    def resume(self) -> None:
        """Read on after the sink had no more room."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._heard_at = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    async def keep_alive(self, seconds: float) -> None:
        """Ask for a sign of life twice per keepalive; end the session when none comes.

        The broker may ask for a shorter one, and ends the session of who does not keep to it.
        """
        loop = asyncio.get_running_loop()
        welcome = await self.admitted()
        seconds = min(seconds, welcome.server_keep_alive or seconds)
        while True:
            await asyncio.sleep(seconds / 2)
            if not self._paused and loop.time() - self._heard_at > seconds * SILENCE:
                self._abort(BrokerGone("The broker stopped answering.", seconds=seconds * SILENCE))
                return
            self._write(mqtt5.PingReqPacket().write())

    def close(self) -> None:
        """Say goodbye; the broker keeps the session and what is not acknowledged."""
        self._write(mqtt5.DisconnectPacket().write())
        if self._transport is not None:
            self._transport.close()

    # -- inside

    def _drain(self) -> None:
        """Take every whole packet out of the buffer; deliveries are handed on together."""
        start, deliveries = 0, []
        try:
            while (size := _packet_size(self._buffer, start)) and not self.ended.done():
                packet = bytes(memoryview(self._buffer)[start : start + size])
                start += size
                if packet[0] >> 4 == PUBLISH:
                    deliveries.append(_read_publish(self, packet))
                else:
                    self._handle(_read_control(packet))
            if deliveries and not self._sink(deliveries) and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        except Exception as error:  # noqa: BLE001 - asyncio would call it a lost connection: we would begin anew for ever
            self._abort(error)
        del self._buffer[:start]

    def _handle(self, packet: object) -> None:
        match packet:
            case mqtt5.ConnAckPacket():
                self._welcome(packet)
            case mqtt5.PubAckPacket():
                self._window.release()
                self._answer(packet.packet_id, [packet.reason_code])
            case mqtt5.SubAckPacket() | mqtt5.UnsubAckPacket():
                self._answer(packet.packet_id, packet.reason_codes)
            case mqtt5.DisconnectPacket():
                self._abort(_farewell(packet))
            case mqtt5.PingRespPacket():
                pass
            case _:
                log.warning("unexpected_packet", kind=type(packet).__name__)

    def _welcome(self, packet: mqtt5.ConnAckPacket) -> None:
        code = packet.reason_code
        if code == mqtt5.ConnAckReasonCode.SUCCESS:
            if not self.accepted.done():
                self._window = asyncio.Semaphore(packet.receive_max)
                self.accepted.set_result(packet)
        elif code in BAD_LOGIN:
            self._abort(refuses(self._connect.username or "", code.name))
        else:
            self._abort(BrokerGone("The broker refused the connection.", code=code.name))

    async def _ask(self, packet_id: int, packet: bytes) -> list[int]:
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting[packet_id] = future
        self._write(packet)
        return await future

    def _answer(self, packet_id: int, codes: Sequence[int]) -> None:
        """Give an answer to whoever still waits for it."""
        if (future := self._waiting.pop(packet_id, None)) and not future.done():
            future.set_result([int(code) for code in codes])

    def _packet_id(self) -> int:
        """Give an id that no unanswered packet bears, whether or not somebody still awaits the answer."""
        while True:
            self._next_id = self._next_id % PACKET_IDS + 1
            if self._next_id not in self._waiting:
                return self._next_id

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _abort(self, why: Exception) -> None:
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, why: Exception) -> None:
        if not self.ended.done():
            self.ended.set_result(why)
            self._window.release()
        waiting: list[asyncio.Future[Any]] = [self.accepted, *self._waiting.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(why)
                future.exception()  # whoever waits sees it; when nobody does, that is no fault
        self._waiting.clear()


def _packet_size(buffer: bytearray, start: int) -> int:
    """Give the whole size of the packet that begins at `start`; 0 while it is not all there."""
    length = 0
    for step in range(MAX_LENGTH_BYTES):
        place = start + 1 + step
        if place >= len(buffer):
            return 0
        length |= (buffer[place] & 0x7F) << 7 * step
        if buffer[place] < CONTINUED:
            end = place + 1 + length
            return end - start if end <= len(buffer) else 0
    raise BrokerGone("The broker sent a packet whose length has no end.")


def _read_control(packet: bytes) -> object:
    """Read any packet but a PUBLISH."""
    try:
        return mqtt5.read(memoryview(packet))[0]
    except (ValueError, IndexError) as error:
        raise BrokerGone("The broker sent a packet that is none.", why=str(error)) from error


def _read_publish(session: Session, packet: bytes) -> Delivery:
    """Read a PUBLISH; one that the codec cannot read keeps its packet id, so that it can be acknowledged."""
    try:
        publish = mqtt5.read(memoryview(packet))[0]
        assert isinstance(publish, mqtt5.PublishPacket)  # noqa: S101 - the fixed header said so
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | asyncio.CancelledError):
            raise
        # The codec panics, with a BaseException of its own, on text that is not UTF-8.
        return Delivery(
            session, _salvaged_id(packet), "", packet, retained=False, again=False, fault=str(error)
        )
    return Delivery(
        session, publish.packet_id, publish.topic, publish.payload, publish.retain, publish.duplicate
    )


def _salvaged_id(packet: bytes) -> int | None:
    """Find the packet id behind fixed header and topic; None for QoS 0 and for what is too short."""
    if not packet[0] & 0b110:
        return None
    start = next(place for place in range(1, len(packet)) if packet[place] < CONTINUED) + 1
    place = start + 2 + int.from_bytes(packet[start : start + 2], "big")
    return int.from_bytes(packet[place : place + 2], "big") if place + 2 <= len(packet) else None


def _farewell(packet: mqtt5.DisconnectPacket) -> Exception:
    if packet.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER:
        return TakenOver(
            "Another process connected to the broker under this gateway's name; this one ends. "
            "Give each gateway its own --name."
        )
    return BrokerGone("The broker ended the connection.", code=packet.reason_code.name)
