"""What a row of the table of bad inputs says: what is sent, what becomes of it, and what of it is kept.

The numbers are those of the thirty bad inputs that the project promises to survive. Each row is said by a
unit of its own between two good heartbeats, (boot 1, seq 1) and (boot 1, seq 3).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from protocol.identity import Imei
from protocol.reasons import Reason
from telemetry.dead_letters import KEPT_BYTES
from tests.acceptance.raw_line import publish

Key = tuple[int, int]
"""Boot and seq of a heartbeat."""

HEARTBEAT = "scu/v1/{pp}/{imei}/heartbeat"
ACK = "scu/v1/{pp}/{imei}/ack"
PRESENCE = "scu/v1/{pp}/{imei}/presence"
COMMAND = "scu/v1/{pp}/{imei}/command"
WHOLE = object()
"""Instead of a piece: the dead letter has the whole body."""


class Fate(StrEnum):
    """What becomes of something that is sent; the first three are the verdicts of the gateway."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead_letter"
    UNHEARD = "unheard"
    """The broker takes it, and nobody subscribes to its topic."""

    UNFINISHED = "unfinished"
    """The broker waits for the rest of it."""

    NOT_ADMITTED = "not_admitted"
    """The access list forbids it; Mosquitto ends the connection besides."""

    CUT = "cut"
    """The broker ends the connection."""


JUDGED = frozenset({Fate.STORED, Fate.DUPLICATE, Fate.DEAD_LETTER})


class Letter(NamedTuple):
    """A dead letter that is expected."""

    reason: Reason
    path: str = ""
    piece: Any = WHOLE

    def body(self, whole: bytes) -> bytes:
        """Give the bytes that it must hold: of what is too large, the beginning."""
        return whole[:KEPT_BYTES] if self.piece is WHOLE else json.dumps(self.piece).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One packet, and what must become of it; `packet` writes it from topic and body."""

    body: bytes
    fate: Fate = Fate.STORED
    topic: str = HEARTBEAT
    packet: Callable[[str, bytes], bytes] = publish
    letters: tuple[Letter, ...] = ()
    beats: tuple[Key, ...] = ()
    keeps: dict[str, Any] = field(default_factory=dict)
    """What the API tells of the first heartbeat."""

    def address(self, imei: Imei) -> str:
        """Name the topic on which a unit says it."""
        return self.topic.replace("{pp}", imei.partition).replace("{imei}", imei)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One bad input. `foreign`: a login that may publish anywhere says it, in place of the unit's own."""

    number: int
    name: str
    said: tuple[Said, ...]
    foreign: bool = False
    newest: Key = (1, 3)


def beat(more: bytes | str = b"", *, seq: int = 2, boot: int = 1) -> bytes:
    """Write a good heartbeat with more fields in it."""
    known = b'"v":1,"boot":%d,"seq":%d,"mode":"enabled","epoch":0' % (boot, seq)
    added = more.encode() if isinstance(more, str) else more
    return b"{" + known + (b"," + added if added else b"") + b"}"


def but(**changed: bytes) -> bytes:
    """Write a good heartbeat with some fields as they are given here; an empty one is left out."""
    fields = {"v": b"1", "boot": b"1", "seq": b"2", "mode": b'"enabled"', "epoch": b"0"} | changed
    return (
        b"{"
        + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in fields.items() if value)
        + b"}"
    )


def readings(written: bytes) -> bytes:
    """Write a good heartbeat with these readings."""
    return beat(b'"readings":{%s}' % written)


def sized(length: int) -> bytes:
    """Write a good heartbeat of so many bytes."""
    frame = beat(b'"note":""')
    return frame.replace(b'"note":""', b'"note":"' + b"x" * (length - len(frame)) + b'"')


def stored(number: int, name: str, body: bytes, *letters: Letter, **keeps: Any) -> Row:
    """Say that the heartbeat (1, 2) is stored, less some pieces."""
    said = Said(body=body, letters=letters, beats=((1, 2),), keeps=keeps)
    return Row(number=number, name=name, said=(said,))


def dead(
    number: int,
    name: str,
    body: bytes,
    reason: Reason,
    path: str = "",
    *,
    topic: str = HEARTBEAT,
    foreign: bool = False,
) -> Row:
    """Say that the whole message is a dead letter."""
    said = Said(body=body, fate=Fate.DEAD_LETTER, topic=topic, letters=(Letter(reason, path),))
    return Row(number=number, name=name, said=(said,), foreign=foreign)


def told(
    number: int,
    name: str,
    fate: Fate,
    *,
    topic: str = HEARTBEAT,
    body: bytes | None = None,
    packet: Callable[[str, bytes], bytes] = publish,
    foreign: bool = False,
) -> Row:
    """Say that the broker's answer is the end of it, or that it is nothing but stored or known."""
    said = Said(
        body=beat() if body is None else body,
        fate=fate,
        topic=topic,
        packet=packet,
        beats=((1, 2),) if fate is Fate.STORED else (),
    )
    return Row(number=number, name=name, said=(said,), foreign=foreign)
