"""API tokens: what programs show at the door; only their hash is kept.

A token carries a level and a scope of its own, never more than its account had when it was issued.
At every use the smaller of both counts, for the account may have been lowered or disabled since.
A token that issues another gives no more than it has, of rights and of time: who got hold of it has
nothing after its end. Revoked, it leaves what it issued alone unless that is to end too, for a program
that renews its token revokes the old one.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import DictRow

from registry import accounts, audit, wording
from registry.accounts import Account, AccountDisabled
from registry.audit import Deed
from registry.permissions import Caller, Level, Scope, common, listed, unlisted, within
from runtime.errors import Conflict, Forbidden, Invalid, NotFound
from storage.sql import Connection, execute, load, row, rows

NOTED_EVERY = timedelta(minutes=1)
"""How exactly the last use of a token is known."""

SQL = load(__file__)

PREFIX = "hg_"
SECRET_BYTES = 32
NAME_LIMIT = 100
DAYS = 90
DAYS_LIMIT = 366


class TokenNotAccepted(Forbidden):
    """This API token does not open the door."""


class TokenNotFound(NotFound):
    """There is no such API token."""


class TokenRevoked(Conflict):
    """The API token is revoked already."""


class BadLifetime(Invalid):
    """The lifetime of an API token is out of bounds."""


class BeyondAccount(Invalid):
    """A token cannot have more rights than its account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a token is to be; level and scope default to the account's.

    Without `days` it lives 90 days, or as long as the token that issues it if that is less.
    """

    name: str
    days: int | None = None
    level: Level | None = None
    scope: Scope = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token; not the token itself."""

    id: int
    email: str
    name: str
    level: Level
    scope: Scope
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    issued_by: int | None
    """The token that issued it over the API; None at the command line."""


async def issue(conn: Connection, address: str, terms: Terms, deed: Deed) -> tuple[str, Token]:
    """Issue a token for an account: the token in clear, this once, and what is kept of it.

    Raises `AccountNotFound`, `AccountDisabled`, `BadLifetime` also for more days than the caller's token
    has left, `BeyondAccount`, `LevelTooLow` or `ScopeTooNarrow` when the caller has less than the
    token would, and `TokenNotAccepted` when the caller's was revoked since it was shown.
    """
    name = wording.line(terms.name, "name", NAME_LIMIT)
    expires_at = _end(terms.days, deed)
    issued_by = deed.by.token_id
    # Before the account: whoever notes the use of a token has locked that one first.
    if issued_by is not None and not await execute(conn, SQL.hold, token_id=issued_by):
        raise _refused("It was revoked.", why="revoked")
    account = await accounts.get(conn, address)
    level, scope = terms.level or account.level, terms.scope or account.scope
    _require_within(account, level, scope)
    deed.by.require_rights(level, scope)
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = await row(
        conn,
        _token,
        SQL.issue,
        account_id=account.id,
        name=name,
        token_hash=_hash(secret),
        level=level,
        scope=listed(scope),
        now=deed.now,
        expires_at=expires_at,
        issued_by=issued_by,
    )
    if token is None:
        raise AccountDisabled(f"{account.email} is disabled and gets no token.", email=account.email)
    after = {
        "email": token.email,
        "name": name,
        "level": level,
        "scope": listed(scope),
        "expires_at": expires_at.isoformat(),
        "by_token": issued_by,
    }
    await audit.write(conn, deed, "token_issued", "api_token", token.id, after=after)
    return secret, token


async def revoke(conn: Connection, token_id: int, deed: Deed, *, with_issued: bool = False) -> frozenset[int]:
    """End a token now, or `with_issued` also what it issued, and so on; gives the ids of what ended.

    `TokenNotFound`, or `TokenRevoked` when nothing was left to end. Raises `LevelTooLow` or
    `ScopeTooNarrow` when the caller has less than this token, unless it ends its own alone; what it
    issued has no more than it has.
    """
    token = await by_id(conn, token_id)
    if with_issued or token_id != deed.by.token_id:
        deed.by.require_rights(token.level, token.scope)
    ended: dict[int, str] = {}
    # Once more until nothing is left: one of them may have been issuing another while it was waited for.
    while found := await rows(
        conn, dict, SQL.revoke, token_id=token_id, now=deed.now, with_issued=with_issued
    ):
        ended |= {one["id"]: one["email"] for one in found}
    if not ended:
        raise TokenRevoked(f"Token {token_id} is revoked already.", token_id=token_id)
    for one, email in sorted(ended.items()):
        after = None if one == token_id else {"with": token_id}
        await audit.write(conn, deed, "token_revoked", "api_token", one, before={"email": email}, after=after)
    return frozenset(ended)


