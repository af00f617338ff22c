"""What a batch tells that is newer than what stands: per unit the newest report, presence and contact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from protocol import messages
from telemetry.arrivals import Arrival
from telemetry.heartbeats import Heartbeat
from telemetry.lives import UNCOUNTED, Ordinals
from telemetry.status import Contact, PresenceNews, PresenceOrder, Report, Standing

# Named once: a union written where it is asked for is made anew for every message.
CONTACTS = (messages.Heartbeat, messages.Ack)


def reports(
    arrivals: Iterable[Arrival],
    said: Iterable[Sequence[Heartbeat]],
    fresh: Iterable[Sequence[bool]],
    standings: Mapping[int, Standing],
    grown: Mapping[int, int],
) -> dict[int, Report]:
    """Pick per unit the newest of the messages' own heartbeats, if it is newer than what stands.

    They come in the order of the standings.
    """
    newest: dict[int, Report] = {}
    for arrival, beats, new in zip(arrivals, said, fresh, strict=True):
        if not new or not new[0] or not isinstance(arrival.message, messages.Heartbeat):
            continue
        unit_id, beat = arrival.unit_id, beats[0]
        known = newest.get(unit_id)
        if standings[unit_id].older_than(beat) if known is None else beat.order > known.heartbeat.order:
            message = arrival.message
            newest[unit_id] = Report(beat, message.life, message.next_s, arrival.live, grown.get(unit_id))
    return {unit_id: newest[unit_id] for unit_id in standings if unit_id in newest}


def presences(
    arrivals: Iterable[Arrival], ordinals: Ordinals, standing: Mapping[int, tuple[PresenceOrder, str]]
) -> tuple[list[PresenceNews], set[int]]:
    """Pick per unit the newest presence; also tell which arrivals changed something, by their place."""
    newest: dict[int, PresenceNews] = {}
    changed: set[int] = set()
    for place, arrival in enumerate(arrivals):
        message, unit_id = arrival.message, arrival.unit_id
        if not isinstance(message, messages.Presence):
            continue
        order = PresenceOrder(ordinals.of(unit_id, message.life), message.boot, message.conn or 0)
        if order.life == UNCOUNTED:
            continue
        known = newest.get(unit_id)
        before, state = (known.order, known.state) if known else standing.get(unit_id, (None, None))
        if before is None or order > before or (order == before and message.state != state):
            newest[unit_id] = PresenceNews(
                unit_id=unit_id,
                state=message.state,
                order=order,
                at=arrival.received_at,
                live=arrival.live,
                fields=message.extra,
            )
            changed.add(place)
    return list(newest.values()), changed


def contacts(arrivals: Iterable[Arrival], reports: Mapping[int, Report]) -> list[Contact]:
    """Pick per unit its last heartbeat or ack; when one of them was live, its last that was.

    Those that the unit's newest report tells are left out: most are that report.
    """
    newest: dict[int, Contact] = {}
    for unit_id, message, received_at, live, _ in arrivals:
        if isinstance(message, CONTACTS):
            before = newest.get(unit_id)
            if before is None or live or not before.live:
                newest[unit_id] = Contact(unit_id, received_at, live)
    return [contact for contact in newest.values() if not _tells(reports.get(contact.unit_id), contact)]


def _tells(report: Report | None, contact: Contact) -> bool:
    return report is not None and report.heartbeat.received_at == contact.at and report.live == contact.live
