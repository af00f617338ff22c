"""Cursors go out and come back whole, or are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.paging import BadCursor, Place, behind, cursor, page


class BehindName(Place):
    """Some place."""

    name: str


class BehindOther(Place):
    """A place of another list, of the same form."""

    name: str


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_cursor_comes_back_as_it_went_out(name: str) -> None:
    place = BehindName(name=name)

    assert behind(BehindName, cursor(place)) == place


@given(st.text())
def test_what_was_never_given_is_refused(text: str) -> None:
    with pytest.raises(BadCursor) as refused:
        behind(BehindName, text)

    assert refused.value.facts == {"field": "cursor"}


def test_a_cursor_belongs_to_its_list() -> None:
    with pytest.raises(BadCursor):
        behind(BehindOther, cursor(BehindName(name="a")))


@pytest.mark.parametrize(("there", "kept", "more"), [(0, 0, False), (2, 2, False), (3, 2, True)])
def test_a_page_knows_whether_another_follows(there: int, kept: int, *, more: bool) -> None:
    found = [str(number) for number in range(there)]

    got = page(found, 2, lambda name: BehindName(name=name))

    assert got.items == found[:kept]
    assert got.next == (cursor(BehindName(name="1")) if more else None)
