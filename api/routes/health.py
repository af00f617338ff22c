"""How this process is: alive, ready, and in figures."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal

from fastapi import APIRouter, Request
from psycopg.errors import UndefinedTable
from starlette.responses import Response

from api.connection import ThePool
from api.problems import PathNotFound, documented
from api.shapes import Shape
from runtime import metrics
from runtime.errors import Conflict, Unavailable
from storage.migrate import pending
from storage.pool import Pool

router = APIRouter(tags=["health"])

READY_S = 3.0


class NotReady(Unavailable):
    """This process cannot serve now."""


class Health(Shape):
    """All is well."""

    status: Literal["ok"]


@router.get("/healthz")
async def healthz() -> Health:
    """Say that the process is alive."""
    return Health(status="ok")


@router.get("/readyz", responses=documented(503))
async def readyz(pool: ThePool) -> Health:
    """Say that the database answers and has the schema of this release."""
    await require_schema(pool)
    return Health(status="ok")


@router.get("/metrics", include_in_schema=False)
async def figures(request: Request) -> Response:
    """Give the figures of this process to whoever asks from this machine."""
    if not from_here(request):
        raise PathNotFound("There is nothing at this address; /openapi.json lists all.")
    return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)


def from_here(request: Request) -> bool:
    """Whether the caller sits on this machine and is no proxy that speaks for another."""
    forwarded = {"forwarded", "x-forwarded-for", "x-real-ip"} & set(request.headers)
    return not forwarded and request.client is not None and _loopback(request.client.host)


async def require_schema(pool: Pool) -> None:
    """Raise `Unavailable` unless the database answers and is of this release."""
    try:
        async with pool.transaction(deadline_s=READY_S) as conn:
            lacking = await pending(conn)
    except (Conflict, UndefinedTable) as error:
        raise NotReady("The database's schema is not of this release.", why=str(error)) from error
    if lacking:
        raise NotReady("The database lacks migrations.", lacking=[step.name for step in lacking])


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
