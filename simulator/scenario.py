"""What a scenario file says: who is there, what happens, and which invariants need not hold at its end.

A scenario is TOML: `line` tells it in a sentence, `steps` are done one after the other, each named by its
`do`. Every invariant of `simulator.invariants` is held against it, but for those that `[unheld]` takes
out with a reason.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from protocol.messages import Mode
from runtime.errors import Invalid, NotFound
from simulator.faults import Fault, Span
from simulator.invariants import INVARIANTS
from simulator.plan import LONGEST_INTERVAL_S

FOLDER = Path(__file__).parent / "scenarios"
SETTINGS = FOLDER / "settings.env"
"""What a backend is to be started with, so that every scenario fits into a minute."""

HOME = "home"
"""The unit of a scenario that has only one."""

OneOrMore = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]


class BadScenario(Invalid):
    """A scenario file cannot be read."""


class NoSuchScenario(NotFound):
    """There is no such scenario."""


class Part(BaseModel):
    """A part of a scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class UnitStep(Part):
    """Something about one unit."""

    unit: str = HOME


class Order(UnitStep):
    """Order a command; `answer` is the status that the API must give."""

    do: Literal["order"]
    wish: Literal["enabled", "offline_disabled", "ping"]
    after_s: int = 0
    command: str = ""
    answer: int = 202

    def body(self) -> dict[str, object]:
        """Give the wish as the API takes it."""
        if self.wish == "ping":
            return {"kind": "ping"}
        return {"kind": "set_mode", "mode": self.wish, "after_s": self.after_s}

    def __str__(self) -> str:
        """Tell the step."""
        told = f"order {self.wish} for {self.unit}"
        return told if self.answer == 202 else f"{told}: answered {self.answer}"  # noqa: PLR2004


class Find(UnitStep):
    """Wait for a command that this scenario did not order itself, and name it."""

    do: Literal["find"]
    wish: Mode
    command: str

    def __str__(self) -> str:
        """Tell the step."""
        return f"a further {self.wish} is ordered for {self.unit}"


class Wait(Part):
    """Wait until a command is in one of these states."""

    do: Literal["wait"]
    command: str
    state: OneOrMore

    def __str__(self) -> str:
        """Tell the step."""
        return f"{self.command} is {' or '.join(self.state)}"


class Decide(Part):
    """Approve a command as the second person, or cancel it."""

    do: Literal["approve", "cancel"]
    command: str

    def __str__(self) -> str:
        """Tell the step."""
        return f"{self.do} {self.command}"


class Strike(UnitStep):
    """Let a fault happen; `times` is for how many of the next commands."""

    do: Literal["strike"]
    fault: Fault
    times: Annotated[int, Field(ge=1)] = 1

    def __str__(self) -> str:
        """Tell the step."""
        commands = "command" if self.times == 1 else f"{self.times} commands"
        lasts = {Span.COMMAND: f" with the next {commands}", Span.LASTING: " from now on"}
        return f"{self.unit}: {self.fault}{lasts.get(self.fault.span, '')}"


class Mend(UnitStep):
    """End a fault."""

    do: Literal["mend"]
    fault: Fault

    def __str__(self) -> str:
        """Tell the step."""
        return f"{self.unit}: no more {self.fault}"


class Hear(UnitStep):
    """Wait until the broker has so many further heartbeats of a unit."""

    do: Literal["hear"]
    heartbeats: Annotated[int, Field(ge=1)] = 2

    def __str__(self) -> str:
        """Tell the step."""
        return f"{self.heartbeats} heartbeats of {self.unit}"


class Look(UnitStep):
    """Wait until the API shows a unit so; a list is searched for what is named."""

    do: Literal["look"]
    shows: dict[str, Any]

    def __str__(self) -> str:
        """Tell the step."""
        return f"{self.unit} is shown with " + ", ".join(
            f"{key} {value}" for key, value in self.shows.items()
        )


class Drift(UnitStep):
    """Wait until the API tells of a contradiction; `gave_up` when it must ask for a person."""

    do: Literal["drift"]
    cause: OneOrMore
    gave_up: bool = False

    def __str__(self) -> str:
        """Tell the step."""
        told = f"{self.unit} has drifted: {' or '.join(self.cause)}"
        return f"{told}, and a person is asked for" if self.gave_up else told


class Resolve(UnitStep):
    """Settle an open contradiction as a person does."""

    do: Literal["resolve"]
    cause: str
    decision: Literal["dismiss", "send_again", "accept"]

    def __str__(self) -> str:
        """Tell the step."""
        return f"a person settles {self.cause} of {self.unit}: {self.decision}"


Step = Annotated[
    Order | Find | Wait | Decide | Strike | Mend | Hear | Look | Drift | Resolve, Field(discriminator="do")
]


class Scenario(Part):
    """A whole scenario."""

    name: str
    line: str
    units: tuple[str, ...] = (HOME,)
    interval_s: Annotated[float, Field(gt=0, le=LONGEST_INTERVAL_S)] = 1.0
    steps: tuple[Step, ...] = Field(min_length=1)
    unheld: dict[str, str] = Field(default_factory=dict)

    @property
    def needs_second_person(self) -> bool:
        """Whether somebody else has to approve."""
        return any(step.do == "approve" for step in self.steps)

    @property
    def cloned(self) -> frozenset[str]:
        """The units that have a clone."""
        return frozenset(
            step.unit for step in self.steps if isinstance(step, Strike) and step.fault is Fault.CLONED
        )

    @model_validator(mode="after")
    def _names_are_known(self) -> Scenario:
        if unknown := self.unheld.keys() - INVARIANTS.keys():
            raise ValueError(f"unheld names no invariant: {', '.join(sorted(unknown))}")
        commands: set[str] = set()
        for number, step in enumerate(self.steps, 1):
            if isinstance(step, UnitStep) and step.unit not in self.units:
                raise ValueError(f"step {number} names the unit {step.unit}, which is not there")
            if isinstance(step, Wait | Decide) and step.command not in commands:
                raise ValueError(f"step {number} names the command {step.command} before it is ordered")
            if isinstance(step, Order | Find):
                commands.add(step.command)
        return self


def load(path: Path) -> Scenario:
    """Read a scenario file; `BadScenario` names the place of what is wrong."""
    try:
        return Scenario.model_validate({"name": path.stem} | tomllib.loads(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError as error:
        raise BadScenario(f"{path} is not UTF-8; write it anew as such.") from error
    except tomllib.TOMLDecodeError as error:
        raise BadScenario(f"{path} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise BadScenario(f"{path}: {place}: {first['msg']}.") from error


def catalogue() -> list[Scenario]:
    """Give the scenarios that come with the simulator, by name."""
    return [load(path) for path in sorted(FOLDER.glob("*.toml"))]


def named(name: str) -> Scenario:
    """Give a scenario by its name, or by the path of its file."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
        raise NoSuchScenario(f"There is no scenario {name}. There are: {known}.")
    return load(path)
