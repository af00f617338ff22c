"""Which unit bears an IMEI, of those that spoke lately."""

from __future__ import annotations

from collections.abc import Iterable

from registry import units
from storage.pool import Pool

REMEMBERED = 100_000
"""Units that are known without asking, at most: a fleet may have any number."""


class UnitIds:
    """What all who settle know in common; an IMEI keeps its unit as long as the database is the same."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[str, int] = {}

    async def of(self, imeis: Iterable[str | None]) -> dict[str | None, int]:
        """Give the unit of each IMEI that has one, and look up who is not known yet.

        What is given is the caller's own: others may forget everything while it waits for its answer.
        """
        known = self._known
        wanted = set(imeis)
        mine: dict[str | None, int] = {imei: known[imei] for imei in wanted if imei in known}
        strangers = [imei for imei in wanted if imei is not None and imei not in mine]
        if strangers:
            async with self._pool.transaction() as conn:
                found = await units.ids_by_imei(conn, strangers)
            if len(known) + len(found) > REMEMBERED:
                known.clear()
            known |= found
            mine.update(found)
        return mine

    def forget(self) -> None:
        """Ask again: the database was away, and may have come back as another.

        Who still waits for an answer of the one before notes it where nobody looks any more.
        """
        self._known = {}
