"""The commands about people and programs: `registry account …` and `registry token …`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from registry import accounts, tokens
from registry.accounts import Account
from registry.entities import BIGINT_MAX
from registry.permissions import Level, Scope, listed
from registry.terminal import AsJson, Reason, Record, tell, tell_all, transact, whole
from registry.tokens import Terms, Token

account = typer.Typer(no_args_is_help=True, help="People who may call.")
token = typer.Typer(no_args_is_help=True, help="What programs show at the door.")

Email = Annotated[str, typer.Argument(metavar="EMAIL")]
ItsLevel = Annotated[Level, typer.Option("--level", help="How much it may; each includes the ones before.")]
Everywhere = Annotated[bool, typer.Option("--global", help="It sees every entity.")]
Entities = Annotated[list[int] | None, typer.Option("--entity", min=1, help="It sees this one; repeatable.")]


def _scope(ids: list[int] | None, *, everywhere: bool) -> Scope:
    if everywhere == bool(ids):
        raise typer.BadParameter("give --global, or --entity once or more", param_hint="--global / --entity")
    return None if everywhere else frozenset(ids or ())


@account.command("add")
def add_account(
    email: Email,
    level: ItsLevel,
    *,
    everywhere: Everywhere = False,
    entity: Entities = None,
    as_json: AsJson = False,
) -> None:
    """Let a person in."""
    scope = _scope(entity, everywhere=everywhere)
    made = transact(lambda conn, deed: accounts.add(conn, email, level, scope, deed), as_json=as_json)
    tell(_told(made, as_json=as_json), as_json=as_json)


@account.command("change")
def change_account(
    email: Email,
    level: ItsLevel,
    *,
    everywhere: Everywhere = False,
    entity: Entities = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Give a person other rights; their tokens follow at the next use."""
    scope = _scope(entity, everywhere=everywhere)
    made = transact(
        lambda conn, deed: accounts.change(conn, email, level, scope, deed), as_json=as_json, reason=reason
    )
    tell(_told(made, as_json=as_json), as_json=as_json)


@account.command("disable")
def disable_account(email: Email, *, reason: Reason = "", as_json: AsJson = False) -> None:
    """Bar a person, and every token of theirs."""
    barred = transact(lambda conn, deed: accounts.disable(conn, email, deed), as_json=as_json, reason=reason)
    tell(_told(barred, as_json=as_json), as_json=as_json)


@account.command("enable")
def enable_account(email: Email, *, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a person in again, with what is left of their tokens."""
    let_in = transact(lambda conn, deed: accounts.enable(conn, email, deed), as_json=as_json, reason=reason)
    tell(_told(let_in, as_json=as_json), as_json=as_json)


@account.command("list")
def list_accounts(*, as_json: AsJson = False) -> None:
    """List everybody, the disabled too."""
    everybody = transact(
        lambda conn, _deed: whole(lambda after: accounts.page(conn, after=after)), as_json=as_json
    )
    tell_all([_told(one, as_json=as_json) for one in everybody], as_json=as_json)


@token.command("issue")
def issue_token(
    email: Email,
    *,
    name: Annotated[str, typer.Option(help="What it is for.")],
    days: Annotated[int, typer.Option(min=1, max=tokens.DAYS_LIMIT, help="How long it lives.")] = 90,
    level: Annotated[Level | None, typer.Option(help="Less than the account's level.")] = None,
    as_json: AsJson = False,
) -> None:
    """Issue an API token for a person's program; it is shown this once."""
    terms = Terms(name=name, days=days, level=level)
    secret, issued = transact(lambda conn, deed: tokens.issue(conn, email, terms, deed), as_json=as_json)
    tell({"token": secret, **_told(issued, as_json=as_json)}, as_json=as_json)


@token.command("revoke")
def revoke_token(
    token_id: Annotated[int, typer.Argument(min=1, max=BIGINT_MAX)],
    *,
    with_issued: Annotated[
        bool, typer.Option(help="End what it issued too, and what that issued: it was in wrong hands.")
    ] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """End an API token now."""
    ended = transact(
        lambda conn, deed: tokens.revoke(conn, token_id, deed, with_issued=with_issued),
        as_json=as_json,
        reason=reason,
    )
    tell({"revoked": sorted(ended)}, as_json=as_json)


@token.command("list")
def list_tokens(*, as_json: AsJson = False) -> None:
    """List every API token, the ended ones too; never the secrets."""
    every = transact(lambda conn, _deed: whole(lambda after: tokens.page(conn, after=after)), as_json=as_json)
    tell_all([_told(one, as_json=as_json) for one in every], as_json=as_json)


def _told(one: Account | Token, *, as_json: bool) -> Record:
    scope = listed(one.scope)
    words = "global" if scope is None else ", ".join(map(str, scope))
    return {**asdict(one), "scope": scope if as_json else words}
