"""The states of a command and the moves between them; docs/commands.md draws the same table."""

from __future__ import annotations

from enum import StrEnum

from runtime.errors import Conflict


class State(StrEnum):
    """Where a command is."""

    AWAITING_APPROVAL = "awaiting_approval"
    """Ordered, and a second person must agree first; it has no epoch and supersedes nothing yet."""

    QUEUED = "queued"
    """Waits for its turn, or for its unit to listen."""

    SENDING = "sending"
    """A dispatcher holds it under a lease."""

    SENT = "sent"
    """The broker has it; the unit's ack is awaited."""

    ACKNOWLEDGED = "acknowledged"
    """The unit says that it applied it; its heartbeat is awaited as evidence."""

    CONFIRMED = "confirmed"
    """The unit reports the mode and epoch of this command; for a ping, it answered."""

    REFUSED = "refused"
    """The unit refused it, with a reason."""

    SUPERSEDED = "superseded"
    """A newer wish for the unit took its place."""

    CANCELLED = "cancelled"
    """A person took it back."""

    EXPIRED = "expired"
    """Its life ended first; evidence that comes later still confirms it."""


_ENDS = frozenset({State.SUPERSEDED, State.CANCELLED, State.EXPIRED})
_ANSWERS = frozenset({State.ACKNOWLEDGED, State.CONFIRMED, State.REFUSED})

MOVES: dict[State, frozenset[State]] = {
    State.AWAITING_APPROVAL: frozenset({State.QUEUED}) | _ENDS,
    # answers reach a queued command when an earlier attempt was heard after all
    State.QUEUED: frozenset({State.SENDING}) | _ANSWERS | _ENDS,
    State.SENDING: frozenset({State.QUEUED, State.SENT}) | _ANSWERS | _ENDS,
    State.SENT: frozenset({State.QUEUED}) | _ANSWERS | _ENDS,
    State.ACKNOWLEDGED: frozenset({State.QUEUED, State.CONFIRMED}) | _ENDS,
    State.EXPIRED: frozenset({State.CONFIRMED}),
    State.CONFIRMED: frozenset(),
    State.REFUSED: frozenset(),
    State.SUPERSEDED: frozenset(),
    State.CANCELLED: frozenset(),
}

FINAL = frozenset({State.CONFIRMED, State.REFUSED}) | _ENDS


class ForbiddenMove(Conflict):
    """A command does not go from the one state to the other."""


def check(here: State, there: State) -> None:
    """Raise `ForbiddenMove` unless the table allows it."""
    if there not in MOVES[here]:
        raise ForbiddenMove(
            f"A command does not go from {here} to {there}.", here=str(here), there=str(there)
        )
