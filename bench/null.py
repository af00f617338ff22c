"""`python -m bench.null`: what a gateway could do at most: its session, strict decoding, no database."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime

import mqtt5
import structlog

from gateway.reading import read as decode
from gateway.session import Delivery, Session
from protocol.reasons import Unreadable
from protocol.topics import Channel, filters
from runtime import logs
from runtime.clock import now
from runtime.garbage import collect_rarely
from runtime.settings import Broker, Gateway, read

NAME = "gateway-0-99"
EVERY_PARTITION = range(100)

log = structlog.get_logger()


class Null:
    """Takes, decodes and acknowledges; counts both what could be read and what could not."""

    def __init__(self, settings: Gateway) -> None:
        self._settings = settings
        self._queue: deque[tuple[Delivery, datetime]] = deque()
        self._arrived = asyncio.Event()
        self._decoded = 0
        self._unreadable = 0

    def take(self, deliveries: Sequence[Delivery]) -> bool:
        """Accept what came at one moment; answers whether there is room for more."""
        at = now()
        self._queue.extend((delivery, at) for delivery in deliveries)
        self._arrived.set()
        return len(self._queue) < self._settings.gateway_window

    async def serve(self, session: Session) -> None:
        """Empty the queue, for ever; says how far it came whenever nothing waits."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                size = min(len(self._queue), self._settings.gateway_batch_rows)
                self._settle(session, [self._queue.popleft() for _ in range(size)])
                session.resume()
                await asyncio.sleep(0)
            log.info("queue_emptied", decoded=self._decoded, unreadable=self._unreadable, at=time.monotonic())

    def _settle(self, session: Session, batch: list[tuple[Delivery, datetime]]) -> None:
        for delivery, at in batch:
            bad = isinstance(decode(delivery, at, live=True).decoded, Unreadable)
            self._unreadable += bad
            self._decoded += not bad
        session.acknowledge(delivery.packet_id for delivery, _ in batch if delivery.packet_id is not None)


async def main() -> None:
    """Serve until killed."""
    broker, settings = read(Broker), read(Gateway)
    null = Null(settings)
    hello = mqtt5.ConnectPacket(
        NAME,
        username=NAME,
        password=settings.broker_uplink_password.get_secret_value().encode(),
        clean_start=True,
        receive_max=settings.gateway_window,
    )
    _, session = await asyncio.get_running_loop().create_connection(
        lambda: Session(hello, null.take), broker.host, broker.port
    )
    await session.accepted
    await session.subscribe(
        mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        for pattern in filters(Channel.HEARTBEAT, EVERY_PARTITION)
    )
    log.info("uplink_subscribed", gateway=NAME)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(null.serve(session))
        why = await session.ended
        serving.cancel()
    raise why


if __name__ == "__main__":
    logs.configure("null")
    collect_rarely()
    asyncio.run(main())
