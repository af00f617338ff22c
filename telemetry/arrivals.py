"""What arrives: a readable message of a known unit, and the heartbeats that stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from protocol import messages
from protocol.codec import Cleared
from telemetry.dead_letters import Loss
from telemetry.heartbeats import Heartbeat, placed_at
from telemetry.lives import Life, Ordinals

# Named once: a union written where it is asked for is made anew for every message.
ORDERED = (messages.Heartbeat, messages.Presence)


class Arrival(NamedTuple):
    """One readable message of a known unit.

    `live` is False for what had waited in the broker's queue. `losses` are the readings and
    backlog entries of this message that could not be taken.
    """

    unit_id: int
    message: messages.Heartbeat | messages.Presence | messages.Ack | Cleared
    received_at: datetime
    live: bool
    losses: tuple[Loss, ...] = ()


def moments(arrivals: Iterable[Arrival]) -> Iterator[datetime]:
    """Give the moments at which the heartbeats of these arrivals will stand."""
    for arrival in arrivals:
        if isinstance(arrival.message, messages.Heartbeat):
            yield placed_at(arrival.message.ts, arrival.received_at)
            for entry in arrival.message.backlog:
                yield placed_at(entry.ts, arrival.received_at)


def lives(arrivals: Iterable[Arrival]) -> Iterator[Life]:
    """Give the lives that these arrivals speak of."""
    for arrival in arrivals:
        if isinstance(arrival.message, ORDERED):
            yield Life(arrival.unit_id, arrival.message.life)


def beats(arrival: Arrival, ordinals: Ordinals) -> list[Heartbeat]:
    """Give every heartbeat that a message carries, its own first."""
    message = arrival.message
    if not isinstance(message, messages.Heartbeat):
        return []
    life = ordinals.of(arrival.unit_id, message.life)
    own = _beat(arrival, message, life, message.boot, message.fw)
    if not message.backlog:
        return [own]
    return [own, *(_of_backlog(arrival, entry, life, message.boot) for entry in message.backlog)]


def _of_backlog(arrival: Arrival, entry: messages.BacklogEntry, life: int, boot: int) -> Heartbeat:
    """Build an earlier heartbeat; without a boot of its own it is of the message's."""
    return _beat(arrival, entry, life, boot if entry.boot is None else entry.boot, None)


def _beat(arrival: Arrival, said: messages.Report, life: int, boot: int, fw: str | None) -> Heartbeat:
    received_at = arrival.received_at
    # By place, in the order of its fields: names would double the price of the gateway's most frequent step.
    return Heartbeat(
        arrival.unit_id,
        placed_at(said.ts, received_at),
        received_at,
        said.ts,
        life,
        boot,
        said.seq,
        said.epoch,
        said.mode,
        said.output,
        fw,
        said.readings,
        said.extra,
    )
