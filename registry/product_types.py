"""What is expected of the units of a product type: at which interval they make contact.

Of a type that is not here nothing was ever said; units may bear it all the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from psycopg.rows import DictRow

from registry import audit, intervals, wording
from registry.audit import Deed
from registry.wording import BadText
from storage.sql import Connection, execute, load, row, rows

SQL = load(__file__)

NAME_LIMIT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductType:
    """A kind of unit."""

    name: str
    expected_interval_s: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", checked(self.name))
        intervals.require_sane(self.expected_interval_s)


def checked(name: str) -> str:
    """Give a name in its one form; `BadText` for what is none."""
    return wording.line(name, "name", NAME_LIMIT)


def given(name: str) -> str:
    """Give a name that something may be said of; `BadText` also for a slash at either end.

    One slash too many in an address would make another type, for good. What was made so is still told.
    """
    bare = checked(name)
    if bare.startswith("/") or bare.endswith("/"):
        raise BadText("name begins or ends with a slash; write it without.", field="name")
    return bare


async def expect(conn: Connection, wanted: ProductType, deed: Deed) -> None:
    """Say what is expected of a type's units; of a unit with an interval of its own that holds on.

    What is so already is not noted once more. Raises `BadText` without a reason, or for a name with a
    slash at either end.
    """
    deed.require_reason()
    given(wanted.name)
    after = {"expected_interval_s": wanted.expected_interval_s}
    before = None
    if not await execute(conn, SQL.add, **asdict(wanted)):
        before = await row(conn, dict, SQL.change, **asdict(wanted))
        if before is None:
            return
    await audit.write(
        conn, deed, "product_type_changed", "product_type", wanted.name, before=before, after=after
    )


async def page(conn: Connection, *, after: str = "", limit: int | None = None) -> list[ProductType]:
    """Give product types by name, from the one behind `after` on; without a limit all of them."""
    return await rows(conn, _product_type, SQL.page, after=after, limit=limit)


def _product_type(found: DictRow) -> ProductType:
    return ProductType(**found)
