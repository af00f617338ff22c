"""Product types: at which interval their units are expected to make contact."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator

from api.auth import CanRead, CanRegister
from api.connection import Transaction
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.shapes import Interval, Reason, Shape
from registry import product_types
from registry.audit import Deed
from registry.product_types import ProductType
from runtime import clock

router = APIRouter(prefix="/v1", tags=["product types"])

TypeName = Annotated[str, AfterValidator(product_types.checked)]


class AfterProductType(Place):
    """The last product type of a page."""

    name: TypeName


class Expected(Shape):
    """What is to be expected of a type's units, and why."""

    expected_interval_s: Interval
    reason: Reason


class ProductTypeView(Shape):
    """What is expected of a type's units, but for those with an interval of their own."""

    name: str
    expected_interval_s: int

    @classmethod
    def of(cls, found: ProductType) -> Self:
        """Show a product type."""
        return cls(name=found.name, expected_interval_s=found.expected_interval_s)


@router.get("/product-types", responses=documented(401, 422, 503))
async def list_product_types(
    query: Annotated[PageQuery, Query()], _caller: CanRead, conn: Transaction
) -> Page[ProductTypeView]:
    """List by name the product types of whose units something is expected."""
    last = behind(AfterProductType, query.cursor)
    found = await product_types.page(conn, after=last.name if last else "", limit=query.limit + 1)
    shown = [ProductTypeView.of(one) for one in found]
    return page(shown, query.limit, lambda one: AfterProductType(name=one.name))


# A name may hold a slash, though not at either end.
@router.put("/product-types/{name:path}", responses=documented(400, 401, 403, 404, 413, 415, 422, 503))
async def expect_of_product_type(
    name: Annotated[str, Path(), AfterValidator(product_types.given)],
    expected: Expected,
    caller: CanRegister,
    conn: Transaction,
) -> ProductTypeView:
    """Say at which interval a type's units make contact; factory level, with every entity in scope.

    A unit with an interval of its own keeps it.
    """
    wanted = ProductType(name=name, expected_interval_s=expected.expected_interval_s)
    await product_types.expect(conn, wanted, Deed(by=caller, now=clock.now(), reason=expected.reason))
    return ProductTypeView.of(wanted)
