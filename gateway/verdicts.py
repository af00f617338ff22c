"""One transaction's worth of messages brought to their verdicts: told to telemetry, then to commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from commands.observe import Acked, AckVerdict, Reported, observe
from gateway.reading import Reading
from protocol.messages import Ack, Heartbeat
from protocol.reasons import Reason
from runtime.clock import now
from runtime.settings import Commands
from storage.sql import Connection
from telemetry import dead_letters
from telemetry.alerts import Kind
from telemetry.arrivals import Arrival
from telemetry.dead_letters import Loss
from telemetry.record import Recorded, Verdict, record

PLACE = attrgetter("place")
Entry = tuple[Reading, Arrival | Loss]

ACKS = {
    AckVerdict.NEWS: Verdict.STORED,
    AckVerdict.REPEATED: Verdict.DUPLICATE,
    AckVerdict.UNKNOWN: Verdict.DEAD_LETTER,
    AckVerdict.FOREIGN: Verdict.DEAD_LETTER,
}
ACK_REASONS = {AckVerdict.UNKNOWN: Reason.UNKNOWN_COMMAND, AckVerdict.FOREIGN: Reason.FOREIGN_COMMAND}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a batch: a verdict for each message in order, heartbeats, losses by reason.

    `seen` heartbeats stood in the messages that were read and were not refused; telemetry says which
    were `new` and which `repeated`. `raised` are new alerts.
    """

    verdicts: list[Verdict]
    seen: int
    new: int
    repeated: int
    lost: Counter[Reason]
    raised: Counter[Kind]


async def judge(conn: Connection, entries: Sequence[Entry], *, gateway: str, settings: Commands) -> Outcome:
    """Record what was said, keep what was lost, and let commands see it; nothing is committed here."""
    arrivals = [(reading, content) for reading, content in entries if isinstance(content, Arrival)]
    recorded = await record(conn, [arrival for _, arrival in arrivals], now=now())

    acks = [(reading, arrival) for reading, arrival in arrivals if isinstance(arrival.message, Ack)]
    ack_verdicts = await observe(
        conn,
        acks=[_acked(arrival) for _, arrival in acks],
        reports=_reports(recorded),
        listening=recorded.listening,
        actor=gateway,
        settings=settings,
    )
    losses = [content for _, content in entries if isinstance(content, Loss)] + recorded.losses
    losses += _refused(arrivals, recorded)
    for (reading, arrival), verdict in zip(acks, ack_verdicts, strict=True):
        if reason := ACK_REASONS.get(verdict):
            losses.append(reading.lost(arrival.unit_id, reason, reason.meaning, path="/command_id"))
    await dead_letters.keep(conn, losses, gateway=gateway)

    return Outcome(
        verdicts=_in_order(entries, recorded.verdicts, ack_verdicts),
        seen=sum(_heartbeats(arrival) for _, arrival in arrivals) - _heartbeats_refused(arrivals, recorded),
        new=recorded.new,
        repeated=recorded.repeated,
        lost=Counter(loss.reason for loss in losses),
        raised=recorded.raised,
    )


def _in_order(
    entries: Sequence[Entry], recorded: Sequence[Verdict | None], acked: Sequence[AckVerdict]
) -> list[Verdict]:
    """Give each message's verdict: lost before anybody was asked, telemetry's, or for an ack commands'."""
    of_arrivals, of_acks = iter(recorded), iter(acked)
    return [
        Verdict.DEAD_LETTER if isinstance(content, Loss) else next(of_arrivals) or ACKS[next(of_acks)]
        for _, content in entries
    ]


def _heartbeats(arrival: Arrival) -> int:
    """Count the heartbeats that a message carries: its own and its backlog's."""
    return 1 + len(arrival.message.backlog) if isinstance(arrival.message, Heartbeat) else 0


def _heartbeats_refused(arrivals: Sequence[tuple[Reading, Arrival]], recorded: Recorded) -> int:
    """Count the heartbeats in what telemetry did not take: those of whole messages, and single entries."""
    return sum(
        _heartbeats(arrivals[refusal.place][1]) if refusal.entry is None else 1
        for refusal in recorded.refusals
    )


def _refused(arrivals: Sequence[tuple[Reading, Arrival]], recorded: Recorded) -> Iterator[Loss]:
    """Give up what telemetry did not take."""
    by_place = groupby(sorted(recorded.refusals, key=PLACE), PLACE)
    for place, refusals in by_place:
        reading, arrival = arrivals[place]
        yield from reading.refused(arrival.unit_id, list(refusals))


def _acked(arrival: Arrival) -> Acked:
    assert isinstance(arrival.message, Ack)  # noqa: S101 - chosen so by the caller
    return Acked(unit_id=arrival.unit_id, ack=arrival.message)


def _reports(recorded: Recorded) -> list[Reported]:
    # By place, as in `telemetry.arrivals`: most heartbeats are a report.
    return [
        Reported(beat.unit_id, beat.epoch, beat.mode, beat.boot, beat.seq, beat.received_at, live)
        for beat, _, _, live, _ in recorded.reports
    ]
