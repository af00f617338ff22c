"""`python -m tests.nemesis.api_with_points POINT ORDERS`: an API that kills itself at a named point.

It is the product's own API with one step replaced; it dies at that point of its so-many-th order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import __main__ as api
from registry import idempotency
from tests.nemesis.gateway_with_points import Fuse, die

ACCEPTED = 202


class Point(StrEnum):
    """Where an API dies."""

    MID_ORDER = "mid-order"
    """In the transaction: the command is written, the answer under its key is not."""

    BEFORE_COMMIT = "before-commit"
    """In the transaction, when everything is written."""

    BEFORE_ANSWER = "before-answer"
    """Between the commit and the first byte of the answer."""

    MID_ANSWER = "mid-answer"
    """When the head of the answer has left, and its body has not."""

    AFTER_ANSWER = "after-answer"
    """When all of the answer has left: whatever was not committed by then is lost."""


def mid_order(fuse: Fuse) -> None:
    """Die where the answer would be kept."""
    keep = idempotency.keep

    async def dying(*args: Any, **named: Any) -> None:
        if fuse.burn():
            die()
        await keep(*args, **named)

    vars(idempotency)["keep"] = dying


def before_commit(fuse: Fuse) -> None:
    """Die when the answer is kept."""
    keep = idempotency.keep

    async def dying(*args: Any, **named: Any) -> None:
        await keep(*args, **named)
        if fuse.burn():
            die()

    vars(idempotency)["keep"] = dying


class Doomed:
    """The application, that dies at a message of an accepted order's answer, before or after it is sent."""

    def __init__(self, app: ASGIApp, fuse: Fuse, at: str, *, sent: bool) -> None:
        self._app = app
        self._fuse = fuse
        self._at = at
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; the head of an answer tells whether it is one that counts."""
        accepted = False

        async def dying(message: Message) -> None:
            nonlocal accepted
            if message["type"] == "http.response.start":
                accepted = message["status"] == ACCEPTED
            last = accepted and message["type"] == self._at and self._fuse.burn()
            if self._sent or not last:
                await send(message)
            if last:
                die()

        await self._app(scope, receive, dying)


def answering(at: str, *, sent: bool = False) -> Callable[[Fuse], None]:
    """Die at this message of an answer."""

    def lay(fuse: Fuse) -> None:
        application = vars(api)["application"]
        vars(api)["application"] = lambda *parts: Doomed(application(*parts), fuse, at, sent=sent)

    return lay


LAY: dict[Point, Callable[[Fuse], None]] = {
    Point.MID_ORDER: mid_order,
    Point.BEFORE_COMMIT: before_commit,
    Point.BEFORE_ANSWER: answering("http.response.start"),
    Point.MID_ANSWER: answering("http.response.body"),
    Point.AFTER_ANSWER: answering("http.response.body", sent=True),
}


def main(point: str, orders: str) -> None:
    """Serve until that point."""
    LAY[Point(point)](Fuse(int(orders)))
    api.app(args=[])


if __name__ == "__main__":
    main(*sys.argv[1:])
