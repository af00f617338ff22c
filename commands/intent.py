"""Whether a unit's own report is in accord with what is wanted of it; pure.

What is wanted outlives the command that carried it: an enable that expired, a command that was sent
and then given up, a factory reset, a restored backup and a plain contradiction all come down to a
live report that is not in accord, and are answered alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from psycopg.rows import DictRow

from commands.policy import ADOPTED_EPOCH_MAX
from protocol.messages import Mode


class Cause(StrEnum):
    """Why a report is not in accord."""

    MODE_DIFFERS = "mode_differs"
    """The unit reports another mode than is wanted."""

    UNFENCED = "unfenced"
    """A command was sent and then given up; its unit may still come to apply it."""

    LAPSED = "lapsed"
    """An enable reached the end of its life before its unit obeyed."""

    NOT_OBEYED = "not_obeyed"
    """The unit refused because it knows a higher epoch, or because its clock is wrong."""

    EPOCH_WENT_BACK = "epoch_went_back"
    """The unit reports a lower epoch than it has proven: it forgot, or it is another."""

    EPOCH_AHEAD = "epoch_ahead"
    """The unit reports an epoch that was never given: this database is older than the unit's memory."""

    EPOCH_ABSURD = "epoch_absurd"
    """The unit reports an epoch so high that it is not believed."""

    @property
    def meaning(self) -> str:
        """Say in words what most likely lies behind it."""
        return MEANINGS[self]

    @property
    def needs_person(self) -> bool:
        """Whether it stays open until somebody has looked, whatever the unit reports next."""
        return self in {Cause.EPOCH_WENT_BACK, Cause.EPOCH_AHEAD, Cause.EPOCH_ABSURD}


MEANINGS = {
    Cause.MODE_DIFFERS: "It was set otherwise on the spot, its switch is faulty, or it acknowledged a lie.",
    Cause.UNFENCED: "A command that was given up may still arrive; the wish overrules it.",
    Cause.LAPSED: "The unit was away for longer than its enable lived.",
    Cause.NOT_OBEYED: "The unit knows a higher epoch than this system, or its clock is wrong.",
    Cause.EPOCH_WENT_BACK: "A factory reset that forgot, a replaced board, or another unit under this IMEI.",
    Cause.EPOCH_AHEAD: "This database was restored from an older backup, or somebody else commands the unit.",
    Cause.EPOCH_ABSURD: "The unit's memory is damaged, or it is not what it says.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is wanted of a unit, as its commands tell it.

    `wished_by` ordered what is desired; None where that only follows from what was given up. `given`
    is the last epoch that was given here, `epoch` that or a higher one adopted from a report. `proven`
    is the highest that a report confirmed, `floor` the highest of those and of what was sent and then
    given up. `lapsed` when the wish's own command expired. `drifted` while a contradiction is open
    that ends by itself. `enable_asked_at` is when a person last wanted the unit to be
    enabled. Up to the epoch `doubted_to` the database is one of yesterday.
    """

    unit_id: int
    epoch: int
    desired: Mode | None
    wished_by: str | None
    after_s: int
    lapsed: bool
    given: int
    proven: int
    floor: int
    drifted: bool
    enable_asked_at: datetime | None
    doubted_to: int | None

    @classmethod
    def from_row(cls, row: DictRow) -> Intent:
        """Build from a row of `unit_intent`."""
        desired = row["desired"]
        return cls(**row | {"desired": None if desired is None else Mode(desired)})

    @property
    def doubted(self) -> bool:
        """Whether what is wanted was remembered by a restored database, and nothing was ordered since."""
        return self.doubted_to is not None and self.given <= self.doubted_to

    def contradicted(self, *, epoch: int, mode: Mode) -> Cause | None:
        """Give why a report is not in accord; None when it is."""
        if epoch > ADOPTED_EPOCH_MAX:
            return Cause.EPOCH_ABSURD
        differs = self.desired is not None and mode is not self.desired
        # Adopted, and still not ours: somebody else set the mode that differs.
        if epoch > self.epoch or (differs and epoch > self.given):
            return Cause.EPOCH_AHEAD
        if epoch < self.proven:
            return Cause.EPOCH_WENT_BACK
        if differs:
            return Cause.LAPSED if self.lapsed else Cause.MODE_DIFFERS
        return Cause.UNFENCED if self.desired is not None and epoch < self.floor else None
