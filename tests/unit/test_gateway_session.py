"""Framing: a packet is whole or not there, and an unreadable one can still be acknowledged."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.session import PACKET_IDS, BrokerGone, Session, TakenOver, _packet_size, _read_publish

QOS1 = mqtt5.PublishPacket("a/b", b"x" * 300, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=258).write()
NOBODY = cast("Session", None)


def test_a_packet_has_a_size_only_when_all_of_it_is_there() -> None:
    for length in range(len(QOS1)):
        assert _packet_size(bytearray(QOS1[:length]), 0) == 0
    assert _packet_size(bytearray(QOS1 + b"more"), 0) == len(QOS1)
    assert _packet_size(bytearray(b"more" + QOS1), 4) == len(QOS1)


def test_a_length_without_an_end_is_no_packet() -> None:
    with pytest.raises(BrokerGone, match="no end"):
        _packet_size(bytearray(b"\x30\xff\xff\xff\xff\x01"), 0)


def test_a_readable_publish_is_read() -> None:
    delivery = _read_publish(NOBODY, QOS1)

    assert (delivery.topic, delivery.packet_id, delivery.fault) == ("a/b", 258, None)


# The codec panics there and lets Python's own error go unhandled; that noise is what this is about.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_publish_that_is_not_utf8_keeps_its_id_and_its_bytes() -> None:
    packet = b"\x32\x0a\x00\x03a\xff\xfe\x01\x02\x00xy"

    delivery = _read_publish(NOBODY, packet)

    assert delivery.fault
    assert (delivery.packet_id, delivery.body) == (258, packet)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(st.integers(0, 15), st.binary(max_size=40))
def test_any_publish_is_read_or_told_and_never_raises(flags: int, rest: bytes) -> None:
    packet = bytes([0x30 | flags, len(rest)]) + rest

    delivery = _read_publish(NOBODY, packet)

    assert delivery.fault is None or delivery.body == packet


async def test_a_broker_that_tells_of_a_take_over_ends_the_session_with_it() -> None:
    session = Session(mqtt5.ConnectPacket("gateway-0-99"), lambda _: True)
    taken_over = mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER

    session.data_received(mqtt5.DisconnectPacket(reason_code=taken_over).write())

    assert isinstance(await session.ended, TakenOver)


async def test_a_broker_that_sends_nonsense_ends_the_session() -> None:
    session = Session(mqtt5.ConnectPacket("gateway-0-99"), lambda _: True)

    session.data_received(b"\xf1\x00")

    assert isinstance(await session.ended, BrokerGone)


@pytest.mark.parametrize("error", [RuntimeError("ours"), ValueError("ours")])
async def test_a_sink_that_fails_is_not_taken_for_a_broker_that_is_gone(error: Exception) -> None:
    """R9: a lost connection is waited for; a gateway would come back to the same failure for ever."""

    def sink(_: object) -> bool:
        raise error

    session = Session(mqtt5.ConnectPacket("gateway-0-99"), sink)

    session.data_received(QOS1)

    assert await session.ended is error


class Line(asyncio.Transport):
    """A network that remembers what was written."""

    def __init__(self) -> None:
        super().__init__({"socket": SimpleNamespace(family=socket.AF_UNIX)})
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False


def admitted_over(line: Line, *, receive_max: int = 65_535) -> Session:
    """Give a session that the broker has let in."""
    session = Session(mqtt5.ConnectPacket("downlink-0-99"), lambda _: True)
    session.connection_made(line)
    session.data_received(mqtt5.ConnAckPacket(receive_max=receive_max).write())
    line.written.clear()
    return session


async def test_no_more_is_published_than_the_broker_takes_before_it_answers() -> None:
    line = Line()
    session = admitted_over(line, receive_max=1)
    first = asyncio.create_task(session.publish("a", b"1", expiry_s=30))
    second = asyncio.create_task(session.publish("a", b"2", expiry_s=30))
    await asyncio.sleep(0)
    assert len(line.written) == 1

    session.data_received(
        mqtt5.PubAckPacket(1, reason_code=mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS).write()
    )

    assert await first == 0x10
    session.data_received(mqtt5.PubAckPacket(2).write())
    assert await second == 0
    packets = [mqtt5.read(memoryview(packet))[0] for packet in line.written]
    assert [packet.message_expiry_interval for packet in packets] == [30, 30]  # type: ignore[union-attr]


async def test_what_waited_for_room_until_its_seconds_were_over_is_not_published() -> None:
    """R15: a dispatcher's lease may end while the broker has enough."""
    line = Line()
    session = admitted_over(line, receive_max=1)
    first = asyncio.create_task(session.publish("a", b"1", expiry_s=30))
    late = asyncio.create_task(session.publish("a", b"2", expiry_s=0))
    await asyncio.sleep(0)

    session.data_received(mqtt5.PubAckPacket(1).write())

    assert (await first, await late) == (0, None)
    assert len(line.written) == 1


async def test_a_packet_id_is_not_given_again_before_the_broker_has_answered_it() -> None:
    line = Line()
    session = admitted_over(line)
    unanswered = asyncio.create_task(session.publish("a", b"1", expiry_s=30))
    await asyncio.sleep(0)
    unanswered.cancel()
    session._next_id = PACKET_IDS  # noqa: SLF001 - as after a whole round

    again = asyncio.create_task(session.publish("a", b"2", expiry_s=30))
    await asyncio.sleep(0)

    packets = [mqtt5.read(memoryview(packet))[0] for packet in line.written]
    assert [packet.packet_id for packet in packets] == [1, 2]  # type: ignore[union-attr]
    again.cancel()


async def test_publishes_that_wait_for_room_fail_when_the_connection_ends() -> None:
    session = admitted_over(Line(), receive_max=1)
    waiting = [asyncio.create_task(session.publish("a", b"1", expiry_s=30)) for _ in range(4)]
    await asyncio.sleep(0)

    session.connection_lost(None)

    async with asyncio.timeout(1):
        told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in told] == [BrokerGone] * 4


@pytest.mark.parametrize(
    ("ours", "theirs", "waits_s"), [(60.0, None, 30.0), (60.0, 0, 30.0), (60.0, 10, 5.0), (10.0, 60, 5.0)]
)
async def test_a_sign_of_life_is_asked_for_twice_per_keepalive_the_broker_s_where_it_is_shorter(
    monkeypatch: pytest.MonkeyPatch, ours: float, theirs: int | None, waits_s: float
) -> None:
    """It would end the session otherwise, again and again."""
    waited: list[float] = []
    enough = asyncio.Event()

    async def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) > 1:
            enough.set()
            await asyncio.Event().wait()

    line = Line()
    session = Session(mqtt5.ConnectPacket("uplink-0-99"), lambda _: True)
    session.connection_made(line)
    session.data_received(mqtt5.ConnAckPacket(server_keep_alive=theirs).write())
    line.written.clear()
    monkeypatch.setattr(asyncio, "sleep", wait)
    keeping = asyncio.create_task(session.keep_alive(ours))

    await enough.wait()

    keeping.cancel()
    assert waited == [waits_s, waits_s]
    assert line.written == [mqtt5.PingReqPacket().write()]


async def test_a_publish_on_a_connection_that_ended_fails_at_once() -> None:
    session = admitted_over(Line())
    session.connection_lost(None)

    with pytest.raises(BrokerGone):
        await session.publish("a", b"1", expiry_s=30)
