"""The companies that own units; a unit without an owner belongs to entity 1, "Unknown Entity"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from registry import audit
from registry.audit import Deed
from registry.permissions import Scope, listed
from registry.wording import line
from runtime.errors import Conflict, NotFound
from storage.sql import Connection, load, row, rows

SQL = load(__file__)

UNKNOWN = 1
NAME_LIMIT = 200
BIGINT_MAX = 2**63 - 1


class EntityNotFound(NotFound):
    """There is no such entity."""


class EntityNameTaken(Conflict):
    """An entity of this name exists already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One company."""

    id: int
    name: str
    created_at: datetime


async def add(conn: Connection, name: str, deed: Deed) -> Entity:
    """Add an entity; `EntityNameTaken` when the name is in use."""
    name = line(name, "name", NAME_LIMIT)
    entity = await row(conn, _entity, SQL.add, name=name, now=deed.now)
    if entity is None:
        raise EntityNameTaken("An entity of this name exists; `entity list` shows its id.", name=name)
    await audit.write(conn, deed, "entity_added", "entity", entity.id, after={"name": name})
    return entity


async def page(conn: Connection, *, scope: Scope, after: int = 0, limit: int = 200) -> list[Entity]:
    """Give the entities of a scope by id, from the one behind `after` on."""
    return await rows(conn, _entity, SQL.page, scope=listed(scope), after=after, limit=limit)


async def known(conn: Connection, ids: Iterable[int], *, scope: Scope) -> frozenset[int]:
    """Tell which of these ids are entities of the scope."""
    possible = [entity_id for entity_id in ids if 0 < entity_id <= BIGINT_MAX]
    found = await rows(conn, _entity, SQL.known, ids=possible, scope=listed(scope))
    return frozenset(entity.id for entity in found)


async def require(conn: Connection, ids: Iterable[int], *, scope: Scope) -> None:
    """Raise `EntityNotFound`, naming the first, unless all of these ids are entities of the scope."""
    wanted = frozenset(ids)
    missing = wanted - await known(conn, wanted, scope=scope)
    if missing:
        raise not_found(min(missing))


def not_found(entity_id: int) -> EntityNotFound:
    """Say that an entity does not exist, or not for this caller."""
    return EntityNotFound(f"There is no entity {entity_id}.", field="entity_id", entity_id=entity_id)


def _entity(found: DictRow) -> Entity:
    return Entity(**found)
