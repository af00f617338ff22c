"""What must hold at the end of every scenario, told by the units' own ledger and the public API alone.

An invariant is a function of one unit's `Evidence` that gives the sentence that breaks it, or None. What was
meant is worked out here from the orders, not taken from the backend's own idea of it.
"""

# ruff: noqa: D401 - the docstring of an invariant is what must hold

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from protocol.messages import Mode

FINAL = frozenset({"confirmed", "refused", "superseded", "cancelled", "expired"})
PERSON = "person"
ENABLED = str(Mode.ENABLED)
NO_END_OF_A_WISH = frozenset({"stale_epoch", "bad_unit_clock"})
"""Refusals that rest on the unit's error about its epoch or clock: what was wished is wished all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one unit at one moment."""

    unit: str
    shown: Mapping[str, Any]
    """The unit as the API shows it."""

    commands: Sequence[Mapping[str, Any]]
    """The commands of this scenario with their events, as the API shows them, oldest first."""

    drifts: Sequence[Mapping[str, Any]]
    """The contradictions that the API tells of, newest first."""

    ledger: Sequence[Mapping[str, Any]]
    """What the unit did, in its own words."""

    mode: Mode
    """What the unit was last made to be."""

    output: bool
    """Whether the home has power."""

    battery_low: bool
    """Whether the battery alone keeps the output off."""

    @property
    def mode_commands(self) -> list[Mapping[str, Any]]:
        """The commands that set a mode and got an epoch, in the order in which they were queued."""
        placed = (command for command in self.commands if command["kind"] == "set_mode" and command["epoch"])
        return sorted(placed, key=queued_at)

    @property
    def intent(self) -> Mode:
        """The mode of a person's newest wish that stands; a scenario begins with units that are enabled.

        What the backend orders by itself serves such a wish, and is none.
        """
        wishes = (command for command in self.mode_commands if command.get("origin", PERSON) == PERSON)
        standing = [command for command in wishes if stands(command)]
        return Mode(standing[-1]["mode"]) if standing else Mode.ENABLED

    @property
    def applied(self) -> Iterator[Mapping[str, Any]]:
        """The commands that changed the unit."""
        return (told for told in self.ledger if told["event"] == "command_applied" and told["changed"])


Invariant = Callable[[Evidence], str | None]

INVARIANTS: dict[str, Invariant] = {}
MENDED_BY_TIME: set[str] = set()
"""Those that may hold a little later, when what was ordered last has come to its end."""


def always(check: Invariant) -> Invariant:
    """Enter a check under its name; its docstring is its line in the documentation."""
    INVARIANTS[check.__name__] = check
    return check


def at_last(check: Invariant) -> Invariant:
    """Enter a check of what must hold once everything has come to rest."""
    MENDED_BY_TIME.add(check.__name__)
    return always(check)


@at_last
def every_command_ended(told: Evidence) -> str | None:
    """Every command is in a final state."""
    return _first(
        f"{_name(command)} is {command['state']}"
        for command in told.commands
        if command["state"] not in FINAL
    )


@always
def ended_stays_ended(told: Evidence) -> str | None:
    """After its end a command moves no more, but from expired to confirmed."""
    return _first(
        f"{_name(command)} went from {event['from_state']} to {event['to_state']} by {event['event']}"
        for command in told.commands
        for event in command["events"]
        if event["from_state"] in FINAL
        and event["to_state"] != event["from_state"]
        and (event["from_state"], event["to_state"]) != ("expired", "confirmed")
    )


@at_last
def final_mode_is_newest_intent(told: Evidence) -> str | None:
    """The unit is as the newest wish that stands wants it: not cancelled, refused, or an expired disable."""
    if told.mode == told.intent:
        return None
    return f"the unit is {told.mode}, the newest wish that stands is {told.intent}"


@always
def applied_at_most_once(told: Evidence) -> str | None:
    """No command changed the same unit twice."""
    times = Counter((each["command_id"], each["life"]) for each in told.applied)
    return _first(
        f"command {command} was applied {count} times" for (command, _), count in times.items() if count > 1
    )


@at_last
def only_what_was_ordered_is_applied(told: Evidence) -> str | None:
    """What changed the unit is a command that the API shows, with this epoch and mode."""
    ordered = {str(command["id"]): (command["epoch"], command["mode"]) for command in told.commands}
    return _first(
        f"the unit applied {each['mode']} under epoch {each['epoch']}, which nobody ordered"
        for each in told.applied
        if ordered.get(each["command_id"]) != (each["epoch"], each["mode"])
    )


