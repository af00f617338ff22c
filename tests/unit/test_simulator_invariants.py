"""Each invariant of the scenarios holds for what is right, and can be broken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from protocol.messages import Mode
from simulator import invariants
from simulator.invariants import INVARIANTS, Evidence

OFF, ON = Mode.OFFLINE_DISABLED, Mode.ENABLED
Told = dict[str, Any]


def _event(event: str, before: str | None, after: str, minute: int, **evidence: Any) -> Told:
    at = f"2026-11-25T12:{minute:02}:00Z"
    return {"event": event, "from_state": before, "to_state": after, "at": at, "evidence": evidence}


def _command(name: str, mode: Mode = OFF, *, epoch: int, state: str = "confirmed", **further: Any) -> Told:
    events = [
        _event("ordered", None, "queued", epoch),
        _event("published", "sending", "sent", epoch),
        _event("unit_reported", "sent", "confirmed", epoch, boot=1, seq=epoch),
    ]
    known = {
        "id": name,
        "kind": "set_mode",
        "mode": str(mode),
        "epoch": epoch,
        "state": state,
        "origin": "person",
        "refusal": None,
        "ordered_at": events[0]["at"],
        "events": events,
    }
    return known | further


def _did(name: str, mode: Mode, epoch: int, life: int = 7) -> list[Told]:
    applied = {"command_id": name, "mode": str(mode), "epoch": epoch, "life": life, "changed": True}
    return [{"event": "command_applied", **applied}, {"event": "heartbeats_sent", "keys": [(1, epoch)]}]


def _evidence(**changes: Any) -> Evidence:
    """Tell of a unit that was switched off and on again, as it should be."""
    known: Told = {
        "unit": "home",
        "shown": {"reported": {"mode": "enabled", "output": True}, "pending_command": None},
        "commands": [_command("off", epoch=1), _command("on", ON, epoch=2)],
        "drifts": [],
        "ledger": [*_did("off", OFF, 1), *_did("on", ON, 2)],
        "mode": ON,
        "output": True,
        "battery_low": False,
    }
    return Evidence(**known | changes)


def _shown(mode: Mode, *, output: bool, pending: str | None = None) -> Told:
    return {"reported": {"mode": str(mode), "output": output}, "pending_command": pending}


MOVED_ON = _command("off", epoch=1, state="superseded")
MOVED_ON["events"].append(_event("published", "superseded", "sent", 9))
LATE = _command("off", epoch=1)
LATE["events"].append(_event("unit_reported", "expired", "confirmed", 9, boot=1, seq=1))
BY_NOTHING = _command("on", ON, epoch=2)
BY_NOTHING["events"][-1]["evidence"]["seq"] = 77

BREAKS: list[tuple[str, dict[str, Any]]] = [
    ("every_command_ended", {"commands": [_command("off", epoch=1, state="sent")], "mode": OFF}),
    ("ended_stays_ended", {"commands": [MOVED_ON]}),
    ("final_mode_is_newest_intent", {"mode": OFF}),
    ("applied_at_most_once", {"ledger": [*_did("on", ON, 2), *_did("off", OFF, 1), *_did("on", ON, 2)]}),
    ("only_what_was_ordered_is_applied", {"ledger": _did("x", OFF, 3)}),
    ("only_what_was_ordered_is_applied", {"ledger": [*_did("off", OFF, 1), *_did("on", OFF, 2)]}),
    ("confirmed_only_with_evidence", {"ledger": _did("off", OFF, 1)}),
    ("confirmed_only_with_evidence", {"commands": [BY_NOTHING]}),
    ("epochs_rise", {"commands": [_command("off", epoch=2), _command("on", ON, epoch=2)]}),
    ("drift_is_shown", {"shown": _shown(OFF, output=True)}),
    ("report_is_shown_as_it_is", {"shown": _shown(ON, output=False)}),
    ("report_is_shown_as_it_is", {"shown": {"reported": None, "pending_command": None}}),
    ("power_follows_intent", {"output": False}),
]


def test_all_hold_for_what_is_right() -> None:
    assert invariants.broken([_evidence()], {}) == {}


@pytest.mark.parametrize(("name", "changes"), BREAKS)
def test_each_can_be_broken(name: str, changes: Mapping[str, Any]) -> None:
    why = INVARIANTS[name](_evidence(**changes))

    assert why


def test_no_invariant_is_without_a_break() -> None:
    assert {name for name, _ in BREAKS} == set(INVARIANTS)


def test_what_is_broken_is_named_with_the_unit_and_why_but_for_what_need_not_hold() -> None:
    told = _evidence(mode=OFF, output=False, shown=_shown(OFF, output=False), drifts=[{"closed_at": None}])

    broken = invariants.broken([told], {"power_follows_intent": "no reason"})

    assert broken == {
        "final_mode_is_newest_intent": (
            "home: the unit is offline_disabled, the newest wish that stands is enabled"
        )
    }


@pytest.mark.parametrize(
    ("newest", "intent"),
    [
        ({"state": "confirmed"}, OFF),
        ({"state": "sent"}, OFF),
        ({"state": "expired"}, ON),
        ({"state": "superseded"}, ON),
        ({"state": "cancelled"}, ON),
        ({"state": "refused", "refusal": "hardware"}, ON),
        ({"state": "refused", "refusal": "bad_unit_clock"}, OFF),
        ({"state": "refused", "refusal": "stale_epoch"}, OFF),
        ({"state": "confirmed", "origin": "intent"}, ON),
        ({"state": "awaiting_approval", "epoch": 0}, ON),
    ],
)
def test_the_intent_is_the_newest_wish_of_a_person_that_stands(newest: Told, intent: Mode) -> None:
    told = _evidence(commands=[_command("on", ON, epoch=2), _command("off", epoch=3) | newest])

    assert told.intent == intent


def test_an_enable_that_expired_is_still_wished() -> None:
    told = _evidence(commands=[_command("off", epoch=1), _command("on", ON, epoch=2, state="expired")])

    assert told.intent == ON


def test_late_evidence_may_confirm_what_had_expired() -> None:
    assert INVARIANTS["ended_stays_ended"](_evidence(commands=[LATE])) is None


@pytest.mark.parametrize(
    "changes", [{"drifts": [{"closed_at": None}]}, {"shown": _shown(OFF, output=False, pending="x")}]
)
def test_a_contradiction_is_shown_by_a_drift_or_by_what_is_under_way(changes: Told) -> None:
    told = _evidence(**{"shown": _shown(OFF, output=False)} | changes)

    assert INVARIANTS["drift_is_shown"](told) is None


def test_the_same_command_may_change_two_units_of_one_identity() -> None:
    told = _evidence(ledger=[*_did("on", ON, 2, life=7), *_did("on", ON, 2, life=8)])

    assert INVARIANTS["applied_at_most_once"](told) is None
