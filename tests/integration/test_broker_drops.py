"""What the broker drops is seen: counted by a real Mosquitto whose queues hold next to nothing."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import aiomqtt
import mqtt5
import pytest
from structlog.testing import capture_logs

from deploy.local import broker
from deploy.local.account import Account, servers_account
from deploy.local.folder import Folder, open_folder
from gateway import metrics
from gateway.downlink import Downlink
from gateway.session import Session
from runtime.settings import Broker, Gateway
from tests.builders import an_imei

IMEI = an_imei(1)
TOPIC = f"scu/v1/{IMEI.partition}/{IMEI}/heartbeat"
QUEUED_BYTES = 2_000
SAID = 40
BODY = bytes(500)
FEW = QUEUED_BYTES // len(BODY)
"""So many of them fit the queue at most."""

Place = tuple[Folder, Account]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(broker, "QUEUE_BYTES", QUEUED_BYTES)
    monkeypatch.setattr(broker, "CONFIGURATION", f"{broker.CONFIGURATION}sys_interval 1\n")
    with tempfile.TemporaryDirectory(prefix="heliograph-test-", dir="/tmp") as home:
        account = servers_account()
        yield open_folder(Path(home), account), account


def start(place: Place, stack: ExitStack) -> broker.Server:
    """Start the broker and let the unit in."""
    server = stack.enter_context(broker.serve(*place))
    with server.logins.open("a", encoding="ascii") as lines:
        lines.write(broker.login(IMEI, "unit"))
    server.reload()
    return server


@asynccontextmanager
async def downlink(place: Place, server: broker.Server) -> AsyncIterator[Downlink]:
    passwords = {"broker_uplink_password": "x", "broker_downlink_password": place[0].secrets.downlink}
    link = Downlink(
        broker.DOWNLINK,
        Broker(broker_url=server.url),
        Gateway.model_validate(passwords | {"gateway_keepalive_s": 5}),
    )
    stop = asyncio.Event()
    serving = asyncio.create_task(link.serve(stop))
    yield link
    stop.set()
    await serving


async def leave_a_session(place: Place, server: broker.Server) -> None:
    """Let a gateway subscribe and go, so that the broker queues for it."""
    hello = mqtt5.ConnectPacket(
        broker.UPLINK,
        username=broker.UPLINK,
        password=place[0].secrets.uplink.encode(),
        session_expiry_interval=3600,
    )
    _, session = await asyncio.get_running_loop().create_connection(
        lambda: Session(hello, lambda _: True), "127.0.0.1", server.port
    )
    await session.accepted
    await session.subscribe([mqtt5.TopicFilter(TOPIC, max_qos=mqtt5.QoS.AT_LEAST_ONCE)])
    session.close()
    await session.ended


async def say_too_much(server: broker.Server) -> None:
    """Publish more than the queue of a gateway that is away holds."""
    async with aiomqtt.Client("127.0.0.1", server.port, username=IMEI, password="unit") as client:
        for _ in range(SAID):
            await client.publish(TOPIC, BODY, qos=1)


def dropped() -> float:
    """Read the figure."""
    (family,) = metrics.DROPPED.collect()
    return family.samples[0].value


async def until_told(least: float, most: float) -> float:
    async with asyncio.timeout(20):
        while not least <= dropped() <= most:
            await asyncio.sleep(0.05)
    return dropped()


async def test_what_the_broker_drops_is_counted_and_counting_begins_anew_with_the_broker(
    place: Place,
) -> None:
    metrics.DROPPED.set(0)
    with ExitStack() as running, capture_logs() as logs:
        server = start(place, running)
        await leave_a_session(place, server)
        async with downlink(place, server) as link:
            await say_too_much(server)
            await until_told(SAID - FEW, SAID)
            assert link.connected

            running.close()
            server = start(place, running)
            await until_told(0, 0)
            await leave_a_session(place, server)
            await say_too_much(server)
            await until_told(SAID - FEW, SAID)

    told = [entry for entry in logs if entry["event"] == "broker_dropped_messages"]
    assert len(told) == 1, "one line when it begins, not one at every growth"
    assert [entry for entry in logs if entry["event"] in {"unexpected_message", "broker_drops_unknown"}] == []
