"""A creating request that comes twice is worked once: the Idempotency-Key and the answer it was given.

Keys belong to an account, and its tokens differ: whether the caller may have an answer is asked anew,
by the route before it comes here, or of the kept answer itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Header, Request
from starlette.responses import JSONResponse

from api.auth import Known
from api.connection import Transaction
from api.shapes import Shape
from registry import idempotency
from registry.idempotency import KEY_LIMIT, Answer
from registry.permissions import Caller
from storage.sql import Connection

Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_LIMIT,
        description="Your own name of this request: the same key and body get the same answer, worked once.",
    ),
]


S = TypeVar("S", bound=Shape)


@dataclass(frozen=True, slots=True)
class Once:
    """One request under its key, inside the transaction that does its work."""

    conn: Connection
    caller: Caller
    request: idempotency.Request

    async def earlier(self) -> dict[str, Any] | None:
        """Give what an earlier call made; None makes the work ours."""
        answer = await idempotency.claim(self.conn, self.caller, self.request)
        return None if answer is None else cast("dict[str, Any]", answer.body)

    async def keep(self, status: int, made: Shape) -> dict[str, Any]:
        """Keep what was made; it lies there in clear, so no secret may be in it."""
        body = made.model_dump(mode="json")
        await idempotency.keep(self.conn, self.caller, self.request, Answer(status=status, body=body))
        return body

    async def answer(
        self,
        status: int | Callable[[S], int],
        work: Callable[[], Awaitable[S]],
        *,
        under: str | None = None,
        allowed: Callable[[dict[str, Any]], Awaitable[object]] | None = None,
    ) -> JSONResponse:
        """Do the work unless it is done, and answer the same either way; `under` is where its id is found.

        `status` may depend on what was made. `allowed` raises for a kept answer that is not this caller's
        to have.
        """
        kept = await idempotency.claim(self.conn, self.caller, self.request)
        if kept:
            code, body = kept.status, cast("dict[str, Any]", kept.body)
            if allowed:
                await allowed(body)
        else:
            made = await work()
            code = status if isinstance(status, int) else status(made)
            body = await self.keep(code, made)
        return JSONResponse(body, code, {"Location": f"{under}/{body['id']}"} if under else None)


async def _once(request: Request, key: Key, caller: Known, conn: Transaction) -> Once:
    route = f"{request.method} {request.url.path}"
    return Once(conn, caller, idempotency.Request(key=key, route=route, body=await request.body()))


OnlyOnce = Annotated[Once, Depends(_once)]
