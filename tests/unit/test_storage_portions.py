"""A portion is as large as the database finishes in good time."""

from __future__ import annotations

import pytest

from storage import portions
from storage.errors import DatabaseUnavailable, DeadlinePassed
from storage.portions import Portions


def cut_off(some: Portions, number: int | None = None) -> None:
    with pytest.raises(DeadlinePassed), some.next() as portion:
        portion.number = number
        raise DeadlinePassed("The database took too long.")


def size(some: Portions) -> int:
    with some.next() as portion:
        return portion.most


def test_it_is_all_that_is_asked_for_while_nothing_is_cut_off() -> None:
    some = Portions(500)

    assert [size(some) for _ in range(3)] == [500, 500, 500]


def test_it_is_halved_until_it_fits_and_grows_again() -> None:
    some = Portions(500)
    for _ in range(3):
        cut_off(some)

    assert [size(some) for _ in range(7)] == [62, 94, 142, 214, 322, 484, 500]


def test_it_is_halved_by_what_there_was() -> None:
    some = Portions(500)

    cut_off(some, number=8)

    assert size(some) == 4


def test_what_took_less_than_it_might_tells_nothing_of_more() -> None:
    some = Portions(500)
    cut_off(some, number=8)
    with some.next() as portion:
        portion.number = 3

    assert size(some) == 4


def test_one_is_the_least() -> None:
    some = Portions(2)
    for _ in range(3):
        cut_off(some, number=0)

    assert size(some) == 1


def test_what_lasts_too_long_was_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Portions(500)
    monkeypatch.setattr(portions, "SHORT_S", -1.0)

    assert [size(some) for _ in range(3)] == [500, 250, 125]


def test_an_outage_makes_it_smaller_and_a_fault_of_ours_does_not() -> None:
    some = Portions(500)
    with pytest.raises(DatabaseUnavailable), some.next():
        raise DatabaseUnavailable("The database cannot be reached.")
    with pytest.raises(ZeroDivisionError), some.next():
        raise ZeroDivisionError

    assert size(some) == 250
