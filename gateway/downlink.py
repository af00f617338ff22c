"""Carries commands to the broker, reads what it answers to each, and hears what it drops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import mqtt5
import structlog

from commands.dispatcher import Published
from gateway import drops, metrics
from gateway.drops import Drops
from gateway.session import REFUSED, Delivery, Session, dial
from runtime.errors import HeliographError
from runtime.retry import until_stopped
from runtime.settings import Broker, Gateway

NOBODY_LISTENS = 0x10
PUBACK_S = 10.0

log = structlog.get_logger()


class Downlink:
    """The publisher of one gateway."""

    def __init__(self, name: str, broker: Broker, gateway: Gateway) -> None:
        self._name = name
        self._broker = broker
        self._gateway = gateway
        self._session: Session | None = None
        self._drops = Drops()

    @property
    def connected(self) -> bool:
        """Whether a publish has a chance now."""
        return self._session is not None

    async def serve(self, stop: asyncio.Event) -> None:
        """Stay connected until stopped."""
        await until_stopped("downlink", self._hold, stop)

    async def publish(self, topic: str, body: bytes, *, expiry_s: int) -> Published:
        """Publish at QoS 1, not retained, forgotten by the broker after `expiry_s` seconds; never raises."""
        outcome = await self._publish(topic, body, expiry_s)
        metrics.PUBLISHED.labels(outcome).inc()
        return outcome

    async def _publish(self, topic: str, body: bytes, expiry_s: int) -> Published:
        if self._session is None:
            return Published.FAILED
        try:
            async with asyncio.timeout(PUBACK_S):
                code = await self._session.publish(topic, body, expiry_s=expiry_s)
        except HeliographError:
            return Published.FAILED  # the connection ended: that is told once, by `serve`
        except TimeoutError:
            log.warning("publish_not_answered", topic=topic, seconds=PUBACK_S)
            return Published.FAILED
        if code is None or code >= REFUSED:
            log.warning("publish_refused", topic=topic, code=code)
            return Published.FAILED
        return Published.UNHEARD if code == NOBODY_LISTENS else Published.TAKEN

    async def _hold(self, stop: asyncio.Event) -> None:
        """Run one session, from connect to its end."""
        session = await dial(self._broker, self._introduction(), self._hear)
        try:
            await session.admitted()
            log.info("downlink_connected", downlink=self._name)
            self._session = session
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(session.keep_alive(self._gateway.gateway_keepalive_s)),
                    group.create_task(session.fail_when_ended()),
                    group.create_task(self._ask_for_drops(session)),
                ]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            self._session = None
            session.close()

    def _introduction(self) -> mqtt5.ConnectPacket:
        """Say who connects; nothing of this session is to stay."""
        return mqtt5.ConnectPacket(
            self._name,
            username=self._name,
            password=self._gateway.broker_downlink_password.get_secret_value().encode(),
            clean_start=True,
            keep_alive=self._gateway.gateway_keepalive_s,
        )

    async def _ask_for_drops(self, session: Session) -> None:
        """Subscribe to the broker's number; a broker that does not tell it is served all the same."""
        for code in await session.subscribe([mqtt5.TopicFilter(drops.TOPIC, max_qos=mqtt5.QoS.AT_MOST_ONCE)]):
            if code >= REFUSED:
                log.warning("broker_drops_unknown", downlink=self._name, code=code)

    def _hear(self, deliveries: Sequence[Delivery]) -> bool:
        for delivery in deliveries:
            if delivery.topic == drops.TOPIC:
                self._drops.hear(delivery.body)
            else:
                log.warning("unexpected_message", topic=delivery.topic)
        return True
