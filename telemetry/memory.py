"""An operator's word that a unit has lost its memory: a later life begins without waiting for the proof."""

from __future__ import annotations

from datetime import datetime

from registry import audit
from registry.audit import Deed
from registry.permissions import Level
from registry.units import Unit
from runtime.errors import Conflict
from storage.sql import Connection
from telemetry import alerts, continuity, doubts, lives, status
from telemetry.alerts import Finding, Kind
from telemetry.course import Beginning
from telemetry.doubts import Held
from telemetry.lives import Began, Life
from telemetry.status import Standing


class NeverHeard(Conflict):
    """The unit was never heard."""


class LivesExhausted(Conflict):
    """The unit has had as many lives as are told apart."""


async def lost(conn: Connection, unit: Unit, deed: Deed) -> Began:
    """Begin a later life of the number under which the unit reported last, unless one is begun already.

    Takes the technical level and a reason. Raises `NeverHeard`, `LivesExhausted`.
    """
    deed.by.require(Level.TECHNICAL)
    deed.require_reason()
    standings = await status.lock(conn, {unit.id})
    standing = standings[unit.id]
    before = None if standing.life is None else await lives.latest(conn, unit.id, standing.life)
    if standing.life is None or before is None:
        raise NeverHeard(f"{unit.serial_number} never sent a heartbeat: there is no life that could be over.")
    if before.ordinal > standing.life:
        return before  # and the unit has said nothing since
    ordinal = (await lives.counts(conn, [unit.id]))[unit.id] + 1
    if ordinal > lives.MOST:
        raise LivesExhausted(f"{unit.serial_number} has had {lives.MOST} lives.", limit=lives.MOST)
    beginning = Beginning(Life(unit.id, before.life), ordinal, await _held(conn, standing, now=deed.now))
    await status.run(conn, await continuity.begin(conn, [beginning], standings, now=deed.now))
    told = {"life": before.life, "begun": ordinal}
    await alerts.raise_all(
        conn, [Finding(unit.id, Kind.MEMORY_LOST, told | {"said_by": deed.by.email})], now=deed.now
    )
    await audit.write(conn, deed, "life_begun", "unit", unit.id, after=told)
    return Began(ordinal, before.life, deed.now)


async def _held(conn: Connection, standing: Standing, *, now: datetime) -> tuple[Held, ...]:
    """Give what is held back of the newest life, while more of it would still show that it is over."""
    doubt = (await doubts.of_units(conn, [standing.unit_id])).get(standing.unit_id)
    if doubt is None or doubt.last[0] != standing.life or doubt.lapsed(now) or standing.beyond(doubt.against):
        return ()
    return doubt.held
