"""A dead letter laid open: what it says as far as it can be read, and whether it could be read today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from protocol import inspection
from protocol.inspection import Finding, Inspection
from protocol.reasons import Reason
from registry import units
from storage.sql import Connection
from telemetry import dead_letters, fates
from telemetry.dead_letters import DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class Autopsy:
    """One dead letter, what is in it, and why not.

    `refusal` is None when today it can be read and is of a unit of ours. Whether its numbers are believed,
    an ack's command is known, and the database takes it, only the replay itself can tell. `obstacle` is
    why it cannot be replayed, whatever it says.
    """

    letter: DeadLetter
    inspection: Inspection
    refusal: Finding | None
    obstacle: str | None

    @property
    def text(self) -> str | None:
        """The body as text; None when it is not UTF-8."""
        try:
            return self.letter.body.decode()
        except UnicodeDecodeError:
            return None


async def perform(conn: Connection, number: int, since: datetime) -> Autopsy:
    """Lay one open; `since` is `fates.oldest`."""
    letter = await dead_letters.by_id(conn, number)
    found = inspection.inspect(letter.topic, letter.body, letter.path)
    return Autopsy(
        letter=letter,
        inspection=found,
        refusal=await _refusal(conn, letter, found),
        obstacle=fates.obstacle(letter, since),
    )


async def _refusal(conn: Connection, letter: DeadLetter, found: Inspection) -> Finding | None:
    if not found.readable:
        return found.findings[0]
    if letter.imei is None or not await units.ids_by_imei(conn, [letter.imei]):
        return Finding(reason=Reason.UNKNOWN_UNIT, path="", detail=Reason.UNKNOWN_UNIT.meaning)
    return None
