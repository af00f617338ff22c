"""The newest that is known of each unit: one row, locked in the order of ids, advanced and never set back.

Newest means (life in the order first heard, boot, seq) for reports and (life, boot, conn) for
presence. No clock decides. The newest readings are not kept here: the row says where in
`heartbeat` they stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import DictRow

from protocol.messages import Mode, PresenceState
from storage.arrays import bools, chars, int2s, int4s, int8s, jsonbs, texts, timestamps
from storage.sql import Connection, execute, load, rows, tuples
from telemetry.clocks import Clock
from telemetry.clocks import judge as judge_clock
from telemetry.heartbeats import CODES, MODES, Heartbeat, taken_readings
from telemetry.presence import Evidence, Presence
from telemetry.presence import judge as judge_presence

SQL = load(__file__)


class PresenceOrder(NamedTuple):
    """What makes one presence newer than another; `life` is the ordinal, `conn` 0 when not told."""

    life: int
    boot: int
    conn: int


class Run(NamedTuple):
    """A unit's newest heartbeats without a hole: all of its newest boot from `first` to `last`.

    `last` is the highest number heard of that boot; the run is empty when `first` is one more.
    """

    unit_id: int
    life: int
    boot: int
    first: int
    last: int


class Standing(NamedTuple):
    """What a batch must know of a unit: its locked row of `unit_status`, None where nothing was heard yet.

    (life, boot, seq) is the newest report, and `reported_life` its life as the unit calls it, None as well
    when that life is over.
    """

    unit_id: int
    life: int | None
    boot: int | None
    seq: int | None
    reported_life: int | None
    run_life: int | None
    run_boot: int | None
    run_first: int | None
    run_last: int | None

    def older_than(self, beat: Heartbeat) -> bool:
        """Whether a heartbeat is newer than the newest report."""
        return self.life is None or beat.order > self[1:4]

    def beyond(self, order: tuple[int, int, int]) -> bool:
        """Whether the newest report is newer than that."""
        return self.life is not None and self[1:4] > order

    @property
    def run(self) -> Run | None:
        """The newest heartbeats without a hole."""
        if self.run_life is None or self.run_boot is None or self.run_first is None or self.run_last is None:
            return None
        return Run(self.unit_id, self.run_life, self.run_boot, self.run_first, self.run_last)


class Contact(NamedTuple):
    """A unit's newest contact: a heartbeat or an ack; `live` unless it had waited in the broker.

    `at` is the gateway's clock; the database dates a live contact by its own, less what passed since.
    """

    unit_id: int
    at: datetime
    live: bool


class Report(NamedTuple):
    """A unit's newest heartbeat, as the status keeps it; `live` unless this very one had waited.

    `life` is its life as the unit calls it. `run_last` tells how far the unit's run has grown, None
    when it has not.
    """

    heartbeat: Heartbeat
    life: int
    next_s: int | None
    live: bool
    run_last: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceNews:
    """A unit's newest presence."""

    unit_id: int
    state: PresenceState
    order: PresenceOrder
    at: datetime
    live: bool
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything the status row tells; None where the unit has not told it yet."""

    unit_id: int
    contact_at: datetime | None
    live_contact_at: datetime | None
    live_online_at: datetime | None
    reported_at: datetime | None
    reported_live: bool | None
    unit_ts: int | None
    mode: Mode | None
    epoch: int | None
    output: bool | None
    next_s: int | None
    fw: str | None
    readings: dict[str, float | bool]
    """Of the newest report; empty as well when that heartbeat is not kept any more."""

    presence: PresenceState | None
    presence_at: datetime | None
    life: int | None
    boot: int | None
    seq: int | None
    read_at: datetime
    """When this was read, by the database's clock."""

    @classmethod
    def from_row(cls, row: DictRow) -> Status:
        """Build from a row of `unit_status`."""
        mode, presence = row.pop("mode"), row.pop("presence")
        readings = taken_readings(row)
        return cls(
            **row,
            readings=readings,
            mode=None if mode is None else MODES[mode],
            presence=None if presence is None else PresenceState(presence),
        )

    def present(self, expected_interval_s: int) -> Presence:
        """Judge whether the unit is alive, by the database's clock alone."""
        evidence = Evidence(
            contact_at=self.contact_at,
            live_contact_at=self.live_contact_at,
            live_online_at=self.live_online_at,
            word=self.presence,
            next_s=self.next_s,
        )
        return judge_presence(evidence, expected_interval_s, self.read_at)

    @property
    def clock(self) -> Clock:
        """What the unit's clock is worth, by its newest report."""
        return judge_clock(self.unit_ts, self.reported_at, live=self.reported_live)


