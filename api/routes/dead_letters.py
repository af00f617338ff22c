"""What could not be taken from units: looked at, and decided about.

Dead letters are bound to no entity: they take the admin level with every entity in scope. To replay
one is to mark it: a gateway takes it in once more.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from starlette.responses import JSONResponse

from api.auth import CanSeeLosses
from api.connection import Transaction
from api.once import OnlyOnce
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.shapes import Id, Moment, Reason, Shape
from protocol import reasons
from protocol.identity import Imei
from protocol.inspection import Finding
from registry.audit import Deed
from registry.permissions import Caller
from runtime import clock
from runtime.settings import Keeping
from telemetry import autopsy, dead_letters, fates
from telemetry.autopsy import Autopsy
from telemetry.dead_letters import DeadLetter, Fate, Filter, Overflow, State, Stranger
from telemetry.fates import Decided

router = APIRouter(prefix="/v1", tags=["dead letters"])


async def oldest(request: Request) -> datetime:
    """Give the first arrival from which on a dead letter may be replayed."""
    keeping: Keeping = request.app.state.keeping
    return fates.oldest(keeping, clock.now())


Oldest = Annotated[datetime, Depends(oldest)]
Number = Annotated[Id, Path()]


class DeadLetterQuery(PageQuery):
    """Which dead letters; by the time of their first arrival."""

    state: State | None = None
    reason: reasons.Reason | None = None
    imei: Imei | None = None
    after: Moment | None = None
    before: Moment | None = None


class BeforeDeadLetter(Place):
    """The last dead letter of a page."""

    id: Id


class BeforeStranger(Place):
    """The last stranger of a page."""

    last_at: Moment
    imei: Imei


class AfterOverflow(Place):
    """The last sum of a page."""

    imei: Imei | None
    reason: reasons.Reason


class Choice(Shape):
    """Which open dead letters: all that fit everything given; `after` ≤ first arrival < `before`."""

    reason: reasons.Reason | None = None
    imei: Imei | None = None
    after: Moment | None = None
    before: Moment | None = None
    all: Annotated[bool, Field(strict=True, description="Every open one; nothing else given.")] = False

    @property
    def filter(self) -> Filter:
        """The filter; `NothingChosen` when nothing is given."""
        which = Filter(reason=self.reason, imei=self.imei, after=self.after, before=self.before)
        return fates.chosen(which, everything=self.all)


class Decision(Shape):
    """Why it is decided so."""

    reason: Reason


class DecisionOnMany(Shape):
    """Which are meant, and why it is decided so."""

    filter: Choice
    reason: Reason


class FateView(Shape):
    """The newest decision about a dead letter; after a replay with the verdict on its message."""

    decision: State
    decided_at: datetime
    decided_by: str
    why: str
    replayed_at: datetime | None
    verdict: str | None

    @classmethod
    def of(cls, fate: Fate) -> Self:
        """Show a decision."""
        return cls.model_validate({name: getattr(fate, name) for name in cls.model_fields})


class DeadLetterView(Shape):
    """One dead letter, without its bytes; it came `times` times between `first_at` and `last_at`.

    One that came again after its `fate` was decided is open again.
    """

    id: int
    state: State
    fate: FateView | None
    first_at: datetime
    last_at: datetime
    times: int
    gateway: str
    topic: str
    imei: str | None
    reason: reasons.Reason
    meaning: str
    path: str
    detail: str
    size: int

    @classmethod
    def of(cls, letter: DeadLetter, **further: object) -> Self:
        """Show a dead letter."""
        further |= {
            "fate": letter.fate and FateView.of(letter.fate),
            "meaning": letter.reason.meaning,
            "size": len(letter.body),
        }
        names = cls.model_fields.keys() - further.keys()
        return cls.model_validate({name: getattr(letter, name) for name in names} | further)


class FindingView(Shape):
    """What is wrong at a place of a message."""

    reason: reasons.Reason
    path: str
    detail: str

    @classmethod
    def of(cls, finding: Finding) -> Self:
        """Show a finding."""
        return cls.model_validate({name: getattr(finding, name) for name in cls.model_fields})


class OpenedDeadLetter(DeadLetterView):
    """One dead letter with its bytes and what can be read of them; `text` is null where they are not UTF-8.

    `document` is the JSON as far as it can be parsed, `complete` when that is all. `findings` are what the
    rules of today find wrong; `refusal` is null when today it can be read and is of a unit of ours: whether
    its numbers are believed, only the replay tells. `obstacle` says why it cannot be replayed, if it cannot.
    """

    base64: str
    text: str | None
    levels: list[str]
    document: Any
    complete: bool
    findings: list[FindingView]
    unshown_findings: int
    refusal: FindingView | None
    obstacle: str | None

    @classmethod
    def opened(cls, found: Autopsy) -> Self:
        """Show all of a dead letter."""
        seen = found.inspection
        return cls.of(
            found.letter,
            base64=b64encode(found.letter.body).decode(),
            text=found.text,
            levels=list(seen.levels),
            document=seen.document,
            complete=seen.complete,
            findings=[FindingView.of(finding) for finding in seen.findings],
            unshown_findings=seen.unshown,
            refusal=found.refusal and FindingView.of(found.refusal),
            obstacle=found.obstacle,
        )


class DecidedView(Shape):
    """How many were decided about; `more` when as many as go at once, and others may be left.

    `not_replayable` are open, fit, and cannot be replayed; each of them says why.
    """

    number: int
    not_replayable: int
    more: bool

    @classmethod
    def of(cls, decided: Decided) -> Self:
        """Show how many."""
        return cls.model_validate({name: getattr(decided, name) for name in cls.model_fields})


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


class OverflowView(Shape):
    """What is only counted, of an IMEI and a reason; a null IMEI is what named none."""

    imei: str | None
    reason: reasons.Reason
    first_at: datetime
    last_at: datetime
    times: int

    @classmethod
    def of(cls, overflow: Overflow) -> Self:
        """Show a sum."""
        return cls.model_validate(overflow._asdict())


@router.get("/dead-letters", responses=documented(401, 403, 422, 503))
async def list_dead_letters(
    query: Annotated[DeadLetterQuery, Query()], _caller: CanSeeLosses, conn: Transaction
) -> Page[DeadLetterView]:
    """List dead letters, newest first."""
    last = behind(BeforeDeadLetter, query.cursor)
    found = await dead_letters.page(
        conn,
        limit=query.limit + 1,
        before_id=last.id if last else None,
        state=query.state,
        which=Filter(reason=query.reason, imei=query.imei, after=query.after, before=query.before),
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


@router.get("/dead-letters/overflow", responses=documented(401, 403, 422, 503))
async def list_overflow(
    query: Annotated[PageQuery, Query()], _caller: CanSeeLosses, conn: Transaction
) -> Page[OverflowView]:
    """List what is only counted: beyond a day's share of an IMEI, or open for longer than it is kept."""
    last = behind(AfterOverflow, query.cursor)
    found = await dead_letters.overflow(
        conn, limit=query.limit + 1, after=(last.imei, last.reason) if last else ("", "")
    )
    shown = [OverflowView.of(overflow) for overflow in found]
    return page(
        shown,
        query.limit,
        lambda one: AfterOverflow(imei=None if one.imei is None else Imei(one.imei), reason=one.reason),
    )


