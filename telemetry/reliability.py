"""How reliably a unit makes contact: contacts against those that were expected, by the backend's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from registry.units import Unit
from storage.sql import Connection, load, value
from telemetry.heartbeats import NEWEST_S, OLDEST_S

SQL = load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Contacts and expected contacts with since ≤ t < until."""

    since: datetime
    until: datetime
    contacts: int
    expected: int

    @property
    def rate(self) -> float | None:
        """Give the connectivity reliability rate, 0 to 1; None while no contact is due yet."""
        return min(1.0, self.contacts / self.expected) if self.expected else None


async def of_unit(
    conn: Connection, unit: Unit, *, days: int, now: datetime, kept_since: datetime
) -> Reliability:
    """Count a unit's contacts of the last days, but not from before it was enrolled.

    Nor from where some may be gone: heartbeats are kept by the moment at which they stand, from
    `kept_since` on, and a unit's clock may place one up to 45 days before it arrived.
    """
    since = max(now - timedelta(days=days), unit.enrolled_at, kept_since + timedelta(seconds=OLDEST_S))
    contacts = await value(
        conn,
        SQL.contacts,
        unit_id=unit.id,
        since=since,
        until=now,
        oldest_s=OLDEST_S,
        newest_s=NEWEST_S,
    )
    expected = (now - since) // timedelta(seconds=unit.expected_interval_s)
    return Reliability(since=since, until=now, contacts=contacts, expected=max(0, expected))
