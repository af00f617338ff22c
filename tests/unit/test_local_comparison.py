"""The demo's verdict is worth something only if it can fail."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from deploy.local.comparison import KINDS, Comparison, Evidence, Key, compare

IMEI = "352099001761481"
THREE: list[Key] = [(IMEI, 7, 1, seq) for seq in (1, 2, 3)]
STRANGER: Key = (IMEI, 7, 1, 99)


def a_run(
    *,
    acknowledged: Collection[Key] = THREE,
    published: Collection[Key] = THREE,
    stored: Collection[Key] = THREE,
    received: Collection[Key] = THREE,
    confirmed: Collection[str] = KINDS,
) -> Comparison:
    return compare(
        Evidence(
            acknowledged=set(acknowledged),
            published=set(published),
            stored=set(stored),
            received=received,
            confirmed=set(confirmed),
            duplicates=4,
            dead_letters=5,
            commands={"confirmed": 3},
            seconds_to_first_heartbeat=6.5,
        )
    )


def test_a_run_in_which_both_sides_agree_has_no_differences() -> None:
    run = a_run()

    assert run.differences == ()
    assert (run.heartbeats_sent, run.heartbeats_stored, run.heartbeats_unexpected) == (3, 3, 0)
    assert (run.duplicates, run.dead_letters, run.commands) == (4, 5, {"confirmed": 3})
    assert run.seconds_to_first_heartbeat == 6.5


def test_one_missing_heartbeat_is_told_with_its_name() -> None:
    run = a_run(stored=THREE[:2], received=THREE[:2])

    assert (run.heartbeats_sent, run.heartbeats_stored) == (3, 2)
    [difference] = run.differences
    assert "1 heartbeat was" in difference
    assert "not stored" in difference
    assert str(THREE[2]) in difference


def test_one_heartbeat_that_nobody_sent_is_told_with_its_name() -> None:
    run = a_run(received=[*THREE, STRANGER])

    assert run.heartbeats_unexpected == 1
    [difference] = run.differences
    assert "never sent" in difference
    assert str(STRANGER) in difference


def test_an_extra_one_does_not_make_up_for_a_missing_one() -> None:
    run = a_run(stored=[*THREE[:2], STRANGER], received=[*THREE[:2], STRANGER])

    assert run.heartbeats_stored == 2
    assert len(run.differences) == 2


def test_a_heartbeat_that_is_stored_twice_is_a_difference() -> None:
    run = a_run(received=[*THREE, THREE[0]])

    assert run.heartbeats_doubled == 1
    assert run.heartbeats_unexpected == 0
    assert len(run.differences) == 1


def test_what_was_sent_but_not_acknowledged_may_be_stored_or_not() -> None:
    kept = a_run(published=[*THREE, STRANGER], received=[*THREE, STRANGER])
    lost = a_run(published=[*THREE, STRANGER])

    assert kept.differences == lost.differences == ()


def test_what_an_earlier_run_had_stored_counts_as_stored() -> None:
    run = a_run(received=THREE[1:])

    assert run.differences == ()


def test_a_run_without_heartbeats_proves_nothing() -> None:
    run = a_run(acknowledged=[], published=[], stored=[], received=[])

    assert run.differences == ("The fleet had no heartbeat acknowledged.",)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_command_must_be_confirmed(kind: str) -> None:
    run = a_run(confirmed=[other for other in KINDS if other != kind])

    [difference] = run.differences
    assert difference.endswith(f"{kind}.")
