"""What could not be taken, kept with its reason and bytes; the same thing again only counts up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import DictRow

from protocol.reasons import Reason
from storage.sql import Connection, execute, load, row, rows

SQL = load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that is about to become a dead letter.

    `body` holds the lost bytes: the whole message, or as JSON text the reading or backlog entry
    that `path` (JSON pointer) points to. `unit_id` is None when no unit of ours was named.
    """

    topic: str
    imei: str | None
    unit_id: int | None
    reason: Reason
    path: str
    detail: str
    body: bytes
    received_at: datetime

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 over all that makes two of them the same."""
        whole = hashlib.sha256()
        for part in (self.topic.encode(), self.reason.encode(), self.path.encode(), self.body):
            whole.update(len(part).to_bytes(8, "big") + part)
        return whole.digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One kept dead letter; `times` it came between `first_at` and `last_at`."""

    id: int
    first_at: datetime
    last_at: datetime
    times: int
    gateway: str
    topic: str
    imei: str | None
    unit_id: int | None
    reason: Reason
    path: str
    detail: str
    body: bytes

    @classmethod
    def from_row(cls, row: DictRow) -> DeadLetter:
        """Build from a row of `dead_letter`."""
        return cls(**{**row, "reason": Reason(row["reason"])})


class Stranger(NamedTuple):
    """An IMEI that speaks and is not enrolled."""

    imei: str
    first_at: datetime
    last_at: datetime
    messages: int


async def keep(conn: Connection, losses: Iterable[Loss], *, gateway: str) -> None:
    """Keep dead letters, each once; in one order everywhere, so that two gateways never block each other."""
    by_print: dict[bytes, list[Loss]] = {}
    for loss in losses:
        by_print.setdefault(loss.fingerprint, []).append(loss)
    if not by_print:
        return
    kept = sorted(by_print.items())
    last = [same[-1] for _, same in kept]
    await execute(
        conn,
        SQL.keep,
        gateway=gateway,
        fingerprints=[fingerprint for fingerprint, _ in kept],
        first_ats=[same[0].received_at for _, same in kept],
        last_ats=[loss.received_at for loss in last],
        times=[len(same) for _, same in kept],
        topics=[_storable(loss.topic) for loss in last],
        imeis=[loss.imei for loss in last],
        unit_ids=[loss.unit_id for loss in last],
        reasons=[str(loss.reason) for loss in last],
        paths=[_storable(loss.path) for loss in last],
        details=[_storable(loss.detail) for loss in last],
        bodies=[loss.body for loss in last],
    )


async def page(
    conn: Connection,
    *,
    limit: int,
    before: int | None = None,
    reason: Reason | None = None,
    imei: str | None = None,
) -> list[DeadLetter]:
    """List dead letters, newest first; `before` is the id of the last one of the page before."""
    return await rows(
        conn,
        DeadLetter.from_row,
        SQL.page,
        limit=limit,
        before=before,
        reason=None if reason is None else str(reason),
        imei=imei,
    )


async def by_id(conn: Connection, number: int) -> DeadLetter | None:
    """Give one dead letter."""
    return await row(conn, DeadLetter.from_row, SQL.by_id, id=number)


async def strangers(
    conn: Connection, *, limit: int, before: tuple[datetime, str] | None = None
) -> list[Stranger]:
    """List the IMEIs that speak and are not enrolled, most recent first: candidates for enrolment.

    `before` is (last_at, imei) of the last one of the page before.
    """
    last_at, imei = before or (None, None)
    return await rows(
        conn,
        lambda row: Stranger(**row),
        SQL.strangers,
        reason=str(Reason.UNKNOWN_UNIT),
        limit=limit,
        last_at=last_at,
        imei=imei,
    )


def _storable(text: str) -> str:
    """Show what no text column takes: a NUL, which only a broker that breaks the protocol would pass on."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}")
