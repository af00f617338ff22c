"""The real ledger of commands, one unit of it, made to undergo what the model undergoes (R14)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from commands import drift, ledger
from commands.dispatcher import Dispatcher, Published, Sending
from commands.docket import Command
from commands.drift import Resolution
from commands.observe import Acked, Reported, observe
from commands.policy import Wish
from commands.reaper import Reaper
from protocol.messages import Ack, AckResult, CommandKind, Heartbeat, Mode
from registry.units import Unit
from runtime import clock
from runtime.errors import Conflict, Forbidden
from runtime.settings import Commands
from storage.pool import Pool
from telemetry import alerts
from telemetry.alerts import Finding, Kind
from telemetry.arrivals import Arrival
from telemetry.record import record
from tests.builders import a_caller, a_deed
from tests.nemesis.wishes import SENDINGS

HOUR_S = 3_600.0
DEADLINES = Commands(
    command_lease_s=HOUR_S,
    command_ack_s=HOUR_S,
    command_pause_s=0.0,
    command_contact_s=24 * HOUR_S,
    command_drift_sendings=SENDINGS,
)
"""Nothing ends by itself while the model is compared: time is an event."""

SETTLED = """
UPDATE unit_alert SET resolved_at = %s, resolved_by = 'nemesis', resolved_because = 'the story goes on'
 WHERE unit_id = %s AND resolved_at IS NULL
"""
LIFE = 1
PINGS_MODE = Mode.ENABLED


class Silent:
    """A publisher that is never asked: claims and answers are events of their own."""

    connected = True

    async def publish(self, topic: str, body: bytes, *, expiry_s: int) -> Published:
        """Fail, for this is not to be called."""
        raise AssertionError((topic, body, expiry_s))


@dataclass(frozen=True, slots=True)
class Stand:
    """Everything that is compared: commands in the order in which they came, and what follows from them."""

    commands: list[tuple[str | None, str, int, int, str | None, str]]
    intent: tuple[int, str | None, int, int]
    drifts: dict[str, tuple[bool, int, bool]]


@dataclass
class RealLedger:
    """One unit's part of a real ledger; `other` is a unit that speaks of what is not its own."""

    pool: Pool
    unit: Unit
    other: Unit
    dispatcher: Dispatcher
    reaping: asyncio.Lock
    """Held by whoever lets time pass: a reaper takes what is overdue of any unit."""

    ids: list[UUID] = field(default_factory=list)
    boot: int = 1
    seq: int = 0

    async def begin(self) -> None:
        """Let the unit report as one that was never told anything."""
        await self.report(Mode.ENABLED, 0)

    async def end(self) -> None:
        """Let nothing of this unit become due any more."""
        await self._sql(
            "UPDATE command SET due_at = expires_at WHERE unit_id = %s AND finished_at IS NULL", self.unit.id
        )

    async def order(self, mode: str | None, *, suspected: bool = False) -> str:
        """Order as a person does."""
        wish = Wish(kind=CommandKind.SET_MODE, mode=Mode(mode)) if mode else Wish(kind=CommandKind.PING)
        try:
            async with self.pool.transaction() as conn:
                if suspected:
                    finding = Finding(self.unit.id, Kind.TWO_UNITS, {})
                    await alerts.raise_all(conn, [finding], now=clock.now())
                ordered = await ledger.order(conn, self.unit, wish, a_deed(), DEADLINES)
                if suspected:
                    await conn.execute(SETTLED, [clock.now(), self.unit.id])
        except Conflict as refused:
            return type(refused).__name__
        return "new" if ordered.new else "same"

    async def cancel(self, place: int) -> str:
        """Take one back."""
        try:
            async with self.pool.transaction() as conn:
                await ledger.cancel(conn, self.ids[place], a_deed())
        except Conflict as refused:
            return type(refused).__name__
        return "done"

    async def approve(self, place: int, *, themselves: bool = False) -> str:
        """Agree to one."""
        deed = a_deed()
        if not themselves:
            deed = a_deed(by=replace(a_caller(), email="grace@example.com"))
        try:
            async with self.pool.transaction() as conn:
                await ledger.approve(conn, self.unit, self.ids[place], deed, DEADLINES)
        except (Conflict, Forbidden) as refused:
            return type(refused).__name__
        return "done"

    async def dismiss(self) -> str:
        """Close every drift that is open."""
        async with self.pool.transaction() as conn:
            for found in await drift.of_unit(conn, self.unit.id, limit=100):
                if found.closed_at is None:
                    await drift.close(conn, found, Resolution.DISMISSED, a_deed())
        return "done"

    async def claim(self) -> str:
        """Lease what is queued, the oldest first."""
        await self._sql(
            "UPDATE command c SET due_at = now() - interval '1 h' + interval '1 s' * ("
            "SELECT count(*) FROM command o WHERE o.unit_id = c.unit_id AND o.id < c.id)"
            " WHERE unit_id = %s AND state = 'queued'",
            self.unit.id,
        )
        await self.dispatcher._claim()  # noqa: SLF001 - between claim and publish
        return "done"

    async def settle(self, place: int, outcome: str, *, late: bool = False) -> str:
        """Write down what the broker said to the newest attempt, or to the one before."""
        command = await self._command(place)
        attempted = replace(command, attempt=command.attempt - late)
        before = command.attempted_at if command.attempt > 1 else None
        sending = Sending(attempted, before, self.unit.imei, 1, None, HOUR_S)
        await self.dispatcher._settle([(sending, Published(outcome))])  # noqa: SLF001 - likewise
        return "done"

    async def lapse(self, place: int) -> str:
        """Let a wait be over, and somebody notice."""
        return await self._reap(
            "UPDATE command SET due_at = now() - interval '1 s' WHERE id = %s"
            " AND state IN ('sending', 'sent', 'acknowledged')",
            self.ids[place],
        )

    async def expire(self, place: int) -> str:
        """Let its life be over, and somebody notice."""
        return await self._reap(
            "UPDATE command SET ordered_at = least(ordered_at, now() - interval '40 d'),"
            " expires_at = now() - interval '1 s' WHERE id = %s AND finished_at IS NULL",
            self.ids[place],
        )

    async def ack(self, place: int, reason: str | None = None, *, foreign: bool = False) -> str:
        """Hear an answer, from the unit itself or from another."""
        command = await self._command(place)
        return await self._hear(_answer(command, reason), self.other if foreign else self.unit)

    async def ack_unknown(self) -> str:
        """Hear an answer to what was never asked."""
        return await self._hear(
            Ack(command_id=uuid7(), attempt=1, epoch=0, result=AckResult.APPLIED, mode=PINGS_MODE)
        )

    async def report(self, mode: str, epoch: int, *, live: bool = True, reboot: bool = False) -> str:
        """Hear a newest heartbeat."""
        self.boot, self.seq = (self.boot + 1, 1) if reboot else (self.boot, self.seq + 1)
        beat = Heartbeat(life=LIFE, boot=self.boot, seq=self.seq, mode=Mode(mode), epoch=epoch)
        await self._hear(beat, live=live)
        return "done"

    async def look(self) -> Stand:
        """Read everything that is compared, and demand what must hold whatever happened."""
        async with self.pool.transaction() as conn:
            found = await _rows(conn, "SELECT * FROM command WHERE unit_id = %s ORDER BY id", self.unit.id)
            [intent] = await _rows(conn, "SELECT * FROM unit_intent WHERE unit_id = %s", self.unit.id) or [{}]
            drifts = await _rows(conn, "SELECT * FROM drift WHERE unit_id = %s ORDER BY id", self.unit.id)
            moves = await _rows(
                conn,
                "SELECT e.* FROM command_event e JOIN command c ON c.id = e.command_id"
                " WHERE c.unit_id = %s ORDER BY e.id",
                self.unit.id,
            )
        known = set(self.ids)
        self.ids += [row["id"] for row in found if row["id"] not in known]
        by_id = {row["id"]: row for row in found}
        _demand_order([by_id[one] for one in self.ids], moves)
        return Stand(
            commands=[_told(by_id[one]) for one in self.ids],
            intent=(
                intent.get("epoch", 0),
                intent.get("desired"),
                intent.get("proven", 0),
                intent.get("floor", 0),
            ),
            drifts={
                row["cause"]: (row["closed_at"] is None, row["sendings"], row["gave_up_at"] is not None)
                for row in drifts
            },
        )

    async def _reap(self, passing: str, command_id: UUID) -> str:
        async with self.reaping:
            await self._sql(passing, command_id)
            await Reaper("gateway", self.pool, DEADLINES).step()
        return "done"

    async def _command(self, place: int) -> Command:
        async with self.pool.transaction() as conn:
            return await ledger.by_id(conn, self.ids[place])

    async def _hear(self, message: Any, speaker: Unit | None = None, *, live: bool = True) -> str:
        """Take a message in as the gateway does; gives the verdict on an ack."""
        unit, now = speaker or self.unit, clock.now()
        async with self.pool.transaction() as conn:
            recorded = await record(conn, [Arrival(unit.id, message, now, live)], now=now)
            verdicts = await observe(
                conn,
                acks=[Acked(unit_id=unit.id, ack=message)] if isinstance(message, Ack) else [],
                reports=[
                    Reported(
                        report.heartbeat.unit_id,
                        report.heartbeat.epoch,
                        report.heartbeat.mode,
                        report.heartbeat.boot,
                        report.heartbeat.seq,
                        now,
                        report.live,
                    )
                    for report in recorded.reports
                ],
                listening=recorded.listening,
                actor="gateway",
                settings=DEADLINES,
            )
        return str(verdicts[0]) if verdicts else "done"

    async def _sql(self, statement: str, *values: object) -> None:
        async with self.pool.transaction() as conn:
            await conn.execute(statement.encode(), values)