@router.post(
    "/dead-letters/replay",
    status_code=202,
    response_model=DecidedView,
    responses=documented(400, 401, 403, 409, 413, 415, 422, 503),
)
async def replay_dead_letters(
    wanted: DecisionOnMany, caller: CanSeeLosses, conn: Transaction, once: OnlyOnce, since: Oldest
) -> JSONResponse:
    """Have the open ones that fit taken in once more; those that cannot be stay open, and are counted."""
    which = wanted.filter.filter

    async def work() -> DecidedView:
        return DecidedView.of(await fates.mark_all(conn, which, _deed(caller, wanted.reason), since))

    return await once.answer(202, work)


@router.post(
    "/dead-letters/discard",
    response_model=DecidedView,
    responses=documented(400, 401, 403, 409, 413, 415, 422, 503),
)
async def discard_dead_letters(
    wanted: DecisionOnMany, caller: CanSeeLosses, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Close the open ones that fit; what comes again is open again."""
    which = wanted.filter.filter

    async def work() -> DecidedView:
        return DecidedView.of(await fates.discard_all(conn, which, _deed(caller, wanted.reason)))

    return await once.answer(200, work)


@router.get("/dead-letters/{number}", responses=documented(401, 403, 404, 422, 503))
async def open_dead_letter(
    number: Number, _caller: CanSeeLosses, conn: Transaction, since: Oldest
) -> OpenedDeadLetter:
    """Show one dead letter with its bytes, read as far as they go, and what is wrong with them today."""
    return OpenedDeadLetter.opened(await autopsy.perform(conn, number, since))


@router.post(
    "/dead-letters/{number}/replay",
    status_code=202,
    response_model=DeadLetterView,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def replay_dead_letter(
    number: Number,
    wanted: Decision,
    caller: CanSeeLosses,
    conn: Transaction,
    once: OnlyOnce,
    since: Oldest,
) -> JSONResponse:
    """Have one taken in once more: what became of it then stands in its `fate`."""

    async def work() -> DeadLetterView:
        return DeadLetterView.of(await fates.mark(conn, number, _deed(caller, wanted.reason), since))

    return await once.answer(202, work)


@router.post(
    "/dead-letters/{number}/discard",
    response_model=DeadLetterView,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def discard_dead_letter(
    number: Number, wanted: Decision, caller: CanSeeLosses, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Close one as nothing to be done about; when it comes again it is open again."""

    async def work() -> DeadLetterView:
        return DeadLetterView.of(await fates.discard(conn, number, _deed(caller, wanted.reason)))

    return await once.answer(200, work)


def _deed(caller: Caller, reason: str) -> Deed:
    return Deed(by=caller, now=clock.now(), reason=reason)
