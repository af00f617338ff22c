"""Which unit bears an IMEI, as far as this gateway has asked."""

from __future__ import annotations

from collections.abc import Iterable

from registry import units
from storage.pool import Pool


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
            for imei, unit in found.items():
                mine[imei] = known[imei] = unit.id
        return mine

    def forget(self) -> None:
        """Ask again: the database was away, and may have come back as another."""
        self._known.clear()
