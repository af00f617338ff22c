"""What people decide about dead letters, and what came of it.

People mark and discard; a gateway takes in anew what is marked. One person decides at a time; the
rows of `dead_letter` itself are never locked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from protocol.reasons import Reason
from registry import audit
from registry.audit import Deed
from runtime.errors import Conflict, Invalid
from runtime.settings import Keeping
from storage.sql import Connection, execute, load, rows, value
from telemetry import dead_letters
from telemetry.dead_letters import DeadLetter, Filter, State
from telemetry.heartbeats import OLDEST_S

MOST = 10_000
"""So many are decided in one transaction; whoever wants more asks again."""

MARGIN = timedelta(seconds=OLDEST_S, days=2)
"""A message reaches back so far behind its arrival; two days are for a gateway that is away."""

MOVES: Mapping[State, frozenset[State]] = {
    State.OPEN: frozenset({State.MARKED, State.DISCARDED}),
    State.MARKED: frozenset(),  # a gateway has it in its hands
    State.REPLAYED: frozenset({State.MARKED}),
    State.DISCARDED: frozenset({State.MARKED}),
}
"""What a person may decide; `replayed` is the gateway's, and what comes again is open by itself."""

SQL = load(__file__)


class NotReplayable(Conflict):
    """This dead letter cannot be taken in once more."""


class DecidedAlready(Conflict):
    """This dead letter does not stand where that could be decided."""


class NothingChosen(Invalid):
    """It is not said which dead letters are meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """How many dead letters were decided about; `more` when others fit that were too many for once.

    `not_replayable` are the open ones that fit and cannot be replayed.
    """

    number: int
    not_replayable: int
    more: bool


class Marked(NamedTuple):
    """A message that is to be taken in once more; `id` is the decision's."""

    id: int
    topic: str
    body: bytes
    first_at: datetime


def chosen(which: Filter, *, everything: bool) -> Filter:
    """Give the filter if it narrows, or if everything is asked for in so many words; never both."""
    if which.narrows == everything:
        raise NothingChosen("Give at least one of reason, imei, after and before, or say that all are meant.")
    return which


def oldest(keeping: Keeping, now: datetime) -> datetime:
    """Give the first arrival from which on a replayed message still finds the days of its heartbeats."""
    return now - timedelta(days=keeping.keep_heartbeats_days) + MARGIN


def obstacle(letter: DeadLetter, since: datetime) -> str | None:
    """Tell why a dead letter cannot be replayed, if it cannot; `since` is `oldest`."""
    if letter.reason is Reason.MALFORMED_PACKET:
        return "It is an MQTT packet that could not be read, not a message."
    if letter.reason is Reason.TOO_LARGE:
        return "It is larger than any message may be; only its beginning was kept."
    if not letter.is_message:
        return "It is a piece of a message whose other parts were taken; alone it lacks boot and mode."
    if letter.first_at < since:
        return "It came first so long ago that the days of its heartbeats may be gone."
    return None


async def mark(conn: Connection, number: int, deed: Deed, since: datetime) -> DeadLetter:
    """Have one taken in once more."""
    return await _decide(conn, number, State.MARKED, deed, since)


async def discard(conn: Connection, number: int, deed: Deed) -> DeadLetter:
    """Close one as nothing to be done about."""
    return await _decide(conn, number, State.DISCARDED, deed)


async def mark_all(conn: Connection, which: Filter, deed: Deed, since: datetime) -> Decided:
    """Have the open ones that fit taken in once more, as far as they can be."""
    decided = await _decide_all(conn, which, State.MARKED, deed, since)
    await execute(conn, SQL.notify)
    return decided


async def discard_all(conn: Connection, which: Filter, deed: Deed) -> Decided:
    """Close the open ones that fit."""
    return await _decide_all(conn, which, State.DISCARDED, deed, None)


async def waiting(conn: Connection, *, most: int, besides: Iterable[int] = ()) -> list[Marked]:
    """List what is marked besides some, the oldest marks first; locks nothing."""
    return await rows(conn, lambda row: Marked(**row), SQL.waiting, most=most, besides=list(besides))


async def take(conn: Connection, ids: Iterable[int]) -> set[int]:
    """Lock those marks that still stand and that no other gateway is at."""
    return set(await rows(conn, lambda row: row["id"], SQL.take, ids=list(ids)))


async def close(conn: Connection, verdicts: Mapping[int, str]) -> None:
    """Write down what became of marks that are taken, in the transaction that took their messages in."""
    await execute(conn, SQL.close, ids=list(verdicts), verdicts=[str(one) for one in verdicts.values()])


async def _decide(
    conn: Connection, number: int, state: State, deed: Deed, since: datetime | None = None
) -> DeadLetter:
    deed.require_reason()
    await execute(conn, SQL.lock)
    letter = await dead_letters.by_id(conn, number)
    if state not in MOVES[letter.state]:
        raise DecidedAlready(
            f"Dead letter {number} is {letter.state}; it cannot be {state}.", id=number, state=letter.state
        )
    if since is not None and (why := obstacle(letter, since)):
        raise NotReplayable(why, id=number, reason=letter.reason, path=letter.path)
    await execute(conn, SQL.decide_one, id=number, **_decision(state, deed))
    if state is State.MARKED:
        await execute(conn, SQL.notify)
    await audit.write(
        conn,
        deed,
        f"dead_letter_{state}",
        "dead_letter",
        number,
        before={"state": letter.state},
        after={"state": state},
    )
    return await dead_letters.by_id(conn, number)


async def _decide_all(
    conn: Connection, which: Filter, state: State, deed: Deed, since: datetime | None
) -> Decided:
    deed.require_reason()
    await execute(conn, SQL.lock)
    number = await execute(
        conn, SQL.decide_many, most=MOST, oldest=since, **_decision(state, deed), **which.given
    )
    left = 0 if since is None else await value(conn, SQL.not_replayable, oldest=since, **which.given)
    meant = {name: str(one) for name, one in which.given.items() if one is not None}
    await audit.write(
        conn, deed, f"dead_letters_{state}", "dead_letter", "all", after={"filter": meant, "number": number}
    )
    return Decided(number=number, not_replayable=left, more=number == MOST)


def _decision(state: State, deed: Deed) -> dict[str, object]:
    return {"state": str(state), "at": deed.now, "by": deed.by.email, "why": deed.reason}
