"""The companies that own units."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from api.auth import CanRead, CanRegister
from api.connection import Transaction
from api.once import OnlyOnce
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.shapes import Id, Shape
from registry import entities
from registry.audit import Deed
from registry.entities import Entity
from runtime import clock

router = APIRouter(prefix="/v1", tags=["entities"])


class AfterEntity(Place):
    """The last entity of a page."""

    id: Id


class NewEntity(Shape):
    """An entity to be added."""

    name: str


class EntityView(Shape):
    """One company."""

    id: int
    name: str
    created_at: datetime

    @classmethod
    def of(cls, entity: Entity) -> Self:
        """Show an entity."""
        return cls(id=entity.id, name=entity.name, created_at=entity.created_at)


@router.get("/entities", responses=documented(401, 422, 503))
async def list_entities(
    query: Annotated[PageQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[EntityView]:
    """List the entities that the caller may see, by id."""
    last = behind(AfterEntity, query.cursor)
    found = await entities.page(conn, scope=caller.scope, after=last.id if last else 0, limit=query.limit + 1)
    shown = [EntityView.of(entity) for entity in found]
    return page(shown, query.limit, lambda entity: AfterEntity(id=entity.id))


@router.post(
    "/entities",
    status_code=201,
    response_model=EntityView,
    responses=documented(400, 401, 403, 409, 413, 415, 422, 503),
)
async def add_entity(
    wanted: NewEntity, caller: CanRegister, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Add an entity; factory level, with every entity in scope."""

    async def work() -> EntityView:
        deed = Deed(by=caller, now=clock.now())
        return EntityView.of(await entities.add(conn, wanted.name, deed))

    return await once.answer(201, work)
