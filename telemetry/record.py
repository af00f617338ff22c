"""The way of a batch of messages into the tables, inside one transaction that somebody else commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from protocol import messages
from protocol.codec import Cleared
from protocol.messages import PresenceState
from storage.sql import Connection
from telemetry import heartbeats, lives, sequence, status
from telemetry.dead_letters import Loss
from telemetry.heartbeats import Heartbeat, placed_at
from telemetry.lives import Life
from telemetry.sequence import Key
from telemetry.status import Contact, PresenceNews, PresenceOrder, Report, ReportOrder, Standing

# Named once: a union written where it is asked for is made anew for every message.
ORDERED = (messages.Heartbeat, messages.Presence)
CONTACTS = (messages.Heartbeat, messages.Ack)


class Verdict(StrEnum):
    """What became of a message; every message gets exactly one."""

    STORED = "stored"
    """It brought at least one new fact."""

    DUPLICATE = "duplicate"
    """All that it says was known."""

    DEAD_LETTER = "dead_letter"
    """It could not be taken, and is kept with its reason."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a batch brought.

    `verdicts` stand in the order of the arrivals, None for acks: theirs is not telemetry's to
    give. `reports` are the newest reports of units that advanced, `contacts` every unit that
    spoke, `online` those that came online. `losses` are for the caller to keep, together with its
    own: dead letters are locked last.
    """

    verdicts: list[Verdict | None]
    reports: list[Report]
    contacts: list[Contact]
    online: list[int]
    losses: list[Loss]
    new: int
    repeated: int


async def record(conn: Connection, arrivals: Sequence[Arrival], *, now: datetime) -> Recorded:
    """Store what is new, advance each unit's status.

    Heartbeats' days must have their partitions. Locks status rows, then sequence rows, each in
    the order of ids.
    """
    standings = await status.lock(conn, (arrival.unit_id for arrival in arrivals))
    ordinals = {
        Life(standing.unit_id, standing.reported_life): standing.report.life
        for standing in standings.values()
        if standing.report is not None and standing.reported_life is not None
    }
    if unknown := {life for life in _lives(arrivals) if life not in ordinals}:
        ordinals |= await lives.ordinals(conn, unknown, now=now)
    beats = [list(_beats(arrival, ordinals)) for arrival in arrivals]
    first = iter(await sequence.hear(conn, (_key(beat) for group in beats for beat in group)))
    fresh = [[beat for beat in group if next(first)] for group in beats]
    new = [beat for group in fresh for beat in group]
    if new:
        await heartbeats.append(conn, new)

    contacts = _newest_contacts(arrivals, now)
    reports = _newest_reports(arrivals, beats, fresh, standings, contacts)
    news, changed = _newest_presence(arrivals, ordinals, standings, now)
    only_contacts = contacts.keys() - {report.heartbeat.unit_id for report in reports}
    if reports:
        await status.report(conn, reports)
    if news:
        await status.presence(conn, news)
    if only_contacts:
        await status.contact(conn, (contacts[unit_id] for unit_id in only_contacts))
    return Recorded(
        verdicts=[
            _verdict(arrival, brought_new=bool(group) or place in changed)
            for place, (arrival, group) in enumerate(zip(arrivals, fresh, strict=True))
        ],
        reports=reports,
        contacts=list(contacts.values()),
        online=[one.unit_id for one in news if one.state is PresenceState.ONLINE],
        losses=[loss for arrival in arrivals for loss in arrival.losses],
        new=len(new),
        repeated=sum(map(len, beats)) - len(new),
    )


def moments(arrivals: Iterable[Arrival]) -> Iterator[datetime]:
    """Give the moments at which the heartbeats of these arrivals will stand."""
    for arrival in arrivals:
        if isinstance(arrival.message, messages.Heartbeat):
            yield placed_at(arrival.message.ts, arrival.received_at)
            for entry in arrival.message.backlog:
                yield placed_at(entry.ts, arrival.received_at)


def _lives(arrivals: Iterable[Arrival]) -> Iterator[Life]:
    for arrival in arrivals:
        if isinstance(arrival.message, ORDERED):
            yield Life(arrival.unit_id, arrival.message.life)


def _beats(arrival: Arrival, ordinals: dict[Life, int]) -> Iterator[Heartbeat]:
    """Give every heartbeat that a message carries, its own first."""
    message = arrival.message
    if not isinstance(message, messages.Heartbeat):
        return
    life = ordinals[Life(arrival.unit_id, message.life)]
    everything: tuple[messages.Heartbeat | messages.BacklogEntry, ...] = (message, *message.backlog)
    for said in everything:
        yield Heartbeat(
            unit_id=arrival.unit_id,
            at=placed_at(said.ts, arrival.received_at),
            received_at=arrival.received_at,
            unit_ts=said.ts,
            life=life,
            boot=message.boot if said.boot is None else said.boot,
            seq=said.seq,
            epoch=said.epoch,
            mode=said.mode,
            output=said.output,
            fw=said.fw if isinstance(said, messages.Heartbeat) else None,
            readings=said.readings,
            fields=said.extra,
        )


def _key(beat: Heartbeat) -> Key:
    return Key(beat.unit_id, beat.life, beat.boot, beat.seq)


def _newest_reports(
    arrivals: Sequence[Arrival],
    beats: Sequence[Sequence[Heartbeat]],
    fresh: Sequence[Sequence[Heartbeat]],
    standings: dict[int, Standing],
    contacts: dict[int, Contact],
) -> list[Report]:
    """Pick per unit the newest of the messages' own heartbeats, if it is newer than what stands."""
    newest: dict[int, Report] = {}
    for arrival, group, new in zip(arrivals, beats, fresh, strict=True):
        if not new or new[0] is not group[0] or not isinstance(arrival.message, messages.Heartbeat):
            continue
        unit_id = arrival.unit_id
        report = Report(
            heartbeat=group[0],
            next_s=arrival.message.next_s,
            live=arrival.live,
            contact=contacts[unit_id],
        )
        before: ReportOrder | None = newest[unit_id].order if unit_id in newest else standings[unit_id].report
        if before is None or report.order > before:
            newest[unit_id] = report
    return list(newest.values())


