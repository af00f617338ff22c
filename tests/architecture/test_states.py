"""The words of the code are the words that the database admits, and a command ends where both say so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from commands.docket import Origin
from commands.drift import Resolution
from commands.intent import Cause
from commands.plan_units import Outcome
from commands.plans import State as Plan
from commands.policy import WISHED_MODES
from commands.selection import Exclusion
from commands.states import FINAL, MOVES, State
from commands.waves import Hold
from protocol.messages import CommandKind, Mode, PresenceState
from registry import lifecycle
from registry.lifecycle import Lifecycle
from registry.permissions import Level
from telemetry import fates
from telemetry.dead_letters import State as Letter
from telemetry.heartbeats import MODES
from telemetry.record import Verdict

SCHEMA = (Path(__file__).resolve().parents[2] / "storage" / "schema.sql").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("command_state_is_known: CHECK", State),
        ("command_final_has_its_time: CHECK", FINAL),
        ("command_kind_is_known: CHECK", CommandKind),
        ("command_mode_is_known: CHECK", WISHED_MODES),
        ("unit_intent_desired_is_known: CHECK", WISHED_MODES),
        ("command_origin_is_known: CHECK", Origin),
        ("drift_cause_is_known: CHECK", Cause),
        ("drift_desired_is_known: CHECK", WISHED_MODES),
        ("drift_mode_is_known: CHECK", Mode),
        ("drift_resolution_is_known: CHECK", Resolution),
        ("command_plan_state_is_known: CHECK", set(Plan) - {Plan.EXPIRED}),
        ("command_plan_mode_is_known: CHECK", WISHED_MODES),
        ("command_plan_hold_is_known: CHECK", Hold),
        ("plan_unit_outcome_is_known: CHECK", Outcome),
        ("plan_unit_exclusion_is_known: CHECK", Exclusion),
        ("unit_status_mode_is_known: CHECK", MODES),
        ("unit_status_presence_is_known: CHECK", PresenceState),
        ("dead_letter_fate_state_is_known: CHECK", set(Letter) - {Letter.OPEN}),
        ("dead_letter_fate_verdict_is_known: CHECK", Verdict),
        ("DOMAIN lifecycle AS text: CHECK", Lifecycle),
        ("DOMAIN permission_level AS text: CHECK", Level),
    ],
)
def test_the_database_admits_exactly_the_words_of_the_code(rule: str, words: Iterable[str]) -> None:
    [line] = [line for line in SCHEMA.splitlines() if line.strip().startswith(rule)]

    assert set(re.findall(r"'(\w+)'", line)) == {str(word) for word in words}


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)
    assert set(lifecycle.MOVES) == set(Lifecycle)
    assert set(fates.MOVES) == set(Letter)


def test_nothing_leaves_the_end_of_a_command_but_late_evidence() -> None:
    leaving = {(here, there) for here in FINAL for there in MOVES[here]}

    assert leaving == {(State.EXPIRED, State.CONFIRMED)}


def test_every_state_can_be_reached_and_every_command_can_end() -> None:
    reached = {State.QUEUED, State.AWAITING_APPROVAL, *(there for away in MOVES.values() for there in away)}

    assert reached == set(State)
    assert all(MOVES[state] & FINAL for state in State if state not in FINAL)
