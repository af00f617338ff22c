"""Who may wish what of a unit, when, and for how long the wish lives.

Switching off by mistake leaves a paying household dark; switching on by mistake costs cents. So
an offline-disable needs more and lives shorter than an enable (S1.17, S1.18).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from protocol.messages import CommandKind, Mode
from registry.lifecycle import Lifecycle
from registry.permissions import Level
from runtime.errors import Conflict, Invalid
from runtime.settings import Commands

DAY_S = 86_400
UINT32 = 2**32 - 1
ADOPTED_EPOCH_MAX = 2**31
"""A unit that reports a higher epoch than this is not believed."""

WISHED_MODES = frozenset({Mode.ENABLED, Mode.OFFLINE_DISABLED})


class WishMakesNoSense(Invalid):
    """The command's fields do not fit each other."""


class NotEnabled(Conflict):
    """Only an enabled unit can be offline-disabled."""


class UnitTerminated(Conflict):
    """A terminated unit takes no commands."""


class UnitInRepair(Conflict):
    """Nobody switches a unit off that lies on a workbench."""


class Judged(Protocol):
    """What a wish is held against: a unit, or as much of it as a plan knows."""

    @property
    def serial_number(self) -> str:
        """What people call it."""

    @property
    def lifecycle(self) -> Lifecycle:
        """Where it stands in its life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants of a unit: `set_mode` with a mode, or `ping`.

    `after_s` goes with offline_disabled: 0 = off now; n ≥ 86,400 = off after n seconds without contact.
    """

    kind: CommandKind
    mode: Mode | None = None
    after_s: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        if self.kind is CommandKind.PING and self.mode is not None:
            raise WishMakesNoSense("A ping has no mode.", field="mode")
        if self.kind is CommandKind.SET_MODE and self.mode not in WISHED_MODES:
            raise WishMakesNoSense("A set_mode needs the mode enabled or offline_disabled.", field="mode")
        if self.after_s and self.mode is not Mode.OFFLINE_DISABLED:
            raise WishMakesNoSense("after_s goes with offline_disabled only.", field="after_s")
        if self.after_s and not DAY_S <= self.after_s <= UINT32:
            raise WishMakesNoSense(f"after_s is 0, or from {DAY_S} to {UINT32} seconds.", field="after_s")

    @property
    def disables(self) -> bool:
        """Whether it takes power away."""
        return self.mode is Mode.OFFLINE_DISABLED


def needed_level(wish: Wish) -> Level:
    """Give the level that a caller needs for this wish."""
    return Level.ADMIN if wish.disables else Level.TECHNICAL


def life(wish: Wish, settings: Commands) -> timedelta:
    """Give for how long an undelivered command of this wish lives."""
    if wish.kind is CommandKind.PING:
        return timedelta(seconds=settings.command_life_ping_s)
    return timedelta(
        seconds=settings.command_life_disable_s if wish.disables else settings.command_life_enable_s
    )


def check_unit(wish: Wish, unit: Judged) -> None:
    """Refuse what the unit's life does not admit; the answer names its state."""
    if unit.lifecycle is Lifecycle.TERMINATED:
        raise UnitTerminated(
            "This unit is terminated.", serial_number=unit.serial_number, lifecycle=str(unit.lifecycle)
        )
    if wish.disables and unit.lifecycle is Lifecycle.IN_REPAIR_SYSTEM:
        raise UnitInRepair(
            "This unit is in repair; it is not switched off from afar.",
            serial_number=unit.serial_number,
            lifecycle=str(unit.lifecycle),
        )


def check_status(wish: Wish, unit: Judged, *, reported: Mode | None, pending: Mode | None) -> None:
    """Refuse to disable what is not enabled; `enable_status` is what people see of it."""
    status = enable_status(reported=reported, pending=pending)
    if wish.disables and status != Mode.ENABLED:
        raise NotEnabled(
            f"This unit is {status}; only an enabled unit can be set to offline-disabled.",
            enable_status=status,
            serial_number=unit.serial_number,
        )


def enable_status(*, reported: Mode | None, pending: Mode | None) -> str:
    """Name the enable status as people see it (S1.8).

    `reported` is the mode of the unit's newest report, `pending` that of its newest command while
    that is under way.
    """
    if pending is not None:
        return f"pending_{pending}"
    return "unknown" if reported is None else str(reported)