async def by_id(conn: Connection, token_id: int) -> Token:
    """Give one token; `TokenNotFound` when there is none."""
    token = await row(conn, _token, SQL.by_id, token_id=token_id)
    if token is None:
        raise not_found(token_id)
    return token


async def page(
    conn: Connection, *, email: str | None = None, after: int = 0, limit: int = 200
) -> list[Token]:
    """Give tokens, of one account or of all, by id, from the one behind `after` on."""
    return await rows(conn, _token, SQL.page, email=email, after=after, limit=limit)


def not_found(token_id: int) -> TokenNotFound:
    """Say that a token does not exist, or not for this caller."""
    return TokenNotFound(f"There is no token {token_id}; `token list` shows all.", token_id=token_id)


async def caller(conn: Connection, secret: str, *, origin: str, now: datetime) -> Caller:
    """Tell who shows this token and what they may now; `TokenNotAccepted` says why not."""
    shown = await row(conn, dict, SQL.shown, token_hash=_hash(secret))
    if shown is None:
        raise _refused("It is not known here.", why="unknown")
    if shown["revoked_at"] is not None:
        raise _refused("It was revoked.", why="revoked")
    if shown["expires_at"] <= now:
        raise _refused("It has expired; have a new one issued.", why="expired")
    if shown["disabled_at"] is not None:
        raise _refused("Its account is disabled.", why="account_disabled")
    if shown["last_used_at"] is None or shown["last_used_at"] < now - NOTED_EVERY:
        await execute(conn, SQL.touch, token_id=shown["id"], now=now, every=NOTED_EVERY)
    return Caller(
        account_id=shown["account_id"],
        email=shown["email"],
        level=min(Level(shown["level"]), Level(shown["account_level"])),
        scope=common(unlisted(shown["scope"]), unlisted(shown["account_scope"])),
        origin=origin,
        token_id=shown["id"],
        until=shown["expires_at"],
    )


def _end(days: int | None, deed: Deed) -> datetime:
    """Give when a token ends: cut to the caller's own end, unless more days were asked for by number."""
    if days is not None and not 1 <= days <= DAYS_LIMIT:
        raise BadLifetime(f"days must be from 1 to {DAYS_LIMIT}.", field="days", given=days)
    end = deed.now + timedelta(days=DAYS if days is None else days)
    until = deed.by.until
    if until is None or end <= until:
        return end
    if days is not None:
        raise BadLifetime(
            f"Your token ends at {until.isoformat()}, and what it issues no later; without days, just then.",
            field="days",
            given=days,
            until=until,
        )
    return until


def _hash(secret: str) -> bytes:
    """Give what is kept: a plain SHA-256 suffices, for the secret is random and long."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _refused(sentence: str, *, why: str) -> TokenNotAccepted:
    return TokenNotAccepted(f"The API token is not accepted. {sentence}", why=why)


def _require_within(account: Account, level: Level, scope: Scope) -> None:
    if level > account.level:
        raise BeyondAccount(
            f"The account {account.email} has the {account.level} level; its token cannot have {level}.",
            field="level",
            have=account.level,
        )
    if not within(scope, account.scope):
        raise BeyondAccount(
            f"The account {account.email} does not reach all of these entities.",
            field="scope",
            have=listed(account.scope),
        )


def _token(found: DictRow) -> Token:
    return Token(
        id=found["id"],
        email=found["email"],
        name=found["name"],
        level=Level(found["level"]),
        scope=unlisted(found["scope"]),
        created_at=found["created_at"],
        expires_at=found["expires_at"],
        revoked_at=found["revoked_at"],
        last_used_at=found["last_used_at"],
        issued_by=found["issued_by"],
    )
