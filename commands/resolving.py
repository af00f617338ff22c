"""What people decide about a drift: leave it, send the wish once more, or let the unit have its way."""

from __future__ import annotations

from enum import StrEnum

from commands import drift, ledger
from commands.drift import Drift, Resolution
from commands.policy import Wish
from protocol.messages import CommandKind
from registry import units
from registry.audit import Deed
from runtime.errors import Conflict
from runtime.settings import Commands
from storage.sql import Connection


class Decision(StrEnum):
    """What is to be done about a drift."""

    DISMISS = "dismiss"
    """Nothing: somebody has looked. A report that still contradicts opens another."""

    SEND_AGAIN = "send_again"
    """Order what is wanted once more."""

    ACCEPT = "accept"
    """Order what the unit reports, so that this is wanted from now on."""


RESOLUTIONS = {
    Decision.DISMISS: Resolution.DISMISSED,
    Decision.SEND_AGAIN: Resolution.SENT_AGAIN,
    Decision.ACCEPT: Resolution.ACCEPTED,
}


class NothingWanted(Conflict):
    """Nobody ever ordered a mode for this unit: there is nothing to send again."""


async def resolve(
    conn: Connection,
    number: int,
    decision: Decision,
    deed: Deed,
    settings: Commands,
) -> Drift:
    """Settle one drift; one that is closed already stays as it is, and nothing is ordered for it.

    An order needs what every order needs: level, reason and a unit that admits it.
    """
    found = await drift.by_id(conn, number, scope=deed.by.scope)
    if found.closed_at is None and decision is not Decision.DISMISS:
        mode = found.desired if decision is Decision.SEND_AGAIN else found.reported_mode
        if mode is None:
            raise NothingWanted(f"Nothing is wanted of {found.serial_number} that could be sent again.")
        unit = await units.by_identity(conn, found.imei, scope=deed.by.scope)
        await ledger.order(conn, unit, Wish(kind=CommandKind.SET_MODE, mode=mode), deed, settings)
    return await drift.close(conn, found, RESOLUTIONS[decision], deed)
