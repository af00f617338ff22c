"""What a delivery turns out to be once it is decoded: something that a unit of ours says, or a loss."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import count, islice
from typing import NamedTuple

from gateway.session import Delivery
from protocol.codec import Decoded, decode
from protocol.messages import Heartbeat
from protocol.reasons import Fault, Reason, Unreadable
from telemetry.arrivals import Arrival
from telemetry.course import Refusal
from telemetry.dead_letters import Loss

PIECES = 100
"""So many lost pieces of one message are kept each for itself; a message can have thousands."""


class Reading(NamedTuple):
    """A delivery, decoded; `live` unless it had waited in the broker's queue.

    `imei` is who speaks, None when the topic does not say.
    """

    delivery: Delivery
    received_at: datetime
    live: bool
    decoded: Decoded | Unreadable
    imei: str | None

    @property
    def weight(self) -> int:
        """What it counts in a batch: the rows that it may make, and its size."""
        decoded = self.decoded
        if isinstance(decoded, Unreadable):
            return self.delivery.weight
        backlog = decoded.message.backlog if isinstance(decoded.message, Heartbeat) else ()
        return self.delivery.weight + len(backlog) + min(len(decoded.faults), PIECES)

    def content(self, unit_id: int | None) -> Arrival | Loss:
        """Give what is to be recorded or kept as lost; `unit_id` is None for an IMEI that is not enrolled."""
        decoded = self.decoded
        if isinstance(decoded, Unreadable):
            return self.lost(unit_id, decoded.reason, decoded.message, path=decoded.path)
        if unit_id is None:
            return self.lost(None, Reason.UNKNOWN_UNIT, Reason.UNKNOWN_UNIT.meaning)
        _, message, faults = decoded
        losses = tuple(self._pieces(unit_id, faults)) if faults else ()
        return Arrival(unit_id, message, self.received_at, self.live, losses)

    def lost(self, unit_id: int | None, reason: Reason, detail: str, *, path: str = "") -> Loss:
        """Give the whole message up."""
        return Loss(
            topic=self.delivery.topic,
            imei=self.imei,
            unit_id=unit_id,
            reason=reason,
            path=path,
            detail=detail,
            body=self.delivery.body,
            received_at=self.received_at,
        )

    def refused(self, unit_id: int, refusals: Sequence[Refusal]) -> Iterator[Loss]:
        """Give up what counts badly: the whole message, or entries of its backlog."""
        if whole := [refusal for refusal in refusals if refusal.entry is None]:
            yield self.lost(unit_id, whole[0].reason, whole[0].detail, path=f"/{whole[0].field}")
        else:
            yield from self._pieces(unit_id, [self._fault(refusal) for refusal in refusals])

    def _fault(self, refusal: Refusal) -> Fault:
        """Point to an entry of the backlog where it stood when it was sent."""
        assert isinstance(self.decoded, Decoded)  # noqa: S101 - what was refused was read
        assert isinstance(self.decoded.message, Heartbeat)  # noqa: S101 - nothing else has entries
        assert refusal.entry is not None  # noqa: S101 - chosen so by the caller
        entry = self.decoded.message.backlog[refusal.entry]
        unread = {fault.path for fault in self.decoded.faults}
        read = (path for index in count() if (path := f"/backlog/{index}") not in unread)
        return Fault(
            reason=refusal.reason,
            path=next(islice(read, refusal.entry, None)),
            detail=refusal.detail,
            piece=entry.model_dump(mode="json"),
        )

    def _pieces(self, unit_id: int, faults: Sequence[Fault]) -> Iterator[Loss]:
        """Give up what could not be read: piece by piece, and when it is too much the rest as one."""
        for fault in faults[:PIECES]:
            yield self._piece(unit_id, fault)
        if rest := faults[PIECES:]:
            # Without a path, for it is the whole message that is kept: it can be replayed.
            detail = f"{len(rest)} more pieces of this message, from {rest[0].path} on"
            yield self.lost(unit_id, rest[0].reason, detail)

    def _piece(self, unit_id: int, fault: Fault) -> Loss:
        return Loss(
            topic=self.delivery.topic,
            imei=self.imei,
            unit_id=unit_id,
            reason=fault.reason,
            path=fault.path,
            detail=fault.detail,
            body=json.dumps(fault.piece).encode(),
            received_at=self.received_at,
        )


def read(delivery: Delivery, received_at: datetime, *, live: bool) -> Reading:
    """Decode a delivery; never fails."""
    if delivery.fault is not None:
        malformed = Unreadable(delivery.fault, reason=Reason.MALFORMED_PACKET)
        return Reading(delivery, received_at, live, malformed, None)
    try:
        decoded = decode(delivery.topic, delivery.body)
    except Unreadable as unreadable:
        return Reading(delivery, received_at, live, unreadable, unreadable.imei)
    return Reading(delivery, received_at, live, decoded, decoded.address.imei)
