"""What people decide about a drift: leave it, send the wish once more, or let the unit have its way."""

from __future__ import annotations

from enum import StrEnum

from commands import drift, ledger
from commands.drift import Drift, Resolution
from commands.policy import Wish
from commands.states import State
from protocol.messages import CommandKind, Mode
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
    """Want what the unit reports from now on: that it is enabled. Nobody is switched off by accepting it."""


RESOLUTIONS = {
    Decision.DISMISS: Resolution.DISMISSED,
    Decision.SEND_AGAIN: Resolution.SENT_AGAIN,
    Decision.ACCEPT: Resolution.ACCEPTED,
}


class NothingWanted(Conflict):
    """Nobody ever ordered a mode for this unit: there is nothing to send again."""


class AwaitsApproval(Conflict):
    """What would be sent again waits for a second person."""


class NotAcceptable(Conflict):
    """The unit does not report what could be accepted."""


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
    if found.closed_at is not None:
        return found
    if decision is not Decision.DISMISS:
        wish = await _wish(conn, found, decision)
        unit = await units.by_identity(conn, found.imei, scope=deed.by.scope)
        ordered = await ledger.order(conn, unit, wish, deed, settings, again=decision is Decision.SEND_AGAIN)
        if not ordered.new and ordered.command.state is State.AWAITING_APPROVAL:
            raise AwaitsApproval(
                "The wish waits for approval: approve or cancel it.", id=str(ordered.command.id)
            )
    return await drift.close(conn, found, RESOLUTIONS[decision], deed)


async def _wish(conn: Connection, found: Drift, decision: Decision) -> Wish:
    """Give what is to be ordered, as things stand now and not as they stood when the drift began."""
    reported, intent = await ledger.views(conn, found.unit_id)
    if decision is Decision.ACCEPT:
        if reported is not Mode.ENABLED:
            raise NotAcceptable(
                f"{found.serial_number} reports {reported}: only enabled can be accepted as it is.",
                reported=reported,
            )
        return Wish(kind=CommandKind.SET_MODE, mode=Mode.ENABLED)
    if intent.desired is None:
        raise NothingWanted(f"Nothing is wanted of {found.serial_number} that could be sent again.")
    return Wish(kind=CommandKind.SET_MODE, mode=intent.desired, after_s=intent.after_s)
