"""The names under which a unit and the backend speak to each other over MQTT."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from protocol.identity import Imei, NotAnImei
from protocol.reasons import Reason, Unreadable

_ROOT = "scu/v1"
_REMEMBERED = 65_536  # topics; about 25 MB when full
_EVERY_PARTITION = range(100)


class Channel(StrEnum):
    """What is spoken of; the last level of a topic."""

    HEARTBEAT = "heartbeat"
    ACK = "ack"
    PRESENCE = "presence"
    COMMAND = "command"


_CHANNELS = {channel.value: channel for channel in Channel}


class Address(NamedTuple):
    """Which unit speaks, or is spoken to, and of what."""

    imei: Imei
    channel: Channel


def topic(imei: Imei, channel: Channel) -> str:
    """Name the topic of one unit's channel."""
    return f"{_ROOT}/{imei.partition}/{imei}/{channel}"


@lru_cache(maxsize=_REMEMBERED)
def parse(topic: str) -> Address:
    """Read a topic; only good ones are remembered, so that bad ones cannot push them out."""
    match topic.split("/"):
        case ["scu", "v1", partition, digits, name] if name in _CHANNELS:
            imei = _exact(digits)
        case _:
            raise Unreadable("The topic is not scu/v1/{pp}/{imei}/{channel}.", reason=Reason.BAD_TOPIC)
    if partition != imei.partition:
        raise Unreadable(
            "The partition in the topic does not fit the IMEI.", reason=Reason.WRONG_PARTITION, imei=imei
        )
    return Address(imei, _CHANNELS[name])


def filters(channel: Channel, partitions: range) -> list[str]:
    """Name the subscriptions that hear a channel of these partitions, all units of each."""
    if partitions == _EVERY_PARTITION:
        return [f"{_ROOT}/+/+/{channel}"]
    return [f"{_ROOT}/{partition:02}/+/{channel}" for partition in partitions]


def _exact(digits: str) -> Imei:
    """Take an IMEI as the wire writes it: what people may add between digits is wrong here."""
    try:
        imei = Imei(digits)
    except NotAnImei as error:
        raise Unreadable(error.message, reason=Reason.BAD_IMEI) from error
    if imei != digits:
        raise Unreadable("An IMEI in a topic is fifteen digits and nothing else.", reason=Reason.BAD_IMEI)
    return imei
