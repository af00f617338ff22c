"""R23: a fleet that comes back at once, with what it kept back meanwhile, does not knock the system over."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from deploy.local.processes import Child, until
from protocol.codec import MAX_BODY, encode
from protocol.identity import Imei
from protocol.messages import MAX_BACKLOG, BacklogEntry, Heartbeat, Mode
from protocol.topics import Channel, topic
from tests.acceptance.stack import Stack, ledger
from tests.nemesis import mosquitto
from tests.nemesis.ground import laid
from tests.nemesis.load import LIFE, Message, numbered
from tests.nemesis.rows import Promise, Row, Size, Tell
from tests.nemesis.subscriptions import Pauses
from tests.nemesis.verdict import Trial, twice
from tests.nemesis.watching import drained

FLEET = {Size.SHORT: 200, Size.FULL: 2_000}
INTERVAL_S = {Size.SHORT: 1.0, Size.FULL: 4.0}
AWAY_S = {Size.SHORT: 4.0, Size.FULL: 30.0}
"""So long the broker is gone: a unit's pause of up to 2^n s grows, and what it cannot say it keeps back."""

CONNECTED_S = 120.0
BACK_S = 600.0
MOST = 0.95

RETURNING = {Size.SHORT: 60, Size.FULL: 2_000}
OTHERS = 100
PER_SECOND = 300
AT_ONCE = 20_000
BACKLOG = MAX_BACKLOG
BATCH_ROWS = 5_000
"""The default of HELIOGRAPH_GATEWAY_BATCH_ROWS."""

STORED_S = 900.0


def of_a_fleet(seed: int, size: Size, tell: Tell) -> Row:
    """End the broker under a connected fleet, start it again, and wait until nearly all are heard."""
    units = FLEET[size]
    trial = Trial(
        "R23", f"broker started again under {units:,} connected units, after {AWAY_S[size]:g} s", seed
    )
    with laid(0) as ground:
        stack = ground.stack
        stack.enrol_fleet(units, seed)
        gateway = stack.start_gateway()
        truth = stack.folder.path / "truth.jsonl"
        words = ("--units", str(units), "--interval", str(INTERVAL_S[size]), "--seed", str(seed))
        fleet = stack.start("simulator", "fleet", *words, "--ledger", truth)
        connected = until(lambda: _heard(stack) == units, CONNECTED_S)
        trial.demand(connected, "the fleet does not connect at first")
        tell(f"{units:,} units are connected")

        trial.kills += 1
        trial.hits += connected
        mosquitto.stop(stack)
        time.sleep(AWAY_S[size])
        [(since,)] = stack.query("SELECT clock_timestamp()")
        mosquitto.start(stack)
        _until_back(trial, stack, since, f"s to {MOST:.0%}", round(MOST * units))
        _until_back(trial, stack, since, "s to the last", units)
        trial.demand(fleet.end() == 0, f"the fleet failed: {fleet.last_words()}")
        _demand_alive(trial, gateway)
        trial.demand(drained(stack), "messages are still held long after the last one")
        acknowledged, stored = ledger(truth, "heartbeats_acked"), stack.stored()
        trial.demand(
            set(stored) <= ledger(truth, "heartbeats_sent"), "heartbeats are stored that were never said"
        )
        return trial.row(n=len(acknowledged), lost=len(acknowledged - set(stored)), doubled=twice(stored))


def with_backlogs(seed: int, size: Size, tell: Tell) -> Row:
    """Let units come back at once, each with as long a backlog as a message holds, beside others."""
    units = RETURNING[size]
    trial = Trial(
        "R23.backlogs", f"{units:,} units back at once, {BACKLOG} heartbeats kept back by each", seed
    )
    with laid(units + OTHERS) as ground:
        stack = ground.stack
        gateway = stack.start_gateway()
        back, others = ground.imeis[:units], ground.imeis[units:]
        keys = {(str(imei), LIFE, 1, seq) for imei in back for seq in range(1, BACKLOG + 2)}
        with (
            ground.load(numbered(others), PER_SECOND) as beside,
            Pauses(stack) as pauses,
            ground.load(_returning(back), AT_ONCE, place=1) as load,
        ):
            began = time.monotonic()
            load.await_end(STORED_S)
            tell(f"{units:,} backlogs are said")
            arrived = until(lambda: gateway.ended is not None or _stored(stack, back) >= len(keys), STORED_S)
            trial.demand(arrived, f"not every backlog was stored within {STORED_S:g} s")
            trial.figures["heartbeats/s"] = len(keys) / (time.monotonic() - began)
            beside.finish()
        _demand_alive(trial, gateway)
        trial.demand(drained(stack), "messages are still held long after the last one")
        trial.figures |= {"longest pause (s)": pauses.longest_s, "peak (MB)": pauses.peak_mb}
        [(rows,)] = stack.query(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM heartbeat GROUP BY xmin::text) AS one"
        )
        trial.figures["rows of the largest transaction"] = rows
        trial.demand(rows <= BATCH_ROWS + BACKLOG, f"a transaction had {rows} rows")
        expected, stored = keys | set(beside.acked), stack.stored()
        return trial.row(n=len(expected), lost=len(expected - set(stored)), doubled=twice(stored))


def _until_back(trial: Trial, stack: Stack, since: datetime, figure: str, units: int) -> None:
    """Wait until so many units were heard after that moment."""
    back = until(lambda: _heard(stack, since) >= units, BACK_S)
    trial.demand(back, f"{_heard(stack, since)} units, not {units}, were heard within {BACK_S:g} s")
    [(took,)] = stack.query("SELECT extract(epoch FROM clock_timestamp() - %s)", since)
    trial.figures[figure] = float(took)


def _heard(stack: Stack, since: datetime | None = None) -> int:
    """How many units have a heartbeat that came since then."""
    [(units,)] = stack.query(
        "SELECT count(DISTINCT unit_id) FROM heartbeat"
        " WHERE received_at >= coalesce(%s, '-infinity'::timestamptz)",
        since,
    )
    return int(units)


def _stored(stack: Stack, imeis: Sequence[Imei]) -> int:
    """How many heartbeats of these units are there."""
    [(number,)] = stack.query(
        "SELECT count(*) FROM heartbeat WHERE unit_id IN (SELECT id FROM unit WHERE imei = ANY(%s))",
        list(map(str, imeis)),
    )
    return int(number)


def _returning(imeis: Sequence[Imei]) -> Iterator[Message]:
    """Let each unit say its newest heartbeat with all before it, near the size that a message may have."""
    readings = {"battery_v": 12.81, "load_a": 0.4, "soc_pct": 88.0}
    for imei in imeis:
        backlog = tuple(
            BacklogEntry(seq=seq, mode=Mode.ENABLED, epoch=0, readings=readings)
            for seq in range(1, BACKLOG + 1)
        )
        said = Heartbeat(life=LIFE, boot=1, seq=BACKLOG + 1, mode=Mode.ENABLED, epoch=0, backlog=backlog)
        body = encode(said)
        assert len(body) <= MAX_BODY
        yield Message(topic(imei, Channel.HEARTBEAT), body, (str(imei), LIFE, 1, BACKLOG + 1))


def _demand_alive(trial: Trial, gateway: Child) -> None:
    trial.demand(gateway.ended is None, f"the gateway ended: {gateway.last_words()}")


PROMISES: Mapping[str, Promise] = {"R23": of_a_fleet, "R23.backlogs": with_backlogs}
