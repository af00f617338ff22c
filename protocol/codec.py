"""Bytes to message and back: the verdict on everything that a unit or the backend sends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from json import loads
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from protocol.flaws import flag_repeated
from protocol.messages import Ack, Command, Heartbeat, Message, Presence
from protocol.reasons import Fault, Reason, Unreadable
from protocol.salvage import M, salvaged
from protocol.topics import Address, Channel, parse

MAX_BODY: Final = 65_536  # bytes
_LONGEST_INTEGER = 4300  # digits: beyond, Python refuses to write the number out again
_MODELS: dict[Channel, type[Heartbeat | Ack | Presence]] = {
    Channel.HEARTBEAT: Heartbeat,
    Channel.ACK: Ack,
    Channel.PRESENCE: Presence,
}
# Strings are matched, closed or not, so that digits inside them are left alone and no byte is read twice.
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|-?([0-9]+)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]*)?', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cleared:
    """The broker no longer keeps a presence: its retained body was emptied."""


class Decoded(NamedTuple):
    """A message, who sent it, and what of it was lost."""

    address: Address
    message: Heartbeat | Ack | Presence | Cleared
    faults: tuple[Fault, ...]


def decode(topic: str, body: bytes) -> Decoded:
    """Read what a unit sent, or raise `Unreadable`."""
    address = parse(topic)
    model = _MODELS.get(address.channel)
    if model is None:
        raise Unreadable("Units send no commands.", reason=Reason.BAD_TOPIC, imei=address.imei)
    if not body and model is Presence:
        return Decoded(address, Cleared(), ())
    if model is Heartbeat and (plain := _plain(body)):
        return Decoded(address, plain, ())
    try:
        message, faults = _read(model, body)
    except Unreadable as error:
        error.imei = address.imei
        raise
    return Decoded(address, message, faults)


def decode_command(body: bytes) -> Command:
    """Read what the backend sent to a unit, or raise `Unreadable`."""
    command, _ = _read(Command, body)
    return command


def encode(message: Message) -> bytes:
    """Write a message as it goes on the wire: absent fields left out, unknown ones kept."""
    return message.model_dump_json().encode()


def _plain(body: bytes) -> Heartbeat | None:
    """Read a heartbeat that is as most are, in one pass; None where a second look is needed.

    Every key has its colon: when there are as many as fields and readings, no key stands twice and
    nothing was left out.
    """
    if len(body) > MAX_BODY or not body.startswith(b"{"):
        return None
    try:
        beat: Heartbeat = Heartbeat.__pydantic_validator__.validate_json(body)
    except ValidationError:
        return None  # the slow way tells what is wrong, and saves the rest
    told = beat.__pydantic_fields_set__
    whole = "v" in told and not beat.backlog and body.count(b":") == len(told) + len(beat.readings)
    return beat if whole else None


def _read(model: type[M], body: bytes) -> tuple[M, tuple[Fault, ...]]:
    document = _document(body)
    # Who makes a message in code need not give its version; on the wire it must be there.
    document.setdefault("v", None)
    return salvaged(model, document)


def _document(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY:
        raise Unreadable(f"The body has {len(body)} bytes.", reason=Reason.TOO_LARGE)
    if not body.startswith(b"{"):
        raise Unreadable("The body does not start with a brace.", reason=Reason.UNSUPPORTED_ENCODING)
    try:
        document: dict[str, Any] = from_json(body)
    except ValueError as error:
        shortened = _TOKENS.sub(_shortened, body)
        if shortened != body:
            return _document(shortened)
        raise _not_json(body, error) from error
    if body.count(b":") != _keys(document):
        # A key stands twice, or a colon inside a string, or an object among the unknown fields.
        document = loads(body, object_pairs_hook=flag_repeated)
    return document


def _keys(record: dict[str, Any]) -> int:
    """Count the keys where a plain message has them: never more than there are colons."""
    count = len(record)
    if isinstance(readings := record.get("readings"), dict):
        count += len(readings)
    if isinstance(backlog := record.get("backlog"), list):
        count += sum(_keys(entry) for entry in backlog if isinstance(entry, dict))
    return count


def _shortened(token: re.Match[bytes]) -> bytes:
    """Turn a number that could never be written out again into infinity, to be refused in its place."""
    digits = token[1]
    return b"1e999" if digits and len(digits) > _LONGEST_INTEGER else token[0]


def _not_json(body: bytes, error: ValueError) -> Unreadable:
    try:
        body.decode()
    except UnicodeDecodeError as broken:
        return Unreadable(f"Byte {broken.start} is not UTF-8.", reason=Reason.NOT_UTF8)
    return Unreadable(f"This is no JSON: {error}.", reason=Reason.NOT_JSON)
