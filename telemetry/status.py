"""The newest that is known of each unit: one row, locked in the order of ids, advanced and never set back.

Newest means (life in the order first heard, boot, seq) for reports and (life, boot, conn) for
presence. No clock decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg.rows import DictRow

from protocol.messages import Mode, PresenceState
from storage.sql import Connection, execute, load, row, rows
from telemetry.heartbeats import CODES, MODES, Heartbeat

SILENT_INTERVALS = 2
"""Expected intervals without contact after which a unit is not online, whatever was said."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a batch must know of a unit: how new the newest is; None where nothing was heard yet."""

    unit_id: int
    report: ReportOrder | None
    presence: PresenceOrder | None
    state: PresenceState | None

    @classmethod
    def from_row(cls, row: DictRow) -> Standing:
        """Build from a locked row of `unit_status`."""
        presence = row["presence"]
        return cls(
            unit_id=row["unit_id"],
            report=None if row["life"] is None else ReportOrder(row["life"], row["boot"], row["seq"]),
            presence=None
            if presence is None
            else PresenceOrder(row["presence_life"], row["presence_boot"], row["presence_conn"]),
            state=None if presence is None else PresenceState(presence),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A unit's newest heartbeat, as the status keeps it."""

    heartbeat: Heartbeat
    next_s: int | None

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
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A unit's newest contact: a heartbeat or an ack; `live` unless it had waited in the broker."""

    unit_id: int
    at: datetime
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything the status row tells; None where the unit has not told it yet."""

    unit_id: int
    contact_at: datetime | None
    reported_at: datetime | None
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

    @classmethod
    def from_row(cls, row: DictRow) -> Status:
        """Build from a row of `unit_status`."""
        mode, presence = row.pop("mode"), row.pop("presence")
        return cls(
            **row,
            mode=None if mode is None else MODES[mode],
            presence=None if presence is None else PresenceState(presence),
        )

    def present(self, expected_interval_s: int, now: datetime) -> PresenceState | None:
        """Tell whether the unit is believed to be online: its word, as long as contact bears it out."""
        if self.presence is None or self.presence_at is None:
            return None
        heard = max(self.presence_at, self.contact_at or self.presence_at)
        silent = now - heard > SILENT_INTERVALS * timedelta(seconds=expected_interval_s)
        return PresenceState.OFFLINE if silent else self.presence


async def lock(conn: Connection, unit_ids: Iterable[int]) -> dict[int, Standing]:
    """Lock the units' rows until the transaction ends, in the order of ids; missing ones are made."""
    wanted = sorted(set(unit_ids))
    standings = await rows(conn, Standing.from_row, SQL.lock, unit_ids=wanted)
    if len(standings) < len(wanted):
        await execute(conn, SQL.make, unit_ids=wanted)
        standings = await rows(conn, Standing.from_row, SQL.lock, unit_ids=wanted)
    return {standing.unit_id: standing for standing in standings}


async def report(conn: Connection, reports: Iterable[Report]) -> None:
    """Write the newest report of units whose rows are locked; at most one per unit."""
    news = list(reports)
    beats = [new.heartbeat for new in news]
    await execute(
        conn,
        SQL.report,
        unit_ids=[beat.unit_id for beat in beats],
        lives=[beat.life for beat in beats],
        boots=[beat.boot for beat in beats],
        seqs=[beat.seq for beat in beats],
        reported_ats=[beat.received_at for beat in beats],
        unit_tss=[beat.unit_ts for beat in beats],
        modes=[CODES[beat.mode] for beat in beats],
        epochs=[beat.epoch for beat in beats],
        outputs=[beat.output for beat in beats],
        next_ss=[new.next_s for new in news],
        fws=[beat.fw for beat in beats],
        readings=[json.dumps(beat.readings) for beat in beats],
    )


async def presence(conn: Connection, news: Iterable[PresenceNews]) -> None:
    """Write the newest presence of units whose rows are locked; at most one per unit."""
    told = list(news)
    await execute(
        conn,
        SQL.presence,
        unit_ids=[new.unit_id for new in told],
        states=[str(new.state) for new in told],
        ats=[new.at for new in told],
        lives=[new.order.life for new in told],
        boots=[new.order.boot for new in told],
        conns=[new.order.conn for new in told],
        fields=[json.dumps(new.fields) if new.fields else None for new in told],
    )


async def contact(conn: Connection, contacts: Iterable[Contact]) -> None:
    """Write the newest contact of units whose rows are locked; at most one per unit."""
    met = list(contacts)
    await execute(
        conn,
        SQL.contact,
        unit_ids=[one.unit_id for one in met],
        ats=[one.at for one in met],
        lives=[one.live for one in met],
    )


async def of_unit(conn: Connection, unit_id: int) -> Status | None:
    """Give a unit's newest status; None when it was never heard."""
    return await row(conn, Status.from_row, SQL.of_unit, unit_id=unit_id)


async def of_units(conn: Connection, unit_ids: Iterable[int]) -> dict[int, Status]:
    """Give the status of each unit that was ever heard."""
    found = await rows(conn, Status.from_row, SQL.of_units, unit_ids=list(unit_ids))
    return {status.unit_id: status for status in found}
