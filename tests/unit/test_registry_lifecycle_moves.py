"""The published table of lifecycle moves, pair by pair."""

from __future__ import annotations

import itertools

import pytest

from registry.lifecycle import MOVES, Lifecycle, MoveNotAllowed, require_move

# Copied from the field's documentation, independently of the table under test.
PUBLISHED = """
NON_EXISTANT: STORED
STORED: SHIPPED TERMINATED
SHIPPED: ACTIVATING ACTIVATED IN_REPAIR_SYSTEM TERMINATED
ACTIVATING: ACTIVATED IN_REPAIR_SYSTEM TERMINATED
ACTIVATED: MONITORED UNMONITORED IN_REPAIR_SYSTEM TERMINATED
MONITORED: UNMONITORED IN_REPAIR_SYSTEM TERMINATED
UNMONITORED: MONITORED IN_REPAIR_SYSTEM TERMINATED
IN_REPAIR_SYSTEM: ACTIVATED TERMINATED
TERMINATED:
"""
ALLOWED = {
    (before, to)
    for before, targets in (line.split(":") for line in PUBLISHED.split("\n") if line)
    for to in targets.split()
}


@pytest.mark.parametrize(("before", "to"), list(itertools.product(Lifecycle, Lifecycle)))
def test_a_move_is_allowed_exactly_when_it_is_published(before: Lifecycle, to: Lifecycle) -> None:
    """S1.11."""
    if (before, to) in ALLOWED:
        require_move(before, to)
    else:
        with pytest.raises(MoveNotAllowed) as refused:
            require_move(before, to)
        assert refused.value.facts["from_state"] == before
        assert refused.value.facts["to_state"] == to
        assert f"from {before} to {to}" in refused.value.message


def test_the_table_speaks_of_every_state() -> None:
    assert set(MOVES) == set(Lifecycle)
    assert len(Lifecycle) == 9


def test_a_final_state_says_that_there_is_no_way_on() -> None:
    with pytest.raises(MoveNotAllowed, match="no other state"):
        require_move(Lifecycle.TERMINATED, Lifecycle.STORED)
