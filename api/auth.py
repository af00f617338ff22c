"""Who calls, by bearer token, and what a route demands of them; it stands in the route's signature.

Level and scope are the smaller of the token's and its account's. A token that is not accepted is
told why only when it is genuine and merely too old.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from structlog.contextvars import bind_contextvars

from api.connection import ThePool, Transaction
from api.problems import Unauthenticated
from registry import tokens
from registry.permissions import Caller, Level, ScopeTooNarrow, listed
from registry.tokens import TokenNotAccepted
from runtime import clock

_scheme = HTTPBearer(
    scheme_name="bearer", auto_error=False, description="An API token: `Authorization: Bearer hg_…`."
)
Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]


async def known(request: Request, shown: Shown, conn: Transaction) -> Caller:
    """Give the caller whom the token names; `Unauthenticated` when it names nobody."""
    if shown is None or len(request.headers.getlist("authorization")) != 1:
        raise Unauthenticated("Send one header Authorization: Bearer with an API token.")
    host = request.client.host if request.client else "local"
    try:
        caller = await tokens.caller(conn, shown.credentials, origin=f"api:{host}", now=clock.now())
    except TokenNotAccepted as refused:
        if refused.facts["why"] == "expired":
            raise Unauthenticated("The API token has expired; have a new one issued.") from None
        raise Unauthenticated("The API token is not accepted.") from None
    bind_contextvars(account=caller.email)
    return caller


Known = Annotated[Caller, Depends(known)]


async def commands_at_length(request: Request, shown: Shown, pool: ThePool) -> Caller:
    """Give a caller who may command, without holding a transaction for as long as the request takes."""
    async with pool.transaction() as conn:
        caller = await known(request, shown, conn)
    caller.require(Level.TECHNICAL)
    return caller


def everywhere(caller: Caller) -> None:
    """Raise `ScopeTooNarrow` unless every entity is in the caller's scope."""
    if caller.scope is not None:
        raise ScopeTooNarrow("This needs every entity in your scope.", needed=None, have=listed(caller.scope))


def at_least(level: Level, *further: Callable[[Caller], None]) -> Callable[[Caller], Awaitable[Caller]]:
    """Make the demand for a level, and whatever else is given."""

    async def demand(caller: Known) -> Caller:
        caller.require(level)
        for check in further:
            check(caller)
        return caller

    return demand


CanRead = Annotated[Caller, Depends(at_least(Level.OVERVIEW))]
CanPlan = Annotated[Caller, Depends(commands_at_length)]
CanCommand = Annotated[Caller, Depends(at_least(Level.TECHNICAL))]
CanDisable = Annotated[Caller, Depends(at_least(Level.ADMIN))]
CanSeeLosses = Annotated[Caller, Depends(at_least(Level.ADMIN, everywhere))]
CanEnrol = Annotated[Caller, Depends(at_least(Level.FACTORY))]
CanRegister = Annotated[Caller, Depends(at_least(Level.FACTORY, everywhere))]


def manages_accounts(caller: Caller) -> bool:
    """Whether other people's tokens exist for this caller."""
    return caller.level is Level.SYSTEM and caller.scope is None


def require_account(caller: Caller, email: str) -> None:
    """Raise unless the account is the caller's own, or the caller manages all of them."""
    if email != caller.email:
        caller.require(Level.SYSTEM)
        everywhere(caller)
