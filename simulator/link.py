"""One MQTT 3.1.1 connection of one unit: paho-mqtt, driven by the asyncio loop instead of a thread.

A link lives once, from `open` to `lost`; a unit that comes back makes a new one. So nothing that paho kept
of the old connection can be sent before the new one is subscribed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from protocol.codec import encode
from protocol.identity import Imei
from protocol.messages import Presence
from protocol.topics import Channel, topic
from runtime.errors import Forbidden, Unavailable
from runtime.settings import Broker

KEEPALIVE_S = 120
_OPENING_S = 30.0


class LoginRefused(Forbidden):
    """The broker does not let the unit in."""


class NoConnection(Unavailable):
    """The broker cannot be reached."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker listens, and whom it must prove to be."""

    host: str
    port: int
    trust: ssl.SSLContext | None

    @classmethod
    def of(cls, broker: Broker) -> Endpoint:
        """Take the broker's address from the settings."""
        return cls(broker.host, broker.port, broker.trust)


class Link:
    """A connection whose every method is for the loop's own thread."""

    def __init__(
        self, endpoint: Endpoint, imei: Imei, password: str, *, will: Presence, hear: Callable[[bytes], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()  # why the connection ended
        self._imei = imei
        self._hear = hear
        self.opened = self._dropped = False
        self._answer: asyncio.Future[None] = self._loop.create_future()  # the broker's, to the step under way
        self._published: dict[int, asyncio.Future[bool]] = {}
        self._watched = False
        self._client = self._paho(endpoint, password, will)

    @property
    def stands(self) -> bool:
        """Whether the unit can speak and is heard."""
        return self.opened and not self._dropped and not self.lost.done()

    async def open(self) -> None:
        """Connect and subscribe to the unit's commands; `LoginRefused` or `NoConnection` if that fails."""
        try:
            async with asyncio.timeout(_OPENING_S):
                # The only blocking step (name, TCP and TLS); the loop takes the socket over afterwards.
                await asyncio.to_thread(self._client.reconnect)
                self._watch()
                await self._answer
                self._answer = self._loop.create_future()
                self._client.subscribe(topic(self._imei, Channel.COMMAND), qos=1)
                await self._answer
            self.opened = True
        except OSError as error:  # a timeout is one too
            raise NoConnection("The broker does not answer.", why=str(error) or "timeout") from error
        finally:
            if not self.opened:
                self.drop()

    def publish(self, channel: Channel, body: bytes, *, retain: bool = False) -> asyncio.Future[bool]:
        """Send at QoS 1; the future ends with the PUBACK (True) or the connection's end (False)."""
        done: asyncio.Future[bool] = self._loop.create_future()
        if self.stands:
            sent = self._client.publish(topic(self._imei, channel), body, qos=1, retain=retain)
            self._published[sent.mid] = done
        else:
            done.set_result(False)
        return done

    async def settled(self) -> None:
        """Wait for every PUBACK that is still out."""
        if self._published:
            await asyncio.wait(self._published.values())

    async def close(self) -> None:
        """Say DISCONNECT, so that the broker keeps the will to itself."""
        if not self.lost.done():
            self._client.disconnect()
            await asyncio.wait([self.lost])  # unlike a bare await it leaves the future alone when cancelled

    def drop(self) -> None:
        """Fall silent as if the network were gone: the broker then publishes the will."""
        self._dropped = True
        if sock := self._client.socket():
            with suppress(OSError):  # the other side was faster
                cast("socket.socket", sock).shutdown(socket.SHUT_RDWR)
        if not self._watched:  # otherwise reading finds the end
            self._end("dropped")

    def tend(self) -> None:
        """Keep the connection alive; to be called every few seconds."""
        if self._watched:
            self._client.loop_misc()

    def _paho(self, endpoint: Endpoint, password: str, will: Presence) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._imei,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.username_pw_set(self._imei, password)
        client.will_set(topic(self._imei, Channel.PRESENCE), encode(will), qos=1, retain=True)
        if endpoint.trust:
            client.tls_set_context(endpoint.trust)
        client.connect_async(endpoint.host, endpoint.port, keepalive=KEEPALIVE_S)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_want_write
        client.on_socket_unregister_write = self._on_wrote
        return client

    def _watch(self) -> None:
        self._loop.add_reader(sock := cast("socket.socket", self._client.socket()), self._read)
        self._loop.add_writer(sock, self._client.loop_write)
        self._watched = True

    def _read(self) -> None:
        self._client.loop_read()
        # What TLS has already decrypted wakes no selector.
        while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
            self._client.loop_read()

    def _on_connect(
        self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        self._answered(code)

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        self._answered(codes[0])

    def _answered(self, code: ReasonCode) -> None:
        if self._answer.done():
            return
        if code.is_failure:
            self._answer.set_exception(
                LoginRefused("The broker refuses the unit.", imei=self._imei, reason=str(code))
            )
        else:
            self._answer.set_result(None)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        # Not at once: whoever waits for `open` comes first.
        self._loop.call_soon(self._deliver, bytes(message.payload))

    def _deliver(self, body: bytes) -> None:
        if self.stands:
            self._hear(body)

    def _on_publish(self, _client: Client, _data: Any, mid: int, _code: ReasonCode, _properties: Any) -> None:
        if (done := self._published.pop(mid, None)) and not done.done():
            done.set_result(True)

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        self._end(str(code))

    def _end(self, why: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(why)
        if not self._answer.done():
            self._answer.set_exception(NoConnection("The connection ended before it stood.", why=why))
            self._answer.exception()  # nobody may be waiting any more
        for done in self._published.values():
            if not done.done():
                done.set_result(False)
        self._published.clear()

    @staticmethod
    def _on_socket_open(_client: Client, _data: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_socket_close(self, _client: Client, _data: Any, sock: Any) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _on_want_write(self, _client: Client, _data: Any, sock: Any) -> None:
        if self._watched:
            self._loop.add_writer(sock, self._client.loop_write)

    def _on_wrote(self, _client: Client, _data: Any, sock: Any) -> None:
        if self._watched:
            self._loop.remove_writer(sock)
