"""Which contacts are written beside the newest reports: together they say what all contacts would."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import Ack, AckResult, Heartbeat, Mode, Presence, PresenceState
from telemetry import newest
from telemetry.arrivals import Arrival
from telemetry.heartbeats import Heartbeat as Beat
from telemetry.status import Contact, Report
from tests.builders import NOON

MODE = Mode.ENABLED
HEARTBEAT = Heartbeat(boot=1, seq=1, mode=MODE, epoch=0)
ACK = Ack(
    command_id="01890000-0000-7000-8000-000000000000",  # type: ignore[arg-type]  # read as the wire is
    epoch=1,
    result=AckResult.APPLIED,
    mode=MODE,
)
PRESENCE = Presence(state=PresenceState.ONLINE, boot=1)

arrivals = st.builds(
    Arrival,
    st.integers(1, 3),
    st.sampled_from([HEARTBEAT, ACK, PRESENCE]),
    st.integers(0, 2).map(lambda minutes: NOON + timedelta(minutes=minutes)),
    st.booleans(),
)


@given(st.lists(arrivals, max_size=8), st.data())
def test_reports_and_contacts_tell_what_all_contacts_would(heard: list[Arrival], data: st.DataObject) -> None:
    """A report is of one of its unit's heartbeats, or there is none."""
    reports = {}
    for unit_id in {arrival.unit_id for arrival in heard}:
        own = [one for one in heard if one.unit_id == unit_id and isinstance(one.message, Heartbeat)]
        if chosen := data.draw(st.sampled_from([None, *own])):
            reports[unit_id] = report(chosen)

    told = newest.contacts(heard, reports)

    every = contacts(heard)
    assert len({contact.unit_id for contact in told}) == len(told)
    for unit_id, contact in every.items():
        beside = [one for one in told if one.unit_id == unit_id]
        by_report = reports.get(unit_id)
        reported = by_report and (by_report.heartbeat.received_at, by_report.live)
        assert beside == [contact] if reported != (contact.at, contact.live) else not beside
    assert {contact.unit_id for contact in told} <= every.keys()


def contacts(heard: Sequence[Arrival]) -> dict[int, Contact]:
    """Pick each unit's last contact; its last live one where there is any."""
    found: dict[int, Contact] = {}
    for live in False, True:
        for arrival in heard:
            if not isinstance(arrival.message, Presence) and arrival.live == live:
                found[arrival.unit_id] = Contact(arrival.unit_id, arrival.received_at, live)
    return found


def report(arrival: Arrival) -> Report:
    at = arrival.received_at
    beat = Beat(arrival.unit_id, at, at, None, 1, 1, 1, 0, MODE, None, None, {}, {})
    return Report(beat, 1, None, arrival.live, None)
