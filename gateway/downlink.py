"""Carries commands to the broker with aiomqtt, reads what it answers to each, and hears what it drops."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from commands.dispatcher import Published
from gateway import drops, metrics
from gateway.drops import Drops
from gateway.session import BAD_LOGIN as BAD_LOGIN_CODES
from gateway.session import BrokerGone, refuses
from runtime.retry import until_stopped
from runtime.services import heed
from runtime.settings import Broker, Gateway

NOBODY_LISTENS = 0x10
REFUSED = 0x80
BAD_LOGIN = frozenset(map(int, BAD_LOGIN_CODES))
PUBACK_S = 10.0
IN_FLIGHT = 1000

log = structlog.get_logger()


class TellingClient(aiomqtt.Client):
    """aiomqtt ends a publish well whatever the PUBACK says (seen in 2.5.1); here its reason is kept."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._answers: dict[int, asyncio.Future[int]] = {}

    async def publish_told(self, topic: str, body: bytes, properties: Properties) -> int:
        """Publish at QoS 1 and give the PUBACK's reason code."""
        sent = self._client.publish(topic, body, qos=1, retain=False, properties=properties)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers[sent.mid] = answer  # the answer is read by this same loop: it cannot have come yet
        try:
            async with asyncio.timeout(PUBACK_S):
                return await answer
        finally:
            del self._answers[sent.mid]

    def give_up(self) -> None:
        """Tell those who wait for an answer that none will come."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(aiomqtt.MqttError("the connection ended first"))

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code.value)
        super()._on_publish(client, userdata, mid, reason_code, properties)


class Downlink:
    """The publisher of one gateway."""

    def __init__(self, name: str, broker: Broker, gateway: Gateway) -> None:
        self._name = name
        self._broker = broker
        self._gateway = gateway
        self._client: TellingClient | None = None
        self._drops = Drops()

    @property
    def connected(self) -> bool:
        """Whether a publish has a chance now."""
        return self._client is not None

    async def serve(self, stop: asyncio.Event) -> None:
        """Stay connected until stopped."""
        await until_stopped("downlink", self._hold, stop)

    async def publish(self, topic: str, body: bytes, *, expiry_s: int) -> Published:
        """Publish at QoS 1, not retained, forgotten by the broker after `expiry_s` seconds; never raises."""
        outcome = await self._publish(topic, body, expiry_s)
        metrics.PUBLISHED.labels(str(outcome)).inc()
        return outcome

    async def _publish(self, topic: str, body: bytes, expiry_s: int) -> Published:
        if self._client is None:
            return Published.FAILED
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = expiry_s
        try:
            code = await self._client.publish_told(topic, body, properties)
        except (aiomqtt.MqttError, TimeoutError, ValueError, OSError) as error:
            log.warning("publish_failed", topic=topic, why=str(error) or type(error).__name__)
            return Published.FAILED
        if code >= REFUSED:
            log.warning("publish_refused", topic=topic, code=code)
            return Published.FAILED
        return Published.UNHEARD if code == NOBODY_LISTENS else Published.TAKEN

    async def _hold(self, stop: asyncio.Event) -> None:
        try:
            async with self._connect() as client:
                heed()
                self._client = client
                log.info("downlink_connected", downlink=self._name)
                try:
                    await self._until_lost(client, stop)
                finally:
                    client.give_up()
        except* (aiomqtt.MqttError, OSError) as lost:
            why = lost.exceptions[0]
            if isinstance(why, aiomqtt.MqttCodeError) and _code(why.rc) in BAD_LOGIN:
                raise refuses(self._name, str(why.rc)) from lost
            raise BrokerGone("The downlink lost the broker.", why=str(why)) from lost
        finally:
            self._client = None

    async def _until_lost(self, client: TellingClient, stop: asyncio.Event) -> None:
        """Wait for the stop; a lost connection ends the messages."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._hear(client)), group.create_task(self._ask_for_drops(client))]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _hear(self, client: TellingClient) -> None:
        async for message in client.messages:
            if str(message.topic) == drops.TOPIC:
                self._drops.hear(bytes(message.payload))
            else:
                log.warning("unexpected_message", topic=str(message.topic))

    async def _ask_for_drops(self, client: TellingClient) -> None:
        """Subscribe to the broker's number; a broker that does not tell it is served all the same.

        This also finds out a connection that was lost while it was made: aiomqtt forgets such a loss.
        """
        for code in await client.subscribe(drops.TOPIC):
            if (_code(code) or 0) >= REFUSED:
                log.warning("broker_drops_unknown", downlink=self._name, code=str(code))

    def _connect(self) -> TellingClient:
        return TellingClient(
            self._broker.host,
            self._broker.port,
            username=self._name,
            identifier=self._name,
            password=self._gateway.broker_downlink_password.get_secret_value(),
            protocol=aiomqtt.ProtocolVersion.V5,
            keepalive=self._gateway.gateway_keepalive_s,
            max_inflight_messages=IN_FLIGHT,
            tls_context=ssl.create_default_context(cafile=self._broker.broker_ca_file)
            if self._broker.tls
            else None,
        )


def _code(rc: int | ReasonCode | None) -> int | None:
    return rc.value if isinstance(rc, ReasonCode) else rc
