"""A gateway whose queue at the broker is longer than its window keeps its connection, and can still stop."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiomqtt
import mqtt5
import pytest
from structlog.testing import capture_logs

from deploy.local import broker
from deploy.local.account import servers_account
from deploy.local.folder import Folder, open_folder
from gateway import session
from gateway.ingest import Ingest
from gateway.session import Delivery, Session
from gateway.uplink import Uplink
from runtime.settings import Broker, Gateway
from tests.builders import an_imei

IMEI = an_imei(1)
WAITING = 100
"""Messages, of 10 KiB each: more than one read brings."""

WINDOW = 2


class Basin:
    """Stands in for the ingest: takes up to a window and not one more until it is opened."""

    def __init__(self, room: int = WINDOW) -> None:
        self.taken: list[bytes] = []
        self.sessions: list[Session] = []
        self.room = room
        self.finished = asyncio.Event()
        self.finished.set()

    def take(self, deliveries: Sequence[Delivery]) -> bool:
        self.taken += [delivery.body for delivery in deliveries]
        return len(self.taken) < self.room

    def connected(self, session: Session) -> None:
        self.sessions.append(session)

    def nothing_queued(self) -> None:
        pass

    def open(self) -> None:
        self.room = 10 * WAITING
        self.sessions[-1].resume()


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


def uplink(place: tuple[Folder, broker.Server], basin: Basin) -> Uplink:
    folder, server = place
    settings = Gateway.model_validate(
        {
            "broker_uplink_password": folder.secrets.uplink,
            "broker_downlink_password": folder.secrets.downlink,
            "gateway_window": WINDOW,
        }
    )
    return Uplink(
        broker.UPLINK,
        range(100),
        Broker.model_validate({"broker_url": server.url}),
        settings,
        cast("Ingest", basin),
    )


@asynccontextmanager
async def serving(place: tuple[Folder, broker.Server], basin: Basin) -> AsyncIterator[tuple[Uplink, Any]]:
    """Serve as the gateway until the block ends, and end within a few seconds."""
    link = uplink(place, basin)
    stop = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        served = group.create_task(link.serve(stop))
        yield link, served
        stop.set()
        async with asyncio.timeout(5):
            await served


async def comes_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def body(number: int) -> bytes:
    return f"{number:010240}".encode()


async def let_wait(place: tuple[Folder, broker.Server]) -> None:
    """Make a session, and let more messages wait in it than the window holds."""
    basin = Basin(10 * WAITING)
    async with serving(place, basin) as (link, _):
        await comes_true(lambda: link.subscribed)
    async with aiomqtt.Client("127.0.0.1", place[1].port, username=IMEI, password="unit") as client:
        for number in range(WAITING):
            topic = f"scu/v1/{IMEI.partition}/{IMEI}/heartbeat"
            await client.publish(topic, body(number), qos=1)


async def test_a_subscription_whose_answer_stands_behind_the_queue_is_waited_for(
    place: tuple[Folder, broker.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun anew after a while, the same messages would come again, and the answer perhaps never."""
    await let_wait(place)
    basin = Basin()
    admitted = Session.admitted

    async def then_hurry(session_: Session) -> mqtt5.ConnAckPacket:
        welcome = await admitted(session_)
        monkeypatch.setattr(session, "CONNECT_S", 0.3)
        return welcome

    monkeypatch.setattr(Session, "admitted", then_hurry)

    async with serving(place, basin) as (link, _):
        await comes_true(lambda: len(basin.taken) >= WINDOW)
        await asyncio.sleep(1)  # what should not come, another connection, has this long to come
        assert not link.subscribed
        basin.open()
        await comes_true(lambda: link.subscribed)

    assert len(basin.sessions) == 1
    assert basin.taken[:WINDOW] == [body(0), body(1)]


async def test_two_processes_under_one_name_are_warned_of(place: tuple[Folder, broker.Server]) -> None:
    """Mosquitto closes the older connection without a word, and each cuts the other off."""
    stop = asyncio.Event()
    with capture_logs() as told:
        both = [asyncio.create_task(uplink(place, Basin(10 * WAITING)).serve(stop)) for _ in range(2)]
        async with asyncio.timeout(60):
            while not (warned := [one for one in told if one["event"] == "broker_cuts_off"]):
                await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*both)

    assert (warned[0]["gateway"], warned[0]["times"]) == (broker.UPLINK, 4)
    assert "another process" in warned[0]["hint"]


async def test_a_gateway_can_stop_while_it_waits_for_that_answer(place: tuple[Folder, broker.Server]) -> None:
    await let_wait(place)
    basin = Basin()

    async with serving(place, basin) as (link, _):
        await comes_true(lambda: len(basin.taken) >= WINDOW)
        assert not link.subscribed
