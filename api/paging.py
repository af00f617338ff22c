"""Long lists, page by page: a cursor says behind what the next page begins, whatever came in between.

A cursor is base64url of JSON with four bytes of checksum: opaque to the caller, and refused when
it was edited, cut, or taken from another list. It is no secret and gives no rights.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from pydantic import Field

from api.shapes import Shape
from runtime.errors import Invalid

LIMIT_MAX = 200
SUM_BYTES = 4


class BadCursor(Invalid):
    """The cursor is not one that this list gave."""


class Place(Shape):
    """Where a page ends."""


class PageQuery(Shape):
    """How much of a list, and from where."""

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = 50
    cursor: Annotated[str | None, Field(max_length=1000, description="`next` of the page before.")] = None


P = TypeVar("P", bound=Place)
V = TypeVar("V")


class Page(Shape, Generic[V]):
    """A part of a list; `next` is null at its end."""

    items: list[V]
    next: str | None


def behind(kind: type[P], cursor: str | None) -> P | None:
    """Read a cursor; None at the beginning, `BadCursor` when it is not one of this list."""
    if cursor is None:
        return None
    try:
        body = urlsafe_b64decode(cursor.encode("ascii"))[SUM_BYTES:]
        place = kind.model_validate_json(body)
    except ValueError:  # what is not ASCII, base64 or JSON is a ValueError too
        place = None
    if place is None or _written(kind, body) != cursor:
        raise BadCursor("Take the cursor as `next` of the page before gave it.", field="cursor")
    return place


def page(found: Sequence[V], limit: int, place: Callable[[V], Place]) -> Page[V]:
    """Make a page of what was found when one more than `limit` was asked for."""
    kept = found[:limit]
    following = cursor(place(kept[-1])) if len(found) > limit else None
    return Page(items=list(kept), next=following)


def cursor(place: Place) -> str:
    """Write a place down for the caller to bring back."""
    return _written(type(place), place.model_dump_json().encode())


def _written(kind: type[Place], body: bytes) -> str:
    digest = hashlib.sha256(kind.__name__.encode() + body).digest()
    return urlsafe_b64encode(digest[:SUM_BYTES] + body).decode()
