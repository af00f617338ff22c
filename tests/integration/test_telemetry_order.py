"""R3: old news never overwrites new, on any engine that tests run on; `tests.nemesis` tries it for longer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings

from runtime.settings import Database
from tests.nemesis import old_news
from tests.nemesis.old_news import Heard, Message, Ward

WITH_A_DATABASE = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
async def ward(database: Database) -> AsyncIterator[Ward]:
    async with old_news.ward(database) as ward:
        yield ward


@WITH_A_DATABASE
@given(old_news.shuffled(), old_news.cuts)
async def test_any_order_in_any_batches_ends_the_same(
    ward: Ward, messages: list[Message], sizes: list[int]
) -> None:
    await old_news.any_order_ends_the_same(ward, messages, sizes)


@WITH_A_DATABASE
@given(old_news.lived(), old_news.cuts)
async def test_a_healthy_unit_s_copies_change_nothing_and_raise_nothing(
    ward: Ward, heard: list[Heard], sizes: list[int]
) -> None:
    await old_news.copies_change_and_raise_nothing(ward, heard, sizes)
