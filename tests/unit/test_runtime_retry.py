"""An outage is waited out with growing pauses; work that had gone well before it begins with short ones."""

from __future__ import annotations

import asyncio

import pytest

from runtime import retry
from runtime.errors import Unavailable
from runtime.retry import until_done

STEADY_S = 0.02


@pytest.mark.parametrize(
    ("spent_s", "pauses"),
    [(0.0, [0.2, 0.2, 0.2, 0.2]), (60.0, [0.2, 0.4, 0.8, 1.6])],
    ids=["went well until then", "was cut off at its deadline"],
)
async def test_pauses_grow_unless_work_had_recovered(
    monkeypatch: pytest.MonkeyPatch, spent_s: float, pauses: list[float]
) -> None:
    stop, told = asyncio.Event(), []

    async def pause(_stop: asyncio.Event, seconds: float) -> bool:
        told.append(seconds)
        if len(told) == len(pauses):
            stop.set()
        return False

    async def work() -> None:
        await asyncio.sleep(2 * STEADY_S)
        lost = Unavailable("It took too long.")
        lost.spent_s = spent_s
        raise ExceptionGroup("from a task group", [lost])

    monkeypatch.setattr(retry, "STEADY_S", STEADY_S)
    monkeypatch.setattr(retry, "pause", pause)
    monkeypatch.setattr("random.uniform", lambda _least, most: most)

    assert not await until_done("work", work, stop)

    assert told == pauses
