"""MQTT 5 by hand: packets of any bytes, also such as no client would send, and what the broker answers."""

from __future__ import annotations

import socket
from typing import NamedTuple, Self

CONNECT, CONNACK, PUBLISH, PUBREL, PINGREQ, PINGRESP, DISCONNECT = 0x10, 2, 0x30, 0x62, 0xC0, 13, 14
WAIT_S = 30.0
SUCCESS = 0


class Answer(NamedTuple):
    """One packet of the broker: its kind (the upper four bits), and its reason code where it has one."""

    kind: int
    code: int


def packet(first: int, *parts: bytes) -> bytes:
    """Put a packet together: first byte, length, parts."""
    body = b"".join(parts)
    length, left = bytearray(), len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length.append(digit | 0x80 if left else digit)
        if not left:
            return bytes([first, *length]) + body


def text(value: str | bytes) -> bytes:
    """Write a string, or any bytes in its place."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def properties(*listed: bytes) -> bytes:
    """Write properties with their length in front."""
    return packet(0, *listed)[1:]


def connect(login: str | bytes, password: str, *, client_id: str | bytes | None = None) -> bytes:
    """Write a CONNECT: clean start, no will, no keepalive."""
    name = login if client_id is None else client_id
    return packet(
        CONNECT, text("MQTT"), b"\x05\xc2\0\0", properties(), text(name), text(login), text(password)
    )


def publish(
    topic: str | bytes,
    body: bytes,
    *,
    packet_id: int = 1,
    qos: int = 1,
    retain: bool = False,
    again: bool = False,
    more: bytes = b"",
) -> bytes:
    """Write a PUBLISH; `more` are its properties."""
    number = packet_id.to_bytes(2, "big") if qos else b""
    return packet(PUBLISH | again << 3 | qos << 1 | retain, text(topic), number, properties(more), body)


def release(packet_id: int = 1) -> bytes:
    """Write the PUBREL by which a publish of QoS 2 is finished."""
    return packet(PUBREL, packet_id.to_bytes(2, "big"))


class Line:
    """One connection to the broker. `open` turns false when the broker ended it."""

    def __init__(self, port: int) -> None:
        self.open = True
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)

    def say(self, data: bytes) -> list[Answer]:
        """Send bytes and a ping behind them; give what the broker says before it answers the ping."""
        answers: list[Answer] = []
        try:
            self._socket.sendall(data + packet(PINGREQ))
            while (answer := self._read()).kind != PINGRESP:
                answers.append(answer)
        except ConnectionError:
            self.open = False
        return answers

    def enter(self, greeting: bytes) -> bool:
        """Send a CONNECT; tells whether the broker lets us in."""
        return (Answer(CONNACK, SUCCESS) in self.say(greeting)) and self.open

    def whisper(self, data: bytes) -> None:
        """Send bytes and wait for nothing."""
        self._socket.sendall(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Say goodbye and hang up."""
        try:
            self._socket.sendall(packet(0xE0))
        except ConnectionError:
            self.open = False
        self._socket.close()

    def _read(self) -> Answer:
        first, length, shift = self._exactly(1)[0], 0, 0
        while True:
            digit = self._exactly(1)[0]
            length, shift = length | (digit & 0x7F) << shift, shift + 7
            if digit < 0x80:
                break
        body, kind = self._exactly(length), first >> 4
        place = {CONNACK: 1, DISCONNECT: 0}.get(kind, 2)
        return Answer(kind, body[place] if len(body) > place else SUCCESS)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionResetError
            data += more
        return data
