"""What could not be taken from units, and who speaks without being enrolled.

Dead letters are bound to no entity: they take the admin level with every entity in scope.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query

from api.auth import CanSeeLosses
from api.connection import Transaction
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.shapes import Id, Moment, Shape
from protocol.identity import Imei
from protocol.reasons import Reason
from runtime.errors import NotFound
from telemetry import dead_letters
from telemetry.dead_letters import DeadLetter, Stranger

router = APIRouter(prefix="/v1", tags=["dead letters"])


class DeadLetterNotFound(NotFound):
    """There is no such dead letter."""


class DeadLetterQuery(PageQuery):
    """Which dead letters."""

    reason: Reason | None = None
    imei: Imei | None = None


class BeforeDeadLetter(Place):
    """The last dead letter of a page."""

    id: Id


class BeforeStranger(Place):
    """The last stranger of a page."""

    last_at: Moment
    imei: Imei


class DeadLetterView(Shape):
    """One dead letter, without its bytes; it came `times` times between `first_at` and `last_at`."""

    id: int
    first_at: datetime
    last_at: datetime
    times: int
    gateway: str
    topic: str
    imei: str | None
    reason: Reason
    meaning: str
    path: str
    detail: str
    size: int

    @classmethod
    def of(cls, letter: DeadLetter, **further: object) -> Self:
        """Show a dead letter."""
        further |= {"meaning": letter.reason.meaning, "size": len(letter.body)}
        names = cls.model_fields.keys() - further.keys()
        return cls.model_validate({name: getattr(letter, name) for name in names} | further)


class OpenedDeadLetter(DeadLetterView):
    """One dead letter with its bytes; `text` is null where they are not UTF-8."""

    base64: str
    text: str | None


class StrangerView(Shape):
    """An IMEI that speaks and is not enrolled."""

    imei: str
    first_at: datetime
    last_at: datetime
    messages: int

    @classmethod
    def of(cls, stranger: Stranger) -> Self:
        """Show a stranger."""
        return cls.model_validate(stranger._asdict())


@router.get("/dead-letters", responses=documented(401, 403, 422, 503))
async def list_dead_letters(
    query: Annotated[DeadLetterQuery, Query()], _caller: CanSeeLosses, conn: Transaction
) -> Page[DeadLetterView]:
    """List dead letters, newest first."""
    last = behind(BeforeDeadLetter, query.cursor)
    found = await dead_letters.page(
        conn, limit=query.limit + 1, before=last.id if last else None, reason=query.reason, imei=query.imei
    )
    shown = [DeadLetterView.of(letter) for letter in found]
    return page(shown, query.limit, lambda letter: BeforeDeadLetter(id=letter.id))


@router.get("/dead-letters/strangers", responses=documented(401, 403, 422, 503))
async def list_strangers(
    query: Annotated[PageQuery, Query()], _caller: CanSeeLosses, conn: Transaction
) -> Page[StrangerView]:
    """List the IMEIs that speak and are not enrolled, the most recent first."""
    last = behind(BeforeStranger, query.cursor)
    found = await dead_letters.strangers(
        conn, limit=query.limit + 1, before=(last.last_at, last.imei) if last else None
    )
    shown = [StrangerView.of(stranger) for stranger in found]
    return page(
        shown,
        query.limit,
        lambda stranger: BeforeStranger(last_at=stranger.last_at, imei=Imei(stranger.imei)),
    )


@router.get("/dead-letters/{number}", responses=documented(401, 403, 404, 422, 503))
async def open_dead_letter(
    number: Annotated[Id, Path()], _caller: CanSeeLosses, conn: Transaction
) -> OpenedDeadLetter:
    """Show one dead letter with its bytes."""
    letter = await dead_letters.by_id(conn, number)
    if letter is None:
        raise DeadLetterNotFound(f"There is no dead letter {number}.", id=number)
    return OpenedDeadLetter.of(letter, base64=b64encode(letter.body).decode(), text=_text(letter.body))


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
