"""The same request twice is done once: what a key was answered, kept with the work it answers for.

Keys belong to an account. The answer is written in the transaction of the work, so a call that
failed leaves its key free. Answers are kept in clear: a secret shown once must not be among them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg.errors import LockNotAvailable
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from registry import wording
from registry.permissions import Caller
from runtime.errors import Conflict
from storage.sql import Connection, at_once, execute, load

SQL = load(__file__)

KEY_LIMIT = 200


class IdempotencyKeyReused(Conflict):
    """This Idempotency-Key was used for another request."""


class IdempotencyKeyInUse(Conflict):
    """A request with this Idempotency-Key is still being worked on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as far as its sameness goes."""

    key: str
    route: str
    body: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the body."""
        return hashlib.sha256(self.body).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request was answered."""

    status: int
    body: object


async def claim(conn: Connection, caller: Caller, request: Request) -> Answer | None:
    """Give the answer of an earlier call; None makes the work ours, until this transaction ends.

    A second call of the same key waits here for the first one. Raises `IdempotencyKeyReused`, or
    `IdempotencyKeyInUse` when the first call takes longer than the connection waits for a lock.
    """
    key = wording.line(request.key, "Idempotency-Key", KEY_LIMIT)
    named = {"account_id": caller.account_id, "key": key}
    try:
        _, kept = await at_once(conn, (SQL.lock, named), (SQL.kept, named))
    except LockNotAvailable:
        raise IdempotencyKeyInUse(
            "The first call of this key is still at work; try again.", key=key
        ) from None
    if not kept:
        return None
    route, digest, answer = _kept(kept[0])
    if (route, digest) != (request.route, request.digest):
        raise IdempotencyKeyReused("Use a new Idempotency-Key for a new request.", key=key)
    return answer


async def keep(conn: Connection, caller: Caller, request: Request, answer: Answer) -> None:
    """Keep the answer, in the transaction that claimed the key and did the work."""
    await execute(
        conn,
        SQL.keep,
        account_id=caller.account_id,
        key=wording.line(request.key, "Idempotency-Key", KEY_LIMIT),
        route=request.route,
        request_hash=request.digest,
        status=answer.status,
        answer=Jsonb(answer.body),
    )


def _kept(found: DictRow) -> tuple[str, bytes, Answer]:
    return found["route"], found["request_hash"], Answer(status=found["status"], body=found["answer"])
