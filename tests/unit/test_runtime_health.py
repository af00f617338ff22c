"""What a health page shows of figures, with and without the event loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import Counter

from runtime import health
from runtime.health import Health

FIRST = Counter("test_first", "counted at the beginning of a step")
SECOND = Counter("test_second", "counted at its end")


@pytest.fixture
async def page() -> Health:
    return Health(0, list)


def scraped(page: Health) -> dict[str, float]:
    lines = page.answer("/metrics")[2].decode().splitlines()
    return {line.split()[0]: float(line.split()[-1]) for line in lines if line.startswith("test_")}


async def test_what_one_step_counts_is_scraped_together(page: Health) -> None:
    with ThreadPoolExecutor() as threads:
        FIRST.inc()
        asked = threads.submit(scraped, page)
        time.sleep(0.2)  # noqa: ASYNC251 - a step of the loop that takes its time
        SECOND.inc()
        found = await asyncio.wrap_future(asked)

    assert found["test_first_total"] == found["test_second_total"]


async def test_a_loop_that_hangs_is_scraped_without_it(page: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SCRAPE_S", 0.05)

    with ThreadPoolExecutor() as threads:
        found = threads.submit(scraped, page).result(10)

    assert set(found) >= {"test_first_total", "test_second_total"}
