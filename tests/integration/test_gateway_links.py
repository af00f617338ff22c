"""The two links to a real Mosquitto: what is not acknowledged comes again, and every PUBACK is read."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import mqtt5
import pytest

from commands.dispatcher import Published
from deploy.local import broker
from deploy.local.account import servers_account
from deploy.local.folder import Folder, open_folder
from gateway.downlink import Downlink
from gateway.session import BrokerGone, BrokerRefuses, Delivery, Session
from runtime.settings import Broker, Gateway
from tests.builders import an_imei

IMEI = an_imei(1)
HEARTBEATS = "scu/v1/+/+/heartbeat"
PINGRESP = b"\xd0\x00"
KEEPALIVE_S = 5.0
COMMAND = f"scu/v1/{IMEI.partition}/{IMEI}/command"


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Folder, broker.Server]]:
    with tempfile.TemporaryDirectory(prefix="heliograph-test-", dir="/tmp") as home:
        account = servers_account()
        folder = open_folder(Path(home), account)
        with broker.serve(folder, account) as server:
            with server.logins.open("a", encoding="ascii") as lines:
                lines.write(broker.login(IMEI, "unit"))
            server.reload()
            yield folder, server


def connect_packet(
    folder: Folder, *, clean: bool = False, password: str | None = None
) -> mqtt5.ConnectPacket:
    """Introduce the uplink."""
    return mqtt5.ConnectPacket(
        broker.UPLINK,
        username=broker.UPLINK,
        password=(password or folder.secrets.uplink).encode(),
        clean_start=clean,
        keep_alive=30,
        session_expiry_interval=3600,
    )


@asynccontextmanager
async def uplink(
    place: tuple[Folder, broker.Server], *, clean: bool = False, window: int = 1000
) -> AsyncIterator[tuple[Session, list[Delivery]]]:
    """Connect and subscribe; what comes is gathered, and reading stops when `window` are there."""
    folder, server = place
    gathered: list[Delivery] = []

    def take(deliveries: Sequence[Delivery]) -> bool:
        gathered.extend(deliveries)
        return len(gathered) < window

    _, session = await asyncio.get_running_loop().create_connection(
        lambda: Session(connect_packet(folder, clean=clean), take), "127.0.0.1", server.port
    )
    await session.accepted
    assert await session.subscribe([mqtt5.TopicFilter(HEARTBEATS, max_qos=mqtt5.QoS.AT_LEAST_ONCE)]) == [1]
    yield session, gathered
    session.close()
    async with asyncio.timeout(10):
        await session.ended


@asynccontextmanager
async def unit(place: tuple[Folder, broker.Server]) -> AsyncIterator[aiomqtt.Client]:
    """Connect the unit."""
    async with aiomqtt.Client("127.0.0.1", place[1].port, username=IMEI, password="unit") as client:
        yield client


async def gathered_all(gathered: list[Delivery], number: int) -> list[bytes]:
    """Wait until so much has come."""
    async with asyncio.timeout(10):
        while len(gathered) < number:
            await asyncio.sleep(0.01)
    return [delivery.body for delivery in gathered]


async def say(place: tuple[Folder, broker.Server], *bodies: bytes) -> None:
    """Publish heartbeats as the unit."""
    async with unit(place) as client:
        for body in bodies:
            await client.publish(f"scu/v1/{IMEI.partition}/{IMEI}/heartbeat", body, qos=1)


async def test_what_was_not_acknowledged_is_delivered_again_and_only_that(
    place: tuple[Folder, broker.Server],
) -> None:
    async with uplink(place, clean=True) as (session, gathered):
        await say(place, b"1", b"2", b"3")
        assert await gathered_all(gathered, 3) == [b"1", b"2", b"3"]
        ids = [delivery.packet_id for delivery in gathered if delivery.packet_id is not None]
        session.acknowledge(ids[:1])
        # an answered question behind the ack shows that the broker has read it
        await session.unsubscribe(["nothing"])

    async with uplink(place) as (session, again):
        assert await gathered_all(again, 2) == [b"2", b"3"]
        assert all(delivery.again for delivery in again)
        session.acknowledge(delivery.packet_id for delivery in again if delivery.packet_id is not None)
        await session.unsubscribe(["nothing"])

    async with uplink(place) as (session, rest):
        await session.unsubscribe(["nothing"])
        assert rest == []


async def test_reading_stops_when_there_is_no_room_and_goes_on_when_told(
    place: tuple[Folder, broker.Server],
) -> None:
    async with uplink(place, clean=True, window=2) as (session, gathered):
        bodies = [str(number).encode() for number in range(500)]
        await say(place, *bodies)
        await gathered_all(gathered, 2)
        held = len(gathered)  # what came with the second is taken with it
        await asyncio.sleep(0.2)  # what should not come has this long to come
        assert len(gathered) == held < len(bodies)

        while len(gathered) < len(bodies):
            session.resume()
            await gathered_all(gathered, len(gathered) + 1)
        assert [delivery.body for delivery in gathered] == bodies


async def test_a_second_connection_of_the_same_name_ends_the_first(
    place: tuple[Folder, broker.Server],
) -> None:
    """Mosquitto 2.0.11 says no word of it; a lock in the database keeps gateways from coming to this."""
    async with uplink(place, clean=True) as (first, _), uplink(place, clean=True):
        async with asyncio.timeout(10):
            assert isinstance(await first.ended, BrokerGone)


async def test_a_dead_network_side_is_noticed_although_the_connection_stands(
    place: tuple[Folder, broker.Server],
) -> None:
    """R9: what is between us and the broker stops passing bytes on, and says nothing of it."""
    folder, server = place
    thawed, over = asyncio.Event(), asyncio.Event()
    thawed.set()
    answers = 0

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        while data := await reader.read(65_536):
            await thawed.wait()
            writer.write(data)
            answers += data.count(PINGRESP)

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
        ways = [asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (far_writer, writer):
            end.close()
            await asyncio.gather(end.wait_closed(), return_exceptions=True)
        over.set()

    async with await asyncio.start_server(between, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        _, session = await asyncio.get_running_loop().create_connection(
            lambda: Session(connect_packet(folder, clean=True), lambda _: True), "127.0.0.1", port
        )
        await session.accepted
        answers = 0
        alive = asyncio.create_task(session.keep_alive(KEEPALIVE_S))
        try:
            async with asyncio.timeout(30):
                while answers < 2:
                    assert not session.ended.done()
                    await asyncio.sleep(0.01)
            thawed.clear()
            frozen = time.monotonic()
            async with asyncio.timeout(60):
                assert isinstance(await session.ended, BrokerGone)
            assert time.monotonic() - frozen > KEEPALIVE_S, "the answers before counted for nothing"
        finally:
            thawed.set()
            alive.cancel()
            await over.wait()


async def test_a_wrong_password_is_refused_and_not_tried_for_ever(
    place: tuple[Folder, broker.Server],
) -> None:
    folder, server = place
    _, session = await asyncio.get_running_loop().create_connection(
        lambda: Session(connect_packet(folder, password="wrong"), lambda _: True), "127.0.0.1", server.port
    )

    with pytest.raises(BrokerRefuses):
        await session.accepted


def settings_of(place: tuple[Folder, broker.Server]) -> tuple[Broker, Gateway]:
    """Give the settings of a downlink to this broker."""
    folder, server = place
    passwords = {"broker_uplink_password": "x", "broker_downlink_password": folder.secrets.downlink}
    return Broker.model_validate({"broker_url": server.url}), Gateway.model_validate(passwords)


@asynccontextmanager
async def downlink(place: tuple[Folder, broker.Server]) -> AsyncIterator[Downlink]:
    """Connect the downlink."""
    link = Downlink(broker.DOWNLINK, *settings_of(place))
    stop = asyncio.Event()
    serving = asyncio.create_task(link.serve(stop))
    async with asyncio.timeout(10):
        while not link.connected:
            await asyncio.sleep(0.01)
    yield link
    stop.set()
    await serving


async def test_the_downlink_tells_taken_unheard_and_refused_apart(
    place: tuple[Folder, broker.Server],
) -> None:
    """Pins the reason codes: 0x10 when nobody listens, 0x87 when the access list forbids it."""
    async with downlink(place) as link:
        assert await link.publish(COMMAND, b"{}", expiry_s=30) is Published.UNHEARD
        async with unit(place) as client:
            await client.subscribe(COMMAND, qos=1)

            assert await link.publish(COMMAND, json.dumps({"n": 1}).encode(), expiry_s=30) is Published.TAKEN

            message = await anext(aiter(client.messages))
            assert (message.payload, message.retain, message.qos) == (b'{"n": 1}', False, 1)
        assert await link.publish("scu/v1/00/not-ours/heartbeat", b"{}", expiry_s=30) is Published.FAILED


async def test_a_downlink_without_a_broker_fails_and_does_not_raise(
    place: tuple[Folder, broker.Server],
) -> None:
    link = Downlink(broker.DOWNLINK, *settings_of(place))

    assert not link.connected
    assert await link.publish(COMMAND, b"{}", expiry_s=30) is Published.FAILED


async def test_a_downlink_that_is_cancelled_while_it_connects_ends(
    place: tuple[Folder, broker.Server],
) -> None:
    """R9: to a broker that takes the connection and does not answer."""
    connecting, over = asyncio.Event(), asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connecting.set()
        await over.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        _, gateway = settings_of(place)
        to = Broker.model_validate({"broker_url": f"mqtt://127.0.0.1:{port}"})
        serving = asyncio.create_task(Downlink(broker.DOWNLINK, to, gateway).serve(asyncio.Event()))
        await connecting.wait()

        serving.cancel()

        await asyncio.wait({serving}, timeout=10)
        assert serving.cancelled()
        over.set()


async def test_a_downlink_whose_broker_goes_fails_what_is_unanswered_and_comes_back(
    place: tuple[Folder, broker.Server],
) -> None:
    async with downlink(place) as link:
        async with unit(place) as client:
            await client.subscribe(COMMAND, qos=1)
            place[1].child.tell(signal.SIGSTOP)
            waiting = asyncio.create_task(link.publish(COMMAND, b"{}", expiry_s=30))
            await asyncio.sleep(0)
            link._session._abort(BrokerGone("cut"))  # type: ignore[union-attr]  # noqa: SLF001 - a cut line
            assert await waiting is Published.FAILED
            place[1].child.tell(signal.SIGCONT)
        async with asyncio.timeout(10):
            while not link.connected:
                await asyncio.sleep(0.01)
        assert await link.publish(COMMAND, b"{}", expiry_s=30) is Published.UNHEARD
