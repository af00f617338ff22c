"""The catalogue of what a unit, or its place, can do wrong with commands; scenarios name faults from here.

Which of them the backend mends by itself, and which it can only show, is what the scenarios tell.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Span(StrEnum):
    """For how long a fault is there."""

    COMMAND = "command"
    """It strikes the next command that the unit hears."""

    LASTING = "lasting"
    """From one step of a scenario until another mends it."""

    MOMENT = "moment"
    """It happens, and is over."""


class Fault(StrEnum):
    """What goes wrong; `meaning` is its line in the documentation."""

    meaning: str
    span: Span

    def __new__(cls, name: str, span: Span = Span.COMMAND, meaning: str = "") -> Self:
        """Make a member of its name, its span and its meaning."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.span = span
        member.meaning = meaning
        return member

    ACK_BEFORE_ACT = "ack_before_act", Span.COMMAND, "Acknowledges at once, acts a moment later."
    POWER_LOST_AFTER_ACK = (
        "power_lost_after_ack",
        Span.COMMAND,
        "Acknowledges, loses power, and never did it.",
    )
    ACT_WITHOUT_ACK = "act_without_ack", Span.COMMAND, "Acts and reports; the ack is never sent."
    LYING_ACK = (
        "lying_ack",
        Span.COMMAND,
        "Acknowledges and changes nothing: heartbeats keep the old mode and epoch.",
    )
    REBOOT_BEFORE_ACT = "reboot_before_act", Span.COMMAND, "Restarts before it acts; no ack."
    REBOOT_AFTER_ACT = "reboot_after_act", Span.COMMAND, "Acts, restarts before it says so; no ack."
    ACT_OUT_OF_TURN = (
        "act_out_of_turn",
        Span.COMMAND,
        "Acknowledges, and acts only after the next command, heedless of epochs.",
    )
    BROKEN_SWITCH = "broken_switch", Span.COMMAND, "Cannot move its load switch: refuses as `hardware`."
    LOST = "lost", Span.COMMAND, "The command does not reach the unit, though the broker delivered it."
    TWICE = "twice", Span.COMMAND, "The command comes twice, and once more after the next one."
    OVERTAKEN = "overtaken", Span.COMMAND, "The command comes after the next one."

    SILENCE = "silence", Span.LASTING, "No network; heartbeats are kept back."
    BRIDGED_OUTPUT = (
        "bridged_output",
        Span.LASTING,
        "The load switch is bridged: power flows whatever was applied.",
    )
    CLOCK_AHEAD = "clock_ahead", Span.LASTING, "The clock is set from the network, years ahead."
    CLOCK_BEHIND = "clock_behind", Span.LASTING, "The clock is set from the network, years behind."
    CLOCK_UNSET = "clock_unset", Span.LASTING, "The clock is never set."
    CLONED = (
        "cloned",
        Span.LASTING,
        "A second unit uses the same identity; the broker ends the older connection each time.",
    )

    REBOOT = "reboot", Span.MOMENT, "Restarts."
    RESET_KEEPING = (
        "reset_keeping",
        Span.MOMENT,
        "A factory reset as the wire demands it: life, epoch and mode survive.",
    )
    RESET_FORGETTING = (
        "reset_forgetting",
        Span.MOMENT,
        "A factory reset that forgets: a new life, epoch 0, enabled.",
    )


MISHANDLINGS = (
    Fault.ACK_BEFORE_ACT,
    Fault.POWER_LOST_AFTER_ACK,
    Fault.ACT_WITHOUT_ACK,
    Fault.LYING_ACK,
    Fault.REBOOT_BEFORE_ACT,
    Fault.REBOOT_AFTER_ACT,
)
"""What a fleet mishandles commands by: each strikes one delivery, and sending again mends it."""
