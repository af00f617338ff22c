"""What holds of every delivery, whoever made it up: property tests and the fuzzer check the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from math import isfinite
from types import SimpleNamespace
from typing import Any, NoReturn, cast

from gateway.reading import Reading, read
from gateway.session import Delivery, Session
from protocol.codec import MAX_BODY, Cleared, Decoded, _read, decode, encode
from protocol.messages import Heartbeat
from protocol.reasons import Reason
from telemetry.arrivals import Arrival, beats
from telemetry.dead_letters import Loss
from telemetry.heartbeat_rows import copied
from telemetry.lives import Ordinals

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NOBODY = cast("Session", None)
UNIT = 1
ORDINALS = cast("Ordinals", SimpleNamespace(of=lambda _unit_id, _life: 1))
COUNTERS = {"life": 0, "boot": 0, "seq": 1, "epoch": 0, "next_s": 0, "conn": 0, "attempt": 1}
"""The least value of each; the greatest is 2^32 - 1."""


def delivered(topic: str, body: bytes, packet_id: int = 1) -> Delivery:
    """Give what the broker would hand over."""
    return Delivery(NOBODY, packet_id, topic, body, retained=False, again=False)


def examine(topic: str, body: bytes) -> Reading:
    """Read a delivery as the gateway does, and check all that must hold of it."""
    reading = read(delivered(topic, body), NOON, live=True)
    content, of_stranger = reading.content(UNIT), reading.content(None)
    assert isinstance(of_stranger, Loss), "nothing of an unknown unit is taken"
    _check_loss(of_stranger, body, whole=True)
    match content:
        case Loss():
            _check_loss(content, body, whole=True)
            assert reading.weight == reading.delivery.weight
        case Arrival():
            assert isinstance(reading.decoded, Decoded)
            _check_message(reading.decoded)
            _check_short_cut(reading.decoded, body)
            for loss in content.losses:
                _check_loss(loss, body, whole=False)
            assert len(_written(content)) + len(content.losses) <= reading.weight + 1, "it weighs too little"
    return reading


def _check_short_cut(decoded: Decoded, body: bytes) -> None:
    """Check that a plain heartbeat, which is read in one pass, is read as the long way would."""
    if isinstance(decoded.message, Heartbeat):
        message, faults = _read(Heartbeat, body)
        assert (repr(decoded.message), decoded.faults) == (repr(message), faults)


def _written(arrival: Arrival) -> list[Any]:
    """Write its heartbeats as rows, and give them."""
    rows = beats(arrival, ORDINALS)
    assert copied(rows)
    return rows


def _check_message(decoded: Decoded) -> None:
    message = decoded.message
    if isinstance(message, Cleared):
        return
    told = message.model_dump(mode="json")
    for name, value in _fields(told):
        match value:
            case float():
                assert isfinite(value), name
            case str():
                assert "\0" not in value, name
                value.encode()  # no half of a surrogate pair
    backlog = message.backlog if isinstance(message, Heartbeat) else ()
    for report in (message, *backlog):
        for name, least in COUNTERS.items():
            counter = getattr(report, name) if name in type(report).model_fields else None
            assert counter is None or least <= counter < 2**32, name
    again = encode(message)
    if len(again) <= MAX_BODY:  # 1E22 is written longer than it came
        topic = f"scu/v1/{decoded.address.imei.partition}/{decoded.address.imei}/{decoded.address.channel}"
        assert decode(topic, again) == Decoded(decoded.address, message, ())


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Give every value, and every key as a value, with the name under which it stands."""
    waiting = [("", value)]
    while waiting:
        name, found = waiting.pop()
        match found:
            case dict():
                waiting += found.items()
                yield from ((key, key) for key in found)
            case list():
                waiting += ((name, each) for each in found)
            case _:
                yield name, found


def _check_loss(loss: Loss, body: bytes, *, whole: bool) -> None:
    assert isinstance(loss.reason, Reason)
    assert 0 < len(loss.detail) <= 200
    assert loss.path == "" or loss.path.startswith("/")
    assert len(loss.fingerprint) == 32
    loss.path.encode()
    loss.detail.encode()
    if loss.body is not body:
        assert not whole
        json.loads(loss.body, parse_constant=_no_number)


def _no_number(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")
