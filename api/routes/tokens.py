"""API tokens: one's own, and for those who manage accounts everybody's.

The token itself is in one answer and nowhere else: a repeated Idempotency-Key is told that it was
issued, and under which id, so that a lost answer costs a revocation and not a secret.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query
from pydantic import Field

from api.auth import CanRead, manages_accounts, require_account
from api.connection import Transaction
from api.once import OnlyOnce
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.shapes import BodyId, Id, Shape
from registry import accounts, entities, tokens
from registry.audit import Deed
from registry.permissions import Level, listed
from registry.tokens import DAYS_LIMIT, Terms, Token
from runtime import clock
from runtime.errors import Conflict

router = APIRouter(prefix="/v1", tags=["tokens"])


class TokenShownAlready(Conflict):
    """The token of this Idempotency-Key was issued and shown already."""


class AfterToken(Place):
    """The last token of a page."""

    id: Id


class NewToken(Shape):
    """A token to be issued; level and scope are the caller's own, or the other account's, unless said."""

    name: str
    days: Annotated[
        Annotated[int, Field(strict=True, ge=1, le=DAYS_LIMIT)] | None,
        Field(description="No more than your token has left. Left out: 90, or what it has left if less."),
    ] = None
    level: Level | None = None
    scope: Annotated[
        frozenset[BodyId] | None, Field(min_length=1, max_length=1000, description="Ids of entities.")
    ] = None
    email: Annotated[str | None, Field(description="Another's account; system level.")] = None


class Revocation(Shape):
    """How far a revocation goes."""

    with_issued: Annotated[
        bool, Field(description="End what it issued too, and what that issued: it was in wrong hands.")
    ] = False


class TokenView(Shape):
    """What is known of a token; a null scope is every entity."""

    id: int
    email: str
    name: str
    level: Level
    scope: list[int] | None
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    issued_by: Annotated[int | None, Field(description="The token that issued it; null at the command line.")]

    @classmethod
    def of(cls, token: Token, /, **further: object) -> Self:
        """Show a token."""
        names = cls.model_fields.keys() - {"scope", *further}
        told = {name: getattr(token, name) for name in names}
        return cls.model_validate(told | further | {"scope": listed(token.scope)})


class IssuedToken(TokenView):
    """A new token, with what is shown this once."""

    token: str


@router.get("/tokens", responses=documented(401, 422, 503))
async def list_tokens(
    query: Annotated[PageQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[TokenView]:
    """List the caller's tokens by id; who manages accounts sees everybody's."""
    last = behind(AfterToken, query.cursor)
    found = await tokens.page(
        conn,
        email=None if manages_accounts(caller) else caller.email,
        after=last.id if last else 0,
        limit=query.limit + 1,
    )
    shown = [TokenView.of(token) for token in found]
    return page(shown, query.limit, lambda token: AfterToken(id=token.id))


@router.post("/tokens", status_code=201, responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503))
async def issue_token(wanted: NewToken, caller: CanRead, conn: Transaction, once: OnlyOnce) -> IssuedToken:
    """Issue a token; it is shown this once. A repeated key is answered 409 with the token's id.

    It has no more rights than the token that issues it, and ends no later.
    """
    email = caller.email if wanted.email is None else accounts.email(wanted.email)
    require_account(caller, email)
    earlier = await once.earlier()
    if earlier is not None:
        raise TokenShownAlready(
            "This key's token was shown once. If you do not have it, revoke it and use a new key.",
            token_id=earlier["id"],
        )
    await entities.require(conn, wanted.scope or (), scope=caller.scope)
    own = email == caller.email
    terms = Terms(
        name=wanted.name,
        days=wanted.days,
        level=wanted.level or (caller.level if own else None),
        scope=wanted.scope or (caller.scope if own else None),
    )
    secret, token = await tokens.issue(conn, email, terms, Deed(by=caller, now=clock.now()))
    await once.keep(201, TokenView.of(token))
    return IssuedToken.of(token, token=secret)


@router.delete("/tokens/{token_id}", status_code=204, responses=documented(401, 403, 404, 409, 422, 503))
async def revoke_token(
    token_id: Annotated[Id, Path()],
    caller: CanRead,
    conn: Transaction,
    wanted: Annotated[Revocation, Query()],
) -> None:
    """End a token now: the caller's own one, or one that has no more rights."""
    token = await tokens.by_id(conn, token_id)
    if not (token.email == caller.email or manages_accounts(caller)):
        raise tokens.not_found(token_id)
    await tokens.revoke(conn, token_id, Deed(by=caller, now=clock.now()), with_issued=wanted.with_issued)