def _answer(command: Command, reason: str | None) -> Ack:
    return Ack(
        command_id=command.id,
        attempt=max(1, command.attempt),
        epoch=command.epoch,
        result=AckResult.REFUSED if reason else AckResult.APPLIED,
        reason=reason,
        mode=command.mode or PINGS_MODE,
    )


def _told(row: dict[str, Any]) -> tuple[str | None, str, int, int, str | None, str]:
    return row["mode"], row["state"], row["epoch"], row["attempt"], row["refusal"], row["origin"]


def _demand_order(commands: Sequence[dict[str, Any]], moves: Sequence[dict[str, Any]]) -> None:
    """Demand what needs no model: one wish at a time, and a history without a gap."""
    under_way = [row for row in commands if row["mode"] and row["finished_at"] is None]
    counting = [row for row in under_way if row["state"] != "awaiting_approval"]
    assert len(counting) <= 1, "two wishes are under way at once"
    assert len(under_way) - len(counting) <= 1, "two wishes wait for approval at once"
    epochs = [row["epoch"] for row in commands if row["epoch"]]
    assert len(epochs) == len(set(epochs)), "an epoch was given twice"
    state: dict[UUID, str | None] = {}
    for move in moves:
        assert move["from_state"] == state.get(move["command_id"]), f"the history has a gap before {move}"
        state[move["command_id"]] = move["to_state"]
    assert state == {row["id"]: row["state"] for row in commands}, "the history does not end where it stands"


async def _rows(conn: Any, statement: str, *values: object) -> list[dict[str, Any]]:
    cursor = await conn.execute(statement, values)
    found: list[dict[str, Any]] = await cursor.fetchall()
    return found
