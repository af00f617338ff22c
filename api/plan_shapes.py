"""What is asked and answered about plans: filters and terms, summaries, progress, lines (S1.17, S1.18)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from api.shapes import BodyId, Reason, Shape
from commands import selection, states, waves
from commands.plan_units import Outcome, PlanUnit
from commands.plans import Draft, Plan, State
from commands.selection import Exclusion, Filter
from commands.waves import Hold, Terms
from protocol.identity import Imei, SerialNumber
from protocol.messages import Mode
from registry import wording
from registry.lifecycle import Lifecycle
from registry.permissions import Caller

LONGEST_S = 10 * 366 * 86_400

Age = Annotated[int, Field(strict=True, ge=1, le=LONGEST_S)]
Status = Literal[
    "enabled", "disabled", "offline_disabled", "pending_enabled", "pending_offline_disabled", "unknown"
]


def _label(text: str) -> str:
    return wording.line(text, "text", 64)


Label = Annotated[str, AfterValidator(_label)]


class PlanFilter(Shape):
    """What the units of a plan have in common; `all` says in so many words that every unit is meant.

    `silent_s`: no contact for so many seconds, or never. `heard_s`: some contact within so many.
    """

    all: Annotated[bool, Field(strict=True)] = False
    entity_id: BodyId | None = None
    product_type: Label | None = None
    lifecycle: Lifecycle | None = None
    serial: Annotated[Label | None, Field(description="What the serial number begins with.")] = None
    enable_status: Status | None = None
    silent_s: Age | None = None
    heard_s: Age | None = None

    @property
    def filter(self) -> Filter:
        """The filter itself; `NoUnitsChosen` unless it narrows, or all are meant."""
        wanted = Filter(
            entity_id=self.entity_id,
            product_type=self.product_type,
            lifecycle=self.lifecycle,
            serial_prefix=self.serial and self.serial.upper(),
            enable_status=self.enable_status,
            silent_s=self.silent_s,
            heard_s=self.heard_s,
        )
        return selection.chosen(wanted, everything=self.all)


class NewListPlan(Shape):
    """What is wanted of the units of a list, why, and how the plan goes on.

    Shares are percent. What is left out is careful for a plan that disables; one that enables takes a
    rate alone.
    """

    mode: Literal[Mode.ENABLED, Mode.OFFLINE_DISABLED]
    after_s: Annotated[
        int, Field(description="0 = off now; from 86400 = off after so long without contact.")
    ] = 0
    reason: Reason
    rate_per_s: Annotated[
        float | None, Field(ge=waves.RATE_MIN_PER_S, description="Commands per second; from one an hour.")
    ] = None
    waves_pct: Annotated[
        list[float] | None,
        Field(max_length=waves.WAVES_MAX, description="Shares that add up; the last is 100."),
    ] = None
    gate_pct: Annotated[
        float | None, Field(description="Confirmed of what was ordered, before the next wave.")
    ] = None
    abort_pct: Annotated[
        float | None,
        Field(description="Refused or expired of what has ended; above it the plan is given up."),
    ] = None
    abort_sample: Annotated[
        int | None, Field(le=2**31 - 1, description="Commands that must have ended before that is judged.")
    ] = None

    def draft(self, caller: Caller, entity_id: int | None = None) -> Draft:
        """Give the plan to be; `WishMakesNoSense` when fields do not fit each other."""
        wish = selection.wish_of(self.mode, self.after_s)
        usual = waves.CAREFUL if wish.disables else waves.FREE
        given = {
            "rate_per_s": self.rate_per_s,
            "waves_pct": None if self.waves_pct is None else tuple(self.waves_pct),
            "gate_pct": self.gate_pct,
            "abort_pct": self.abort_pct,
            "abort_sample": self.abort_sample,
        }
        terms = usual.changed(**{name: value for name, value in given.items() if value is not None})
        narrow = entity_id is not None and caller.sees(entity_id)
        return Draft(wish=wish, terms=terms, scope=frozenset({entity_id or 0}) if narrow else caller.scope)


class NewPlan(NewListPlan):
    """What is wanted of all units that have something in common; unlike a query, JSON has numbers."""

    model_config = ConfigDict(strict=True)

    filter: PlanFilter


class Why(Shape):
    """Why something is done to a plan."""

    reason: Reason


class EntityUnits(Shape):
    """How many of an entity's units a plan reaches."""

    entity_id: int
    units: int


class SummaryView(Shape):
    """What a dry run has found: all but `listed`, `excluded` and `fleet` tells of the units that were fit.

    `fleet` are the units in scope that are not terminated.
    """

    listed: int
    included: int
    excluded: dict[Exclusion, int]
    by_entity: list[EntityUnits]
    by_enable_status: dict[str, int]
    by_contact: dict[str, int]
    fleet: int
    share_of_fleet_pct: float | None

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Show a summary."""
        share = round(100 * told["included"] / told["fleet"], 2) if told["fleet"] else None
        return cls.model_validate(told | {"share_of_fleet_pct": share})


class TermsView(Shape):
    """How a plan goes on; shares in percent."""

    rate_per_s: float
    waves_pct: list[float]
    gate_pct: float
    abort_pct: float
    abort_sample: int

    @classmethod
    def of(cls, terms: Terms) -> Self:
        """Show terms."""
        return cls.model_validate({name: getattr(terms, name) for name in cls.model_fields})


class PlanView(Shape):
    """One plan. `waits_for` tells why a running plan orders nothing now.

    `included` units were found fit, and, once a plan that enables is executed, those that were on or about
    to be; `ordered` of them have a command, `dropped` were not fit when their turn came, or needed none.
    """

    id: UUID
    state: State
    mode: Mode
    after_s: int
    selection: dict[str, Any]
    undo_of: UUID | None
    terms: TermsView
    summary: SummaryView | None
    included: int
    ordered: int
    dropped: int
    waits_for: Hold | None
    aborted_because: dict[str, Any] | None
    reason: str
    authored_by: str
    authored_at: datetime
    expires_at: datetime
    executed_by: str | None
    executed_at: datetime | None
    approved_by: str | None
    approved_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, plan: Plan, **further: object) -> Self:
        """Show a plan."""
        made = further | {
            "mode": plan.wish.mode,
            "after_s": plan.wish.after_s,
            "terms": TermsView.of(plan.terms),
            "summary": None if plan.summary is None else SummaryView.of(plan.summary),
        }
        return cls.model_validate({n: getattr(plan, n) for n in cls.model_fields if n not in made} | made)


class PlanStory(PlanView):
    """One plan, and how its commands stand."""

    commands: dict[states.State, int]


class PlanUnitView(Shape):
    """One line of a plan; `row` is its place in the list, or its number among the units found."""

    row: int
    given: str | None
    imei: Imei | None
    serial_number: SerialNumber | None
    outcome: Outcome
    exclusion: Exclusion | None
    decided_at: datetime | None
    command_id: UUID | None
    command_state: states.State | None
    refusal: str | None
    finished_at: datetime | None

    @classmethod
    def of(cls, line: PlanUnit) -> Self:
        """Show a line."""
        return cls.model_validate({name: getattr(line, name) for name in cls.model_fields})
