"""The database connection that a route works on: one transaction, committed before the answer leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from storage.pool import Pool
from storage.sql import Connection


async def pool_of(request: Request) -> Pool:
    """Give the process's pool."""
    pool: Pool = request.app.state.pool
    return pool


ThePool = Annotated[Pool, Depends(pool_of)]


async def transaction(pool: ThePool) -> AsyncIterator[Connection]:
    """Lend a connection; what is raised, by the route or by the commit, is the answer."""
    async with pool.transaction() as conn:
        yield conn


# With the default scope the commit would follow the answer, and its failure would be nobody's.
Transaction = Annotated[Connection, Depends(transaction, scope="function")]
