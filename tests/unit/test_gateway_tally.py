"""R4: what the figures say of messages and heartbeats adds up at every scrape, whenever it comes."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

from gateway import tally
from gateway.verdicts import Outcome
from protocol.reasons import Reason
from runtime.metrics import exposition
from telemetry.record import Verdict

SCRAPES = 150
OUTCOME = Outcome(
    verdicts=[Verdict.STORED, Verdict.STORED, Verdict.DUPLICATE, Verdict.DEAD_LETTER],
    seen=7,
    new=4,
    repeated=3,
    lost=Counter({Reason.NOT_JSON: 1}),
    raised=Counter(),
)


def imbalances() -> tuple[float, float]:
    """Scrape, and tell by how much messages and heartbeats do not add up."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(exposition().decode()):
        for sample in family.samples:
            found[sample.name] += int(sample.value)
    return (
        found["heliograph_messages_received_total"]
        - found["heliograph_messages_total"]
        - found["heliograph_gateway_unacknowledged"],
        found["heliograph_heartbeats_seen_total"] - found["heliograph_heartbeats_total"],
    )


@contextmanager
def restless() -> Iterator[None]:
    """Let threads change places at nearly every step."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def test_a_scrape_sees_all_of_an_act_or_nothing_of_it() -> None:
    before = imbalances()
    scraped: list[tuple[float, float]] = []
    scraping = threading.Thread(target=lambda: scraped.extend(imbalances() for _ in range(SCRAPES)))

    with restless():
        scraping.start()
        while scraping.is_alive():
            tally.received(len(OUTCOME.verdicts), again=0)
            tally.settled(OUTCOME)
            tally.replayed(OUTCOME)
        scraping.join()

    assert len(scraped) == SCRAPES
    assert {before, *scraped} == {before}
