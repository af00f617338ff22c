"""The uplink before a real Mosquitto with a queue behind it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from deploy.local import broker
from deploy.local.account import servers_account
from deploy.local.folder import Folder, open_folder
from gateway import uplink
from gateway.session import Delivery, Session
from gateway.uplink import Uplink
from runtime.settings import Broker, Gateway
from tests.builders import an_imei

IMEI = an_imei(1)
QUEUED = 20


class SlowWork:
    """Stands in for the ingest: takes one message, and no more until it is told."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.taken: list[Delivery] = []
        self.finished = asyncio.Event()
        self.finished.set()
        self.room = True

    def connected(self, session: Session) -> None:
        self.sessions.append(session)

    def nothing_queued(self) -> None:
        pass

    def take(self, delivery: Delivery) -> bool:
        self.taken.append(delivery)
        return self.room


@pytest.fixture
def server() -> Iterator[tuple[Folder, broker.Server]]:
    with tempfile.TemporaryDirectory(prefix="heliograph-test-", dir="/tmp") as home:
        account = servers_account()
        folder = open_folder(Path(home), account)
        with broker.backend_logins(folder).open("a", encoding="ascii") as lines:
            lines.write(broker.login(IMEI, "unit"))
        with broker.serve(folder, account) as server:
            yield folder, server


async def test_a_queue_that_takes_longer_than_a_connect_is_no_reason_to_begin_anew(
    server: tuple[Folder, broker.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R23: the answer to SUBSCRIBE stands behind it; to begin anew would bring all of it once more."""
    monkeypatch.setattr(uplink, "CONNECT_S", 0.5)
    folder, courier = server
    first = SlowWork()
    async with asyncio.timeout(20):
        await serve(folder, courier, first, until=lambda up: up.subscribed)
    async with aiomqtt.Client("127.0.0.1", courier.port, username=IMEI, password="unit") as unit:
        for number in range(QUEUED):
            await unit.publish(f"scu/v1/{IMEI.partition}/{IMEI}/heartbeat", str(number).encode(), qos=1)

    work = SlowWork()
    work.room = False

    def resume() -> None:
        work.room = True
        work.sessions[0].resume()

    asyncio.get_running_loop().call_later(1.5, resume)
    async with asyncio.timeout(20):
        await serve(folder, courier, work, until=lambda up: up.subscribed)

    assert len(work.sessions) == 1
    assert [delivery.body for delivery in work.taken] == [str(number).encode() for number in range(QUEUED)]


async def serve(folder: Folder, courier: broker.Server, work: SlowWork, *, until: Any) -> None:
    """Run an uplink until it comes to that."""
    passwords = {"broker_uplink_password": folder.secrets.uplink, "broker_downlink_password": "x"}
    ingest: Any = work
    settings = Broker.model_validate({"broker_url": courier.url}), Gateway.model_validate(passwords)
    up = Uplink(broker.UPLINK, range(100), *settings, ingest)
    stop = asyncio.Event()
    serving = asyncio.create_task(up.serve(stop))
    while not until(up):
        await asyncio.sleep(0.02)
    stop.set()
    await serving
