"""What every request passes, whatever it asks: a request id, bounds on the body, headers, one access line.

The outermost part of the application: an error that nobody foresaw ends here, as a problem
without any inner text and a log line with all of it.
"""

from __future__ import annotations

import time
from uuid import uuid4

import structlog
from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars, get_contextvars

from api import problems
from api.problems import BodyTooLarge, NotCsv, NotJson, Unexpected
from runtime.errors import HeliographError

BODY_LIMIT = 2**20
"""Bytes of a request's body at most."""

LIST_LIMIT = 64 * 2**20
"""Bytes of a list at most: a million lines with room for what else stands in them."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

SECONDS = Histogram(
    "heliograph_http_seconds",
    "seconds from a request's head to the end of its answer",
    ["method", "path", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15),
)

log = structlog.get_logger()


class Door:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        with bound_contextvars(request_id=request_id, account=None):
            await _Visit(self._app, scope, receive, send, request_id)()


class _Visit:
    """One request on its way through the door."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._request_id = request_id
        self._limit = _limit(scope)
        self._received = 0
        self._status: int | None = None

    async def __call__(self) -> None:
        began = time.perf_counter()
        try:
            refused = _refusal(self._scope)
            if refused is None:
                await self._app(self._scope, self._bounded, self._dressed)
            else:
                await self._tell(refused)
        except Exception as error:
            log.exception("request_failed", kind=type(error).__name__)
            if self._status is not None:
                raise
            await self._tell(Unexpected("Something went wrong on our side."))
        finally:
            self._account_for(time.perf_counter() - began)

    async def _tell(self, error: HeliographError) -> None:
        await problems.told(error, self._request_id)(self._scope, self._receive, self._dressed)

    async def _bounded(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            raise HTTPException(problems.STATUS[BodyTooLarge], _too_large(self._limit))
        return message

    async def _dressed(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = int(message["status"])
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    def _account_for(self, seconds: float) -> None:
        method = self._scope["method"] if self._scope["method"] in METHODS else "other"
        path = getattr(self._scope.get("route"), "path", None)
        SECONDS.labels(method, path or "none", self._status).observe(seconds)
        log.info(
            "request_answered",
            method=method,
            path=path,
            status=self._status,
            ms=round(seconds * 1000, 1),
            account=get_contextvars()["account"],
        )


def _takes_a_list(scope: Scope) -> bool:
    """Whether the address takes a table, not an object."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.endswith(".csv")


def _limit(scope: Scope) -> int:
    return LIST_LIMIT if _takes_a_list(scope) else BODY_LIMIT


def _too_large(limit: int) -> str:
    return f"A body has at most {limit // 2**20} MiB here."


def _refusal(scope: Scope) -> HeliographError | None:
    """Judge a body by what its head announces."""
    headers, limit = Headers(scope=scope), _limit(scope)
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        return BodyTooLarge(_too_large(limit), limit=limit)
    has_body = length != "0" or "transfer-encoding" in headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and _takes_a_list(scope) and media_type != "text/csv":
        return NotCsv("Send the list with Content-Type: text/csv.", given=media_type)
    if has_body and not _takes_a_list(scope) and media_type != "application/json":
        return NotJson("Send the body with Content-Type: application/json.", given=media_type)
    return None
