"""People who may call, known by their e-mail address: with which level and scope, and whether still."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from email_validator import EmailNotValidError, validate_email
from psycopg.rows import DictRow

from registry import audit, entities
from registry.audit import Deed
from registry.permissions import Caller, Level, Scope, listed, unlisted
from runtime.errors import Conflict, Invalid, NotFound
from storage.sql import Connection, execute, load, row, rows

SQL = load(__file__)


class NotAnEmail(Invalid):
    """This is not an e-mail address."""


class AccountExists(Conflict):
    """There is an account of this e-mail address already."""


class AccountNotFound(NotFound):
    """There is no such account."""


class AccountNotDisabled(Conflict):
    """The account is not disabled."""


class AccountDisabled(Conflict):
    """The account is disabled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One person's rights."""

    id: int
    email: str
    level: Level
    scope: Scope
    created_at: datetime
    disabled_at: datetime | None


def email(text: str) -> str:
    """Give an address in its one form: checked, without DNS, and in lower case."""
    try:
        return validate_email(text, check_deliverability=False).normalized.lower()
    except EmailNotValidError as error:
        raise NotAnEmail(f"This is not an e-mail address: {error}", field="email", given=text) from None


async def add(conn: Connection, address: str, level: Level, scope: Scope, deed: Deed) -> Account:
    """Add an account with no more rights than its maker has.

    Raises `NotAnEmail`, `AccountExists`, `EntityNotFound`, `LevelTooLow`, `ScopeTooNarrow`.
    """
    address = email(address)
    await _require_rights(conn, level, scope, by=deed.by)
    account = await row(
        conn, _account, SQL.add, email=address, level=level, scope=listed(scope), now=deed.now
    )
    if account is None:
        raise AccountExists(f"{address} has an account; `account change` changes what it may.", email=address)
    await audit.write(conn, deed, "account_added", "account", account.id, after=_rights(account))
    return account


async def change(conn: Connection, address: str, level: Level, scope: Scope, deed: Deed) -> Account:
    """Give an account other rights; its tokens follow at their next use.

    The caller must hold both what the account had and what it gets.
    """
    before = await get(conn, address)
    deed.by.require_rights(before.level, before.scope)
    await _require_rights(conn, level, scope, by=deed.by)
    await execute(conn, SQL.change, account_id=before.id, level=level, scope=listed(scope))
    account = replace(before, level=level, scope=scope)
    await audit.write(
        conn, deed, "account_changed", "account", account.id, before=_rights(before), after=_rights(account)
    )
    return account


async def disable(conn: Connection, address: str, deed: Deed) -> Account:
    """Bar an account and with it every token of it; `AccountDisabled` when it is barred already."""
    account = await get(conn, address)
    deed.by.require_rights(account.level, account.scope)
    if not await execute(conn, SQL.disable, account_id=account.id, now=deed.now):
        raise AccountDisabled(f"{account.email} is disabled already.", email=account.email)
    await audit.write(conn, deed, "account_disabled", "account", account.id)
    return replace(account, disabled_at=deed.now)


async def enable(conn: Connection, address: str, deed: Deed) -> Account:
    """Let an account in again, and with it those tokens of it that are neither revoked nor over.

    `AccountNotDisabled` when it is not barred.
    """
    account = await get(conn, address)
    deed.by.require_rights(account.level, account.scope)
    if not await execute(conn, SQL.enable, account_id=account.id):
        raise AccountNotDisabled(f"{account.email} is not disabled.", email=account.email)
    await audit.write(conn, deed, "account_enabled", "account", account.id)
    return replace(account, disabled_at=None)


async def get(conn: Connection, address: str) -> Account:
    """Give the account of an e-mail address; `AccountNotFound` when there is none."""
    account = await row(conn, _account, SQL.by_email, email=email(address))
    if account is None:
        raise AccountNotFound(f"{address} has no account; `account list` shows all.", email=address)
    return account


async def page(conn: Connection, *, after: int = 0, limit: int = 200) -> list[Account]:
    """Give accounts by id, from the one behind `after` on."""
    return await rows(conn, _account, SQL.page, after=after, limit=limit)


async def _require_rights(conn: Connection, level: Level, scope: Scope, *, by: Caller) -> None:
    if scope is not None:
        await entities.require(conn, scope, scope=by.scope)
    by.require_rights(level, scope)


def _rights(account: Account) -> audit.Facts:
    return {"email": account.email, "level": account.level, "scope": listed(account.scope)}


def _account(found: DictRow) -> Account:
    return Account(
        id=found["id"],
        email=found["email"],
        level=Level(found["level"]),
        scope=unlisted(found["scope"]),
        created_at=found["created_at"],
        disabled_at=found["disabled_at"],
    )
