"""At which interval a unit is expected to make contact: its own, else its product type's, else 14,400 s.

The view `unit_interval` says which holds; only it knows the last of them.
"""

from __future__ import annotations

from registry import audit
from registry.audit import Deed
from runtime.errors import Invalid
from storage.sql import Connection, load, row

SQL = load(__file__)

INTERVAL_MAX_S = 30 * 86_400


class BadInterval(Invalid):
    """An expected interval is out of bounds."""


def require_sane(expected_interval_s: int) -> None:
    """Raise `BadInterval` unless units can be expected so often."""
    if not 1 <= expected_interval_s <= INTERVAL_MAX_S:
        raise BadInterval(
            f"expected_interval_s must be from 1 to {INTERVAL_MAX_S} seconds.", field="expected_interval_s"
        )


async def expect(conn: Connection, unit_id: int, expected_interval_s: int | None, deed: Deed) -> None:
    """Give a unit an interval of its own, or with None leave it to its product type.

    What is so already is not noted once more.
    """
    deed.require_reason()
    if expected_interval_s is not None:
        require_sane(expected_interval_s)
    after = {"expected_interval_s": expected_interval_s}
    before = await row(conn, dict, SQL.expect, unit_id=unit_id, **after)
    if before is not None:
        await audit.write(conn, deed, "unit_interval_changed", "unit", unit_id, before=before, after=after)
