"""Spoilt messages in a real database: one verdict each, and what is accepted can be stored (issue 3.9)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Any

import psycopg
import pytest

from gateway.reading import read
from gateway.verdicts import judge
from protocol.messages import Heartbeat
from registry import enrolment
from runtime.clock import now
from runtime.settings import Commands, Database
from storage.pool import Pool
from telemetry import dead_letters, heartbeats, status
from telemetry.arrivals import Arrival, moments
from telemetry.dead_letters import Loss
from telemetry.partitions import Days
from telemetry.record import Verdict
from tests.builders import a_deed, a_newcomer, an_imei, keys
from tests.fuzz.invariants import delivered
from tests.fuzz.mutations import COMMAND, message

SEED = 20261125
MESSAGES = 300
BATCH = 10
IMEIS = [an_imei(number) for number in (1, 2, 3)]
STRANGER = an_imei(4)
SENT_COMMAND = """
INSERT INTO command (id, unit_id, kind, epoch, after_s, state, reason, ordered_by, ordered_at, expires_at,
                     due_at, attempt, attempted_at)
VALUES (%s, 1, 'ping', 0, 0, 'sent', 'why', 'ada', now(), now() + interval '1 h', now(), 1, now())
"""


async def test_every_spoilt_message_has_one_verdict_and_the_accepted_ones_are_stored_as_they_are(
    pool: Pool, database: Database
) -> None:
    async with pool.transaction() as conn:
        await enrolment.enrol_all(conn, [a_newcomer(number) for number in (1, 2, 3)], keys(), a_deed())
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute(SENT_COMMAND.encode(), [COMMAND])
    unit_ids: dict[str, int] = {imei: number for number, imei in enumerate(IMEIS, 1)}
    days, dice = Days(pool), Random(SEED)  # noqa: S311 - nothing secret: the same messages each time
    stored: list[Arrival | Loss] = []
    verdicts = dict.fromkeys(Verdict, 0)

    for _ in range(MESSAGES // BATCH):
        spoilt = [message(dice.randrange, [*IMEIS, STRANGER]) for _ in range(BATCH)]
        readings = [read(delivered(topic, body), now(), live=True) for topic, body in spoilt]
        batch = [(reading, reading.content(unit_ids.get(reading.imei or ""))) for reading in readings]
        await days.ensure(moments(content for _, content in batch if isinstance(content, Arrival)))
        async with pool.transaction() as conn:
            outcome = await judge(conn, batch, gateway="g", settings=Commands())
        assert len(outcome.verdicts) == BATCH
        verdicts = {verdict: verdicts[verdict] + outcome.verdicts.count(verdict) for verdict in verdicts}
        told = zip(batch, outcome.verdicts, strict=True)
        stored += [content for (_, content), verdict in told if verdict is Verdict.STORED]

    assert min(verdicts.values()) > 0, verdicts
    since, until = now() - timedelta(days=46), now() + timedelta(days=1)
    async with pool.transaction() as conn:
        await dead_letters.page(conn, limit=200)
        await status.of_units(conn, unit_ids.values())
        kept = {
            (unit_id, beat.boot, beat.seq): beat
            for unit_id in unit_ids.values()
            for beat in await heartbeats.of_unit(conn, unit_id, since=since, until=until, limit=9_999)
        }
    first = first_heard(stored)
    assert kept.keys() >= first.keys()
    for key, said in first.items():
        assert kept[key].readings == pytest.approx(said.readings, rel=1e-6, abs=0), key
        assert same(said.extra, kept[key].fields), key
        assert (kept[key].fw, kept[key].unit_ts) == (said.fw, said.ts)
        assert (kept[key].mode, kept[key].epoch, kept[key].output) == (said.mode, said.epoch, said.output)


def first_heard(stored: Iterable[Arrival | Loss]) -> dict[tuple[int, int, int], Heartbeat]:
    """Give the heartbeats that were stored, each as it came first."""
    first: dict[tuple[int, int, int], Heartbeat] = {}
    for content in stored:
        if isinstance(content, Arrival) and isinstance(content.message, Heartbeat):
            said = content.message
            first.setdefault((content.unit_id, said.boot, said.seq), said)
    return first


def same(said: Any, kept: Any) -> bool:
    """Whether a value is what was said; a database writes a large float out as an integer."""
    match said:
        case dict():
            return said.keys() == kept.keys() and all(same(said[key], kept[key]) for key in said)
        case list():
            return len(said) == len(kept) and all(map(same, said, kept))
        case float():
            return said == float(kept)
    return type(said) is type(kept) and bool(said == kept)
