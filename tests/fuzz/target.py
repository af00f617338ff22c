"""What the fuzzer calls with its bytes, and what it begins with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from protocol.identity import Imei
from protocol.topics import Channel, topic
from tests.acceptance.bad_bodies import BODIES
from tests.acceptance.bad_inputs import beat
from tests.acceptance.bad_packets import ODD_PACKETS
from tests.fuzz.invariants import examine
from tests.fuzz.mutations import message

IMEI = Imei("352099001761481")
BUILT, GIVEN = b"\0", b"\1"
"""The first byte tells what follows: choices that make a message, or a topic, a line break and a body."""

SLOWEST_S = 2.0
"""What takes longer (seconds of the processor) does not grow with its size alone."""


class Choices(Protocol):
    """Bytes, taken for numbers one after another."""

    def ConsumeIntInRange(self, least: int, most: int) -> int:  # noqa: N802 - atheris calls it so
        """Give the next number."""
        ...


def deliver(data: bytes, choices: Callable[[bytes], Choices]) -> None:
    """Say what the bytes mean; raises when something does not hold."""
    delivery = _given(data[1:]) if data.startswith(GIVEN) else _built(choices(data[1:]))
    began = time.process_time()
    examine(*delivery)
    took = time.process_time() - began
    assert took < SLOWEST_S, f"it took {took:.1f} s"


def plant(corpus: Path, longest: int) -> None:
    """Write what the search begins with: a good message, the known bad inputs, some made by choices."""
    seeds = [
        GIVEN + said.address(IMEI).encode() + b"\n" + said.body
        for row in (*BODIES, *ODD_PACKETS)
        for said in row.said
    ]
    seeds.append(GIVEN + topic(IMEI, Channel.HEARTBEAT).encode() + b"\n" + beat())
    seeds += [BUILT + bytes((37 * number + 89 * at) % 256 for at in range(64)) for number in range(20)]
    for place, seed in enumerate(seeds):
        (corpus / str(place)).write_bytes(seed[:longest])


def _given(data: bytes) -> tuple[str, bytes]:
    where, _, body = data.partition(b"\n")
    return where.decode(errors="replace"), body


def _built(choices: Choices) -> tuple[str, bytes]:
    return message(lambda below: choices.ConsumeIntInRange(0, below - 1), [IMEI])
