"""What could not be taken, kept with its reason and bytes; the same thing again only counts up.

What people decided about one holds until the same comes again: then it is open again. The day's
share bounds what a broken unit can fill the disk with; beyond it is counted and nothing more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from psycopg.rows import DictRow

from protocol.codec import MAX_BODY
from protocol.reasons import Reason
from runtime.errors import NotFound
from storage.sql import Connection, execute, load, row, rows

SHARE = 2_000
"""So many different dead letters of an IMEI and day are kept: a stranger may report every minute."""

KEPT_BYTES = MAX_BODY + 1
"""Of a longer body so much is kept: it is too large, and can be seen to be."""

SQL = load(__file__)


class DeadLetterNotFound(NotFound):
    """There is no such dead letter."""


class State(StrEnum):
    """Where a dead letter stands."""

    OPEN = "open"
    """Nobody decided about it, or it came again since."""

    MARKED = "marked"
    """A gateway is about to take it in once more."""

    REPLAYED = "replayed"
    DISCARDED = "discarded"


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
class Fate:
    """The newest decision about a dead letter, and what came of a replay: a verdict on its message."""

    decision: State
    decided_at: datetime
    decided_by: str
    why: str
    replayed_at: datetime | None
    verdict: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One kept dead letter; `times` it came between `first_at` and `last_at`.

    `is_message` when all of a message is here: no piece of one, no packet that is none.
    """

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
    is_message: bool
    state: State
    fate: Fate | None

    @classmethod
    def from_row(cls, row: DictRow) -> DeadLetter:
        """Build from a row of `dead_letter_with_fate`."""
        fate = {name: row.pop(name) for name in Fate.__slots__}
        del row["fingerprint"]
        typed = {
            "reason": Reason(row["reason"]),
            "state": State(row["state"]),
            "fate": fate["decision"] and Fate(**fate | {"decision": State(fate["decision"])}),
        }
        return cls(**row | typed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which dead letters: all that fit everything given; `after` ≤ first arrival < `before`."""

    reason: Reason | None = None
    imei: str | None = None
    after: datetime | None = None
    before: datetime | None = None

    @property
    def narrows(self) -> bool:
        """Whether anything is given."""
        return any(value is not None for value in self.given.values())

    @property
    def given(self) -> dict[str, object]:
        """What is asked for, by name, as the database takes it."""
        return {
            "reason": None if self.reason is None else str(self.reason),
            "imei": self.imei,
            "after": self.after,
            "before": self.before,
        }


class Stranger(NamedTuple):
    """An IMEI that speaks and is not enrolled."""

    imei: str
    first_at: datetime
    last_at: datetime
    messages: int


class Overflow(NamedTuple):
    """What is only counted of an IMEI (None: of no IMEI) and a reason."""

    imei: str | None
    reason: Reason
    first_at: datetime
    last_at: datetime
    times: int


async def keep(conn: Connection, losses: Iterable[Loss], *, gateway: str, share: int = SHARE) -> None:
    """Keep dead letters, each once; in one order everywhere, so that two gateways never block each other.

    For the same reason call it once in a transaction, after everything else that locks rows.
    """
    by_print: dict[bytes, list[Loss]] = {}
    for loss in losses:
        by_print.setdefault(loss.fingerprint, []).append(loss)
    if not by_print:
        return
    prints = sorted(by_print)
    last = [by_print[fingerprint][-1] for fingerprint in prints]
    kept = await rows(
        conn,
        lambda row: row["fingerprint"],
        SQL.keep,
        share=share,
        gateway=gateway,
        fingerprints=prints,
        first_ats=[by_print[fingerprint][0].received_at for fingerprint in prints],
        last_ats=[loss.received_at for loss in last],
        times=[len(by_print[fingerprint]) for fingerprint in prints],
        topics=[_storable(loss.topic) for loss in last],
        imeis=[loss.imei for loss in last],
        unit_ids=[loss.unit_id for loss in last],
        reasons=[str(loss.reason) for loss in last],
        paths=[_storable(loss.path) for loss in last],
        details=[_storable(loss.detail) for loss in last],
        bodies=[loss.body[:KEPT_BYTES] for loss in last],
    )
    if rest := by_print.keys() - set(kept):
        await _count_only(conn, [loss for fingerprint in rest for loss in by_print[fingerprint]])


async def page(
    conn: Connection,
    *,
    limit: int,
    before_id: int | None = None,
    state: State | None = None,
    which: Filter | None = None,
) -> list[DeadLetter]:
    """List dead letters, newest first; `before_id` is the id of the last one of the page before."""
    return await rows(
        conn,
        DeadLetter.from_row,
        SQL.page,
        limit=limit,
        before_id=before_id,
        state=None if state is None else str(state),
        **(which or Filter()).given,
    )


async def by_id(conn: Connection, number: int) -> DeadLetter:
    """Give one dead letter or raise `DeadLetterNotFound`."""
    letter = await row(conn, DeadLetter.from_row, SQL.by_id, id=number)
    if letter is None:
        raise DeadLetterNotFound(f"There is no dead letter {number}.", id=number)
    return letter


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


async def overflow(
    conn: Connection, *, limit: int, after: tuple[str | None, str] = ("", "")
) -> list[Overflow]:
    """List what is only counted; `after` is (imei, reason) of the last one of the page before."""
    imei, reason = after
    return await rows(
        conn,
        lambda row: Overflow(**row | {"reason": Reason(row["reason"])}),
        SQL.overflow,
        limit=limit,
        imei=imei or "",
        reason=reason,
    )


async def _count_only(conn: Connection, losses: list[Loss]) -> None:
    await execute(
        conn,
        SQL.count_only,
        imeis=[loss.imei for loss in losses],
        reasons=[str(loss.reason) for loss in losses],
        ats=[loss.received_at for loss in losses],
    )


def _storable(text: str) -> str:
    """Show what no text column takes: a NUL, which only a broker that breaks the protocol would pass on."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}")
