"""Where units and backend meet."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from protocol.identity import Imei
from protocol.reasons import Reason, Unreadable
from protocol.topics import Address, Channel, filters, parse, topic

imeis = st.integers(min_value=1, max_value=10**14 - 1).map(
    lambda number: Imei(f"{number:014}" + luhn.calc_check_digit(f"{number:014}"))
)


@given(imeis, st.sampled_from(Channel))
def test_a_topic_names_unit_and_channel_both_ways(imei: Imei, channel: Channel) -> None:
    name = topic(imei, channel)

    assert name == f"scu/v1/{imei[13:]}/{imei}/{channel.value}"
    assert parse(name) == Address(imei, channel)


@given(st.text() | st.lists(st.sampled_from(["scu", "v1", "81", "352099001761481", "ack", ""])).map("/".join))
def test_any_text_is_a_topic_or_unreadable(text: str) -> None:
    with suppress(Unreadable):
        address = parse(text)
        assert topic(address.imei, address.channel) == text


def test_a_wrong_partition_still_names_the_unit() -> None:
    with pytest.raises(Unreadable) as caught:
        parse("scu/v1/18/352099001761481/ack")

    assert (caught.value.reason, caught.value.imei) == (Reason.WRONG_PARTITION, "352099001761481")


def test_bad_topics_are_not_remembered() -> None:
    known = parse.cache_info().currsize

    for _ in range(2):
        with pytest.raises(Unreadable):
            parse("scu/v1/nonsense")

    assert parse.cache_info().currsize == known


def test_all_partitions_are_one_subscription() -> None:
    assert filters(Channel.HEARTBEAT, range(100)) == ["scu/v1/+/+/heartbeat"]


def test_some_partitions_are_a_subscription_each() -> None:
    assert filters(Channel.ACK, range(8, 11)) == ["scu/v1/08/+/ack", "scu/v1/09/+/ack", "scu/v1/10/+/ack"]