def _newest_presence(
    arrivals: Sequence[Arrival], ordinals: dict[Life, int], standings: dict[int, Standing], now: datetime
) -> tuple[list[PresenceNews], set[int]]:
    """Pick per unit the newest presence; also tell which arrivals changed something, by their place."""
    newest: dict[int, PresenceNews] = {}
    changed: set[int] = set()
    for place, arrival in enumerate(arrivals):
        message, unit_id = arrival.message, arrival.unit_id
        if not isinstance(message, messages.Presence):
            continue
        order = PresenceOrder(ordinals[Life(unit_id, message.life)], message.boot, message.conn or 0)
        standing = standings[unit_id]
        known = newest.get(unit_id)
        before, state = (known.order, known.state) if known else (standing.presence, standing.state)
        if before is None or order > before or (order == before and message.state is not state):
            newest[unit_id] = PresenceNews(
                unit_id=unit_id,
                state=message.state,
                order=order,
                at=arrival.received_at,
                live=arrival.live,
                waited_ms=_waited_ms(arrival, now),
                fields=message.extra,
            )
            changed.add(place)
    return list(newest.values()), changed


def _newest_contacts(arrivals: Iterable[Arrival], now: datetime) -> dict[int, Contact]:
    """Pick per unit its last heartbeat or ack; live if one of them was, and as old as the last that was."""
    newest: dict[int, Contact] = {}
    for arrival in arrivals:
        if isinstance(arrival.message, CONTACTS):
            before = newest.get(arrival.unit_id)
            was_live = before is not None and before.live
            newest[arrival.unit_id] = Contact(
                unit_id=arrival.unit_id,
                at=arrival.received_at,
                live=arrival.live or was_live,
                waited_ms=before.waited_ms
                if before is not None and was_live and not arrival.live
                else _waited_ms(arrival, now),
            )
    return newest


def _waited_ms(arrival: Arrival, now: datetime) -> int:
    """Tell how long the gateway has held an arrival, as while the database was away."""
    return max(0, (now - arrival.received_at) // timedelta(milliseconds=1))


def _verdict(arrival: Arrival, *, brought_new: bool) -> Verdict | None:
    if isinstance(arrival.message, messages.Ack):
        return None
    return Verdict.STORED if brought_new else Verdict.DUPLICATE
