"""Topic and payload in, one verdict out: never an exception, nothing that could not be stored (issue 3.9)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.identity import Imei
from tests.acceptance.bad_bodies import BODIES
from tests.acceptance.bad_inputs import Row
from tests.acceptance.bad_packets import ODD_PACKETS
from tests.builders import an_imei
from tests.fuzz.invariants import examine
from tests.fuzz.mutations import message

IMEI = Imei("352099001761481")
SEED = 20261125
SEEDED = 1_000


@settings(max_examples=300)
@given(st.data())
def test_whatever_a_message_is_changed_to_it_has_one_verdict(data: st.DataObject) -> None:
    def pick(below: int) -> int:
        return data.draw(st.integers(0, below - 1))

    examine(*message(pick, [IMEI]))


def test_a_thousand_seeded_changes_have_one_verdict_each() -> None:
    dice = Random(SEED)  # noqa: S311 - nothing secret: the same changes each time

    verdicts = [type(examine(*message(dice.randrange, [IMEI])).content(1)) for _ in range(SEEDED)]

    assert len(set(verdicts)) == 2, "they are all of one kind: nothing was tried"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_any_topic_and_any_bytes_have_one_verdict(topic: str, body: bytes) -> None:
    examine(topic, body)


@pytest.mark.parametrize("row", [*BODIES, *ODD_PACKETS], ids=lambda row: f"{row.number} {row.name}")
def test_the_known_bad_inputs_have_one_verdict(row: Row) -> None:
    for said in row.said:
        examine(said.address(an_imei(1)), said.body)
