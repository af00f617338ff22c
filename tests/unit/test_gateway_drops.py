"""When the broker's number of dropped messages is news."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gateway import drops, metrics
from gateway.drops import Drops


def told(*numbers: bytes) -> list[int]:
    """Let a gateway hear these numbers; give those that it warns of."""
    heard = Drops()
    with capture_logs() as logs:
        for number in numbers:
            heard.hear(number)
    return [entry["since_its_start"] for entry in logs if entry["event"] == "broker_dropped_messages"]


def figure() -> float:
    """Read the figure."""
    (family,) = metrics.DROPPED.collect()
    return family.samples[0].value


def test_a_broker_that_drops_nothing_is_no_news() -> None:
    assert told(b"0", b"0") == []


def test_what_was_dropped_before_the_gateway_came_is_news() -> None:
    assert told(b"7", b"7") == [7]
    assert figure() == 7


def test_drops_that_go_on_are_told_once() -> None:
    assert told(b"1", b"5", b"9") == [1]
    assert figure() == 9


def test_drops_after_a_calm_or_behind_a_new_start_of_the_broker_are_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drops, "CALM_S", 0.0)

    assert told(b"4", b"0", b"3", b"3", b"8") == [4, 3, 8]


def test_what_is_no_number_changes_nothing() -> None:
    told(b"3")

    with capture_logs() as logs:
        Drops().hear(b"\xffmany")

    assert [entry["event"] for entry in logs] == ["broker_drops_unreadable"]
    assert figure() == 3
