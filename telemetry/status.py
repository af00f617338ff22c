"""The newest that is known of each unit: one row, locked in the order of ids, advanced and never set back.

Newest means (life in the order first heard, boot, seq) for reports and (life, boot, conn) for
presence. No clock decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import DictRow

from protocol.messages import Mode, PresenceState
from storage.arrays import bools, chars, int2s, int4s, int8s, jsonbs, texts, timestamps
from storage.sql import Connection, execute, load, row, rows, tuples
from telemetry.clocks import Clock
from telemetry.clocks import judge as judge_clock
from telemetry.heartbeats import CODES, MODES, Heartbeat
from telemetry.presence import Evidence, Presence
from telemetry.presence import judge as judge_presence

SQL = load(__file__)


class ReportOrder(NamedTuple):
    """What makes one report newer than another; `life` is the ordinal."""

    life: int
    boot: int
    seq: int


class PresenceOrder(NamedTuple):
    """What makes one presence newer than another; `life` is the ordinal, `conn` 0 when not told."""

    life: int
    boot: int
    conn: int


class Standing(NamedTuple):
    """What a batch must know of a unit: how new the newest is; None where nothing was heard yet."""

    unit_id: int
    report: ReportOrder | None
    reported_life: int | None
    """The life of that report as the unit calls it."""

    presence: PresenceOrder | None
    state: PresenceState | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Standing:
        """Build from a locked row of `unit_status`."""
        unit_id, life, boot, seq, reported_life, presence, *presence_order = row
        return cls(
            unit_id=unit_id,
            report=None if life is None else ReportOrder(life, boot, seq),
            reported_life=reported_life,
            presence=None if presence is None else PresenceOrder(*presence_order),
            state=None if presence is None else PresenceState(presence),
        )


class Contact(NamedTuple):
    """A unit's newest contact: a heartbeat or an ack; `live` unless it had waited in the broker.

    `waited_ms` is how long the gateway has held it: the database dates a live contact back by so much.
    """

    unit_id: int
    at: datetime
    live: bool
    waited_ms: int


class Report(NamedTuple):
    """A unit's newest heartbeat, as the status keeps it, and the contact that came with it."""

    heartbeat: Heartbeat
    next_s: int | None
    live: bool
    """Whether this very report came without having waited."""

    contact: Contact

    @property
    def order(self) -> ReportOrder:
        """How new it is."""
        return ReportOrder(self.heartbeat.life, self.heartbeat.boot, self.heartbeat.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceNews:
    """A unit's newest presence."""

    unit_id: int
    state: PresenceState
    order: PresenceOrder
    at: datetime
    live: bool
    waited_ms: int
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
    readings: dict[str, Any] | None
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
        return cls(
            **row,
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
    wanted = int4s(sorted(set(unit_ids)))
    standings = await tuples(conn, SQL.lock, unit_ids=wanted)
    if len(standings) < len(wanted):
        await execute(conn, SQL.make, unit_ids=wanted)
        standings = await tuples(conn, SQL.lock, unit_ids=wanted)
    return {standing[0]: Standing.from_row(standing) for standing in standings}


async def report(conn: Connection, reports: Iterable[Report]) -> None:
    """Write the newest report and contact of units whose rows are locked; at most one per unit."""
    news = list(reports)
    beats = [new.heartbeat for new in news]
    await execute(
        conn,
        SQL.report,
        unit_ids=int4s([beat.unit_id for beat in beats]),
        lives=int2s([beat.life for beat in beats]),
        boots=int8s([beat.boot for beat in beats]),
        seqs=int8s([beat.seq for beat in beats]),
        reported_ats=timestamps([beat.received_at for beat in beats]),
        unit_tss=int8s([beat.unit_ts for beat in beats]),
        modes=chars([CODES[beat.mode] for beat in beats]),
        epochs=int8s([beat.epoch for beat in beats]),
        outputs=bools([beat.output for beat in beats]),
        next_ss=int8s([new.next_s for new in news]),
        fws=texts([beat.fw for beat in beats]),
        readings=jsonbs([beat.readings for beat in beats]),
        contact_ats=timestamps([new.contact.at for new in news]),
        contact_lives=bools([new.contact.live for new in news]),
        waited_mss=int8s([new.contact.waited_ms for new in news]),
        reported_lives=bools([new.live for new in news]),
    )


async def presence(conn: Connection, news: Iterable[PresenceNews]) -> None:
    """Write the newest presence of units whose rows are locked; at most one per unit."""
    told = list(news)
    await execute(
        conn,
        SQL.presence,
        unit_ids=int4s([new.unit_id for new in told]),
        states=texts([new.state for new in told]),
        ats=timestamps([new.at for new in told]),
        lives=int2s([new.order.life for new in told]),
        boots=int8s([new.order.boot for new in told]),
        conns=int8s([new.order.conn for new in told]),
        fields=jsonbs([new.fields or None for new in told]),
        onlines=bools([new.live and new.state is PresenceState.ONLINE for new in told]),
        waited_mss=int8s([new.waited_ms for new in told]),
    )


async def contact(conn: Connection, contacts: Iterable[Contact]) -> None:
    """Write the newest contact of units whose rows are locked and that brought no report."""
    met = list(contacts)
    await execute(
        conn,
        SQL.contact,
        unit_ids=int4s([one.unit_id for one in met]),
        ats=timestamps([one.at for one in met]),
        lives=bools([one.live for one in met]),
        waited_mss=int8s([one.waited_ms for one in met]),
    )


async def of_unit(conn: Connection, unit_id: int) -> Status | None:
    """Give a unit's newest status; None when it was never heard."""
    return await row(conn, Status.from_row, SQL.of_unit, unit_id=unit_id)


async def of_units(conn: Connection, unit_ids: Iterable[int]) -> dict[int, Status]:
    """Give the status of each unit that was ever heard."""
    found = await rows(conn, Status.from_row, SQL.of_units, unit_ids=list(unit_ids))
    return {status.unit_id: status for status in found}