@always
def confirmed_only_with_evidence(told: Evidence) -> str | None:
    """A confirmed mode command was applied by the unit, and names a heartbeat that the unit sent."""
    applied = {each["command_id"] for each in told.ledger if each["event"] == "command_applied"}
    sent = {
        (boot, seq)
        for each in told.ledger
        if each["event"] == "heartbeats_sent"
        for boot, seq in each["keys"]
    }
    return _first(
        f"{_name(command)} is confirmed, but "
        + (
            "the unit never applied it"
            if command["id"] not in applied
            else "by no heartbeat that the unit sent"
        )
        for command in told.mode_commands
        if command["state"] == "confirmed"
        and (command["id"] not in applied or not sent.intersection(_proofs(command)))
    )


@always
def epochs_rise(told: Evidence) -> str | None:
    """Of two mode commands the one queued later has the higher epoch."""
    ordered = told.mode_commands
    return _first(
        f"{_name(later)} was queued after {_name(earlier)} and has no higher epoch"
        for earlier, later in pairwise(ordered)
        if later["epoch"] <= earlier["epoch"]
    )


@at_last
def drift_is_shown(told: Evidence) -> str | None:
    """A unit that is not as the newest wish wants it is told as drifted, or a command for it is under way."""
    reported = told.shown["reported"]
    if reported is None or reported["mode"] == told.intent or told.shown["pending_command"]:
        return None
    if any(drift["closed_at"] is None for drift in told.drifts):
        return None
    return f"the unit reports {reported['mode']} against {told.intent}, and no drift is open"


@at_last
def report_is_shown_as_it_is(told: Evidence) -> str | None:
    """The API shows mode and output as the unit has them, also where they contradict each other."""
    reported = told.shown["reported"]
    if reported is None:
        return "the API shows no report"
    said, shown = (told.mode, told.output), (reported["mode"], reported["output"])
    if said == shown:
        return None
    return f"the unit is {_state(*said)}, the API shows it as {_state(*shown)}"


@at_last
def power_follows_intent(told: Evidence) -> str | None:
    """The home has power if, and only if, it is to have it (and the battery is not empty)."""
    wanted = told.intent is Mode.ENABLED
    if told.output == wanted or told.battery_low:
        return None
    return f"the output is {_on(told.output)}, the newest wish that stands is {told.intent}"


def broken(told: Sequence[Evidence], unheld: Mapping[str, str]) -> dict[str, str]:
    """Name every invariant that does not hold now, with the unit and why."""
    return {
        name: f"{evidence.unit}: {why}"
        for name, check in INVARIANTS.items()
        if name not in unheld
        for evidence in told
        if (why := check(evidence))
    }


def stands(command: Mapping[str, Any]) -> bool:
    """Tell whether a wish is still one: not if taken back or refused, nor a disable that came to nothing."""
    state = command["state"]
    if state == "refused":
        return command["refusal"] in NO_END_OF_A_WISH
    return not (state == "cancelled" or (state in {"expired", "superseded"} and command["mode"] != ENABLED))


def queued_at(command: Mapping[str, Any]) -> datetime:
    """Tell when a command first was queued: that is when it got its epoch."""
    queued = (event["at"] for event in command["events"] if event["to_state"] == "queued")
    return datetime.fromisoformat(next(queued, command["ordered_at"]))


def _proofs(command: Mapping[str, Any]) -> set[tuple[int, int]]:
    return {
        (event["evidence"]["boot"], event["evidence"]["seq"])
        for event in command["events"]
        if event["event"] == "unit_reported"
    }


def _name(command: Mapping[str, Any]) -> str:
    what = command["mode"] or command["kind"]
    return f"{what} (epoch {command['epoch']}, {command['id']})"


def _state(mode: str, output: bool | None) -> str:  # noqa: FBT001 - as it is read
    return f"{mode} with its output {_on(output)}"


def _on(output: bool | None) -> str:  # noqa: FBT001 - what it says is all that it takes
    return {None: "not told", True: "on", False: "off"}[output]


def _first(found: Iterator[str]) -> str | None:
    return next(found, None)
