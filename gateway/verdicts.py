"""One transaction's worth of messages brought to their verdicts: told to telemetry, then to commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from commands.observe import Acked, AckVerdict, Reported, observe
from gateway.reading import Reading
from protocol.messages import Ack
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
    """What became of a batch: messages by verdict, heartbeats new and repeated, losses, new alerts."""

    verdicts: Counter[Verdict]
    new: int
    repeated: int
    lost: Counter[Reason]
    raised: Counter[Kind]


async def judge(conn: Connection, entries: Sequence[Entry], *, gateway: str, settings: Commands) -> Outcome:
    """Record what was said, keep what was lost, and let commands see it; nothing is committed here."""
    arrivals = [(reading, content) for reading, content in entries if isinstance(content, Arrival)]
    losses = [content for _, content in entries if isinstance(content, Loss)]
    recorded = await record(conn, [arrival for _, arrival in arrivals], gateway=gateway, now=now())
    losses += _refused(arrivals, recorded)

    acks = [(reading, arrival) for reading, arrival in arrivals if isinstance(arrival.message, Ack)]
    ack_verdicts = await observe(
        conn,
        acks=[_acked(arrival) for _, arrival in acks],
        reports=_reports(recorded),
        listening=[*recorded.online, *(contact.unit_id for contact in recorded.contacts if contact.live)],
        actor=gateway,
        settings=settings,
    )
    for (reading, arrival), verdict in zip(acks, ack_verdicts, strict=True):
        if reason := ACK_REASONS.get(verdict):
            losses.append(reading.lost(arrival.unit_id, reason, reason.meaning, path="/command_id"))
    await dead_letters.keep(conn, losses, gateway=gateway)

    verdicts = Counter(verdict for verdict in recorded.verdicts if verdict is not None)
    verdicts.update(ACKS[verdict] for verdict in ack_verdicts)
    verdicts[Verdict.DEAD_LETTER] += len(entries) - len(arrivals)
    lost = Counter(loss.reason for loss in losses)
    lost.update(loss.reason for _, arrival in arrivals for loss in arrival.losses)
    return Outcome(
        verdicts=verdicts, new=recorded.new, repeated=recorded.repeated, lost=lost, raised=recorded.raised
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
    return [
        Reported(
            unit_id=beat.unit_id,
            epoch=beat.epoch,
            mode=beat.mode,
            boot=beat.boot,
            seq=beat.seq,
            received_at=beat.received_at,
        )
        for beat in (report.heartbeat for report in recorded.reports)
    ]
