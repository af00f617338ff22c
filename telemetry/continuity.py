"""Whether what units count goes on where it was: what leaps or is too old is refused, lost memory is noticed.

A healthy unit counts on in the boot of its newest report; that costs a few comparisons. All else is
odd, and then the unit's messages are judged one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from protocol import messages
from protocol.reasons import Reason
from storage.sql import Connection
from telemetry import alerts, counters, doubts, heartbeats, lives, partitions, sequence
from telemetry.alerts import Finding, Kind
from telemetry.arrivals import ORDERED, Arrival
from telemetry.counters import SEQ_LEAP, Counters, line
from telemetry.course import Beginning, Course, Known, Refusal
from telemetry.heartbeats import Heartbeat
from telemetry.lives import UNCOUNTED, Ordinals
from telemetry.status import Run, Standing

Said = Sequence[Sequence[Heartbeat]]
"""The heartbeats of each arrival, a message's own first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a batch may tell, arrival by arrival; what of it is refused; how many alerts were raised."""

    said: Said
    refusals: Sequence[Refusal] = ()
    raised: Counter[Kind] = field(default_factory=Counter)


async def judge(
    conn: Connection,
    arrivals: Sequence[Arrival],
    said: Said,
    standings: Mapping[int, Standing],
    ordinals: Ordinals,
    *,
    now: datetime,
) -> Judged:
    """Tell what counts and under which life; begin new lives, note doubts and raise alerts.

    The caller holds the locks on the units' status rows.
    """
    odd = _odd(arrivals, said, standings)
    if not odd and ordinals.complete:
        return Judged(said=said)
    counted, refusals = list(said), []
    if not ordinals.complete:
        refusals = [_beyond(place) for place in _uncounted(arrivals, ordinals)]
        for refusal in refusals:
            counted[refusal.place] = ()
    findings = [_too_many(arrivals[refusal.place]) for refusal in refusals]
    courses = await _courses(conn, arrivals, counted, standings, odd)
    for place, beats in enumerate(counted):
        message = arrivals[place].message
        if beats and (course := courses.get(beats[0].unit_id)) and isinstance(message, messages.Heartbeat):
            counted[place] = course.hear(place, message.life, beats)
    beginnings = [one for course in courses.values() for one in course.beginnings]
    await begin(conn, beginnings, standings, now=now)
    await doubts.write(
        conn,
        {unit_id: course.doubt for unit_id, course in courses.items() if course.doubt and course.weighed},
    )
    for course in courses.values():
        refusals += course.refusals
        findings += course.findings
    return Judged(said=counted, refusals=refusals, raised=await alerts.raise_all(conn, findings, now=now))


async def begin(
    conn: Connection, beginnings: Sequence[Beginning], standings: Mapping[int, Standing], *, now: datetime
) -> list[Run]:
    """Begin later lives; what showed them counts as heard in them, and is stored unless it was.

    Gives the runs that the units then have, for who does not go on to hear of them in those lives.
    """
    if not beginnings:
        return []
    await lives.begin_anew(conn, [beginning.life for beginning in beginnings], now=now)
    shown = [
        held._replace(beat=held.beat._replace(life=beginning.ordinal))
        for beginning in beginnings
        for held in beginning.shown_by
    ]
    if not shown:
        return []
    heard = await sequence.hear(conn, standings, [held.beat for held in shown])
    if unstored := [held.beat for held in shown if not held.stored]:
        # Nobody made room for them when they came: they were not to be stored then.
        await partitions.ensure(conn, [beat.at for beat in unstored])
        await heartbeats.append(conn, unstored)
    return heard.ended


def _odd(arrivals: Sequence[Arrival], said: Said, standings: Mapping[int, Standing]) -> set[int]:
    """Name the units of which something does not go on in the boot of the newest report, or comes again."""
    odd = set()
    for arrival, group in zip(arrivals, said, strict=True):
        if group and arrival.live and group[0].seq <= (standings[group[0].unit_id].seq or 0):
            odd.add(group[0].unit_id)
        for beat in group:
            standing = standings[beat.unit_id]
            if (
                beat.boot != standing.boot
                or beat.life != standing.life
                or standing.seq is None
                or beat.seq > standing.seq + SEQ_LEAP
            ):
                odd.add(beat.unit_id)
    return odd