async def lock(conn: Connection, unit_ids: Iterable[int]) -> dict[int, Standing]:
    """Lock the units' rows until the transaction ends, in the order of ids; missing ones are made."""
    wanted = int4s(sorted(unit_ids))
    standings = await tuples(conn, SQL.lock, unit_ids=wanted)
    if len(standings) < len(wanted):
        await execute(conn, SQL.make, unit_ids=wanted)
        standings = await tuples(conn, SQL.lock, unit_ids=wanted)
    return {standing[0]: Standing._make(standing) for standing in standings}


async def presences(conn: Connection, unit_ids: Iterable[int]) -> dict[int, tuple[PresenceOrder, str]]:
    """Give how new the newest presence of each unit is, and what it says, where one was heard."""
    found = await tuples(conn, SQL.presences, unit_ids=int4s(sorted(unit_ids)))
    return {unit_id: (PresenceOrder(*order), state) for unit_id, state, *order in found}


async def report(conn: Connection, reports: Iterable[Report], *, now: datetime) -> None:
    """Write the newest report, and contact, of units whose rows are locked; at most one per unit.

    `now` is the gateway's clock, by which the times of arrival were taken.
    """
    news = list(reports)
    beats = [new.heartbeat for new in news]
    await execute(
        conn,
        SQL.report,
        now=now,
        unit_ids=int4s([beat.unit_id for beat in beats]),
        lives=int2s([beat.life for beat in beats]),
        reported_lives=int8s([new.life for new in news]),
        boots=int8s([beat.boot for beat in beats]),
        seqs=int8s([beat.seq for beat in beats]),
        ats=timestamps([beat.at for beat in beats]),
        reported_ats=timestamps([beat.received_at for beat in beats]),
        unit_tss=int8s([beat.unit_ts for beat in beats]),
        modes=chars([CODES[beat.mode] for beat in beats]),
        epochs=int8s([beat.epoch for beat in beats]),
        outputs=bools([beat.output for beat in beats]),
        next_ss=int8s([new.next_s for new in news]),
        fws=texts([beat.fw for beat in beats]),
        were_live=bools([new.live for new in news]),
        run_lasts=int8s([new.run_last for new in news]),
    )


async def end_life(conn: Connection, lives: Iterable[tuple[int, int]]) -> None:
    """Let lives, by unit and number, be over; a newest report under one stands without its number then."""
    unit_ids, numbers = zip(*lives, strict=True)
    await execute(conn, SQL.end_life, unit_ids=int4s(unit_ids), lives=int8s(numbers))


async def run(conn: Connection, runs: Iterable[Run]) -> None:
    """Write the runs of units whose rows are locked; at most one per unit."""
    told = list(runs)
    await execute(
        conn,
        SQL.run,
        unit_ids=int4s([one.unit_id for one in told]),
        lives=int2s([one.life for one in told]),
        boots=int8s([one.boot for one in told]),
        firsts=int8s([one.first for one in told]),
        lasts=int8s([one.last for one in told]),
    )


async def presence(conn: Connection, news: Iterable[PresenceNews], *, now: datetime) -> None:
    """Write the newest presence of units whose rows are locked; at most one per unit."""
    told = list(news)
    await execute(
        conn,
        SQL.presence,
        now=now,
        unit_ids=int4s([new.unit_id for new in told]),
        states=texts([new.state for new in told]),
        ats=timestamps([new.at for new in told]),
        lives=int2s([new.order.life for new in told]),
        boots=int8s([new.order.boot for new in told]),
        conns=int8s([new.order.conn for new in told]),
        fields=jsonbs([new.fields or None for new in told]),
        onlines=bools([new.live and new.state is PresenceState.ONLINE for new in told]),
    )


async def contact(conn: Connection, contacts: Iterable[Contact], *, now: datetime) -> None:
    """Write the newest contact of units whose rows are locked; at most one per unit."""
    met = list(contacts)
    await execute(
        conn,
        SQL.contact,
        now=now,
        unit_ids=int4s([one.unit_id for one in met]),
        ats=timestamps([one.at for one in met]),
        lives=bools([one.live for one in met]),
    )


async def of_unit(conn: Connection, unit_id: int) -> Status | None:
    """Give a unit's newest status; None when it was never heard."""
    return (await of_units(conn, [unit_id])).get(unit_id)


async def of_units(conn: Connection, unit_ids: Iterable[int]) -> dict[int, Status]:
    """Give the status of each unit that was ever heard."""
    found = await rows(conn, Status.from_row, SQL.of_units, unit_ids=list(unit_ids))
    return {status.unit_id: status for status in found}
