"""The way of a batch of messages into the tables, inside one transaction that somebody else commits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import compress
from operator import itemgetter

from protocol import messages
from protocol.messages import PresenceState
from storage.sql import Connection
from telemetry import arrivals as arriving
from telemetry import continuity, heartbeats, newest, sequence, status
from telemetry.alerts import Kind
from telemetry.arrivals import Arrival
from telemetry.course import Refusal
from telemetry.dead_letters import Loss
from telemetry.lives import Ordinals
from telemetry.sequence import Heard
from telemetry.status import Contact, PresenceNews, PresenceOrder, Report, Run, Standing

UNIT_ID = itemgetter(0)


class Verdict(StrEnum):
    """What became of a message; every message gets exactly one."""

    STORED = "stored"
    """It brought at least one new fact."""

    DUPLICATE = "duplicate"
    """All that it says was known."""

    DEAD_LETTER = "dead_letter"
    """It could not be taken, and is kept with its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a batch brought.

    `verdicts` stand in the order of the arrivals, None for acks: theirs is not telemetry's to
    give. `reports` are the newest reports of units that advanced, `listening` the units that
    spoke just now or came online. `losses` are for the caller to keep, together with its own and
    with what `refusals` tell of, by the places of the arrivals: dead letters are locked last.
    `raised` counts new alerts.
    """

    verdicts: list[Verdict | None]
    reports: list[Report]
    listening: list[int]
    losses: list[Loss]
    new: int
    repeated: int
    refusals: Sequence[Refusal]
    raised: Counter[Kind]


async def record(conn: Connection, arrivals: Sequence[Arrival], *, now: datetime) -> Recorded:
    """Store what is new, advance each unit's status.

    Heartbeats' days must have their partitions. Locks status rows, then sequence rows, each in
    the order of ids. `now` is the clock by which the arrivals were taken.
    """
    standings = await status.lock(conn, {arrival.unit_id for arrival in arrivals})
    ordinals = Ordinals(standings)
    await ordinals.learn(conn, arriving.lives(arrivals), now=now)
    judged = await continuity.judge(
        conn,
        arrivals,
        [arriving.beats(arrival, ordinals) for arrival in arrivals],
        standings,
        ordinals,
        now=now,
    )
    beats = [beat for group in judged.said for beat in group]
    heard = await sequence.hear(conn, standings, beats)
    # In the order of ids, as everything here: neighbours in the index are then written one after the other.
    new = sorted(compress(beats, heard.first), key=UNIT_ID)
    if new:
        await heartbeats.append(conn, new)

    first = iter(heard.first)
    fresh = [[next(first) for _ in group] for group in judged.said]
    reports = newest.reports(arrivals, judged.said, fresh, standings, heard.grown)
    contacts = newest.contacts(arrivals, reports)
    presences, changed = newest.presences(arrivals, ordinals, await _presences(conn, arrivals))
    await _advance(conn, reports, contacts, presences, _runs(standings, heard, reports), now=now)
    verdicts = [
        _verdict(arrival, brought_new=True in group or place in changed)
        for place, (arrival, group) in enumerate(zip(arrivals, fresh, strict=True))
    ]
    for refusal in judged.refusals:
        if refusal.entry is None:
            verdicts[refusal.place] = Verdict.DEAD_LETTER
    return Recorded(
        verdicts=verdicts,
        reports=list(reports.values()),
        listening=[
            *(report.heartbeat.unit_id for report in reports.values() if report.live),
            *(contact.unit_id for contact in contacts if contact.live),
            *(one.unit_id for one in presences if one.state is PresenceState.ONLINE),
        ],
        losses=[loss for arrival in arrivals for loss in arrival.losses],
        new=len(new),
        repeated=len(beats) - len(new),
        refusals=judged.refusals,
        raised=judged.raised,
    )


async def _presences(conn: Connection, arrivals: Iterable[Arrival]) -> dict[int, tuple[PresenceOrder, str]]:
    told = {arrival.unit_id for arrival in arrivals if isinstance(arrival.message, messages.Presence)}
    return await status.presences(conn, told) if told else {}


async def _advance(
    conn: Connection,
    reports: Mapping[int, Report],
    contacts: Sequence[Contact],
    presences: Sequence[PresenceNews],
    runs: Sequence[Run],
    *,
    now: datetime,
) -> None:
    """Write what is newest of each unit."""
    if reports:
        await status.report(conn, reports.values(), now=now)
    if runs:
        await status.run(conn, runs)
    if presences:
        await status.presence(conn, presences, now=now)
    if contacts:
        await status.contact(conn, contacts, now=now)


def _runs(standings: Mapping[int, Standing], heard: Heard, reports: Mapping[int, Report]) -> list[Run]:
    """Give the runs that no report tells of: those that began anew, and what only a backlog made longer."""
    longer = [
        run._replace(last=last)
        for unit_id, last in heard.grown.items()
        if unit_id not in reports and (run := standings[unit_id].run)
    ]
    return heard.ended + longer


def _verdict(arrival: Arrival, *, brought_new: bool) -> Verdict | None:
    if isinstance(arrival.message, messages.Ack):
        return None
    return Verdict.STORED if brought_new else Verdict.DUPLICATE