def _uncounted(arrivals: Sequence[Arrival], ordinals: Ordinals) -> Iterable[int]:
    """Give the places of the arrivals that speak of a life beyond those that are told apart."""
    for place, arrival in enumerate(arrivals):
        if (
            isinstance(arrival.message, ORDERED)
            and ordinals.of(arrival.unit_id, arrival.message.life) == UNCOUNTED
        ):
            yield place


def _beyond(place: int) -> Refusal:
    return Refusal(place, Reason.TOO_MANY_LIVES, "life", f"{lives.MOST} lives of a unit are told apart.")


def _too_many(arrival: Arrival) -> Finding:
    assert isinstance(arrival.message, ORDERED)  # noqa: S101 - chosen so
    return Finding(arrival.unit_id, Kind.TOO_MANY_LIVES, {"life": arrival.message.life})


async def _courses(
    conn: Connection,
    arrivals: Sequence[Arrival],
    said: Said,
    standings: Mapping[int, Standing],
    odd: Iterable[int],
) -> dict[int, Course]:
    """Gather what odd units are judged by; of those that speak of nothing older, little is asked."""
    by_unit: dict[int, list[Heartbeat]] = {unit_id: [] for unit_id in odd}
    for group in said:
        if group and group[0].unit_id in by_unit:
            by_unit[group[0].unit_id] += group
    measures = await counters.of_units(conn, standings, by_unit)
    known = await _known(conn, _against(arrivals, said, standings, by_unit), said, standings, measures)
    doubted = sorted(known)
    before = await doubts.of_units(conn, doubted) if doubted else {}
    had = await lives.counts(conn, doubted) if doubted else {}
    open_kinds = await alerts.open_kinds(conn, doubted) if doubted else {}
    return {
        unit_id: Course(
            unit_id=unit_id,
            newest=_newest(standings[unit_id]),
            counters=measures[unit_id],
            known=known.get(unit_id, {}),
            lives=had.get(unit_id, 0),
            suspected=Kind.TWO_UNITS in open_kinds.get(unit_id, ()),
            doubt=before.get(unit_id),
        )
        for unit_id in by_unit
    }


def _against(
    arrivals: Sequence[Arrival],
    said: Said,
    standings: Mapping[int, Standing],
    odd: Mapping[int, object],
) -> list[int]:
    """Give the places of live heartbeats that tell nothing newer than their unit's newest report.

    Or that are of an older boot than another here.
    """
    newest = {unit_id: _newest(standings[unit_id]) or (0, 0, 0) for unit_id in odd}
    own = [(place, group[0]) for place, group in enumerate(said) if group and group[0].unit_id in odd]
    for _, beat in own:
        newest[beat.unit_id] = max(newest[beat.unit_id], beat.order)
    return [
        place
        for place, beat in own
        if arrivals[place].live
        and (
            beat.order[:2] < newest[beat.unit_id][:2]
            or beat.order <= (_newest(standings[beat.unit_id]) or (0, 0, 0))
        )
    ]


async def _known(
    conn: Connection,
    places: Sequence[int],
    said: Said,
    standings: Mapping[int, Standing],
    measures: Mapping[int, Counters],
) -> dict[int, dict[int, Known]]:
    """Tell by unit and place what is known of such heartbeats; what is summed up only may have been heard."""
    if not places:
        return {}
    beats = [said[place][0] for place in places]
    heard = await sequence.known(conn, standings, beats)
    perhaps = [
        place
        for place, beat, known in zip(places, beats, heard, strict=True)
        if known or ((past := measures[beat.unit_id].past) is not None and line(beat) <= past)
    ]
    copied = await heartbeats.copies(conn, [said[place][0] for place in perhaps]) if perhaps else []
    copies = {place for place, copy in zip(perhaps, copied, strict=True) if copy}
    told: dict[int, dict[int, Known]] = {}
    for place, beat, known in zip(places, beats, heard, strict=True):
        told.setdefault(beat.unit_id, {})[place] = Known(known, place in copies)
    return told


def _newest(standing: Standing) -> tuple[int, int, int] | None:
    return None if standing.life is None else standing[1:4]  # type: ignore[return-value]
