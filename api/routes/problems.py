"""What each kind of problem means, at the address that the problem itself names."""

from __future__ import annotations

from fastapi import APIRouter

from api import problems
from api.shapes import Shape
from runtime.errors import NotFound

router = APIRouter(tags=["problems"])


class ProblemNotFound(NotFound):
    """There is no such kind of problem."""


class ProblemKind(Shape):
    """One kind of problem."""

    type: str
    title: str
    status: int
    explanation: str


@router.get("/problems/{slug}", responses=problems.documented(404, 422))
async def explain_problem(slug: str) -> ProblemKind:
    """Explain a kind of problem."""
    for kind in problems.kinds():
        if problems.slug(kind) == slug:
            return ProblemKind(
                type=f"/problems/{slug}",
                title=problems.title(kind),
                status=problems.status_of(kind),
                explanation=" ".join((kind.__doc__ or "").split()),
            )
    raise ProblemNotFound("There is no problem of this name.", given=slug)
