"""What could not be taken is kept, decided about and taken in after all; and the figures add up meanwhile."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import httpx
import paho.mqtt.client as mqtt
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from deploy.local import broker
from deploy.local.postgres import Role
from deploy.local.processes import until
from tests.acceptance.stack import Stack, running
from tests.builders import a_serial, an_imei

ENROLLED = (501, 502)
STRANGER, LATER_ENROLLED, KILLED = 601, 602, 603
PASSWORD = "of-this-test"  # noqa: S105 - of servers that live as long as the test
MESSAGES = 1_500
"""So many of each unit while the figures are scraped."""

MANY = 1_900
"""Dead letters to be replayed when the gateway is killed; within a day's share."""

HELD = MANY // 2
"""So many of them it cannot have before it is killed."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Run gateway and API with two units enrolled, and three logins at the broker of which nobody told us."""
    with running() as stack:
        for number in ENROLLED:
            stack.run("registry", "enrol", an_imei(number), a_serial(number))
        everybody = (*ENROLLED, STRANGER, LATER_ENROLLED, KILLED)
        with stack.mqtt.logins.open("a", encoding="ascii") as lines:
            lines.writelines(broker.login(an_imei(number), PASSWORD) for number in everybody)
        stack.mqtt.reload()
        stack.start_gateway()
        stack.start_api()
        yield stack


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {stack.token('admin')}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=20) as http:
        yield http


@contextmanager
def unit(stack: Stack, number: int) -> Iterator[mqtt.Client]:
    """Connect a unit."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=an_imei(number), protocol=mqtt.MQTTv5)
    client.username_pw_set(an_imei(number), PASSWORD)
    client.max_inflight_messages_set(500)
    client.connect("127.0.0.1", stack.mqtt.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def say(client: mqtt.Client, number: int, body: str) -> mqtt.MQTTMessageInfo:
    """Publish a heartbeat's body as a unit."""
    imei = an_imei(number)
    return client.publish(f"scu/v1/{imei.partition}/{imei}/heartbeat", body, qos=1)


def beat(seq: int, **fields: Any) -> str:
    """Write a heartbeat."""
    return json.dumps({"v": 1, "boot": 1, "seq": seq, "mode": "enabled", "epoch": 0, **fields})


def listed(http: httpx.Client, **query: Any) -> list[Any]:
    """List dead letters."""
    items: list[Any] = http.get("/v1/dead-letters", params=query).json()["items"]
    return items


def post(http: httpx.Client, path: str, body: Any) -> Any:
    """Ask for a change that is granted."""
    answer = http.post(path, json=body, headers={"Idempotency-Key": str(uuid4())})
    assert answer.is_success, answer.text
    return answer.json()


def test_what_a_unit_said_before_it_was_enrolled_is_taken_in_afterwards(
    stack: Stack, http: httpx.Client
) -> None:
    with unit(stack, LATER_ENROLLED) as client:
        for seq in (1, 2, 3):
            say(client, LATER_ENROLLED, beat(seq, readings={"battery_v": 12.5})).wait_for_publish(10)
    imei = an_imei(LATER_ENROLLED)
    assert until(lambda: len(listed(http, imei=imei)) == 3, 20)
    [first] = listed(http, imei=imei)[-1:]
    assert (first["reason"], first["state"]) == ("unknown_unit", "open")
    stack.run("registry", "enrol", imei, a_serial(LATER_ENROLLED))

    shown = http.get(f"/v1/dead-letters/{first['id']}").json()
    answer = post(
        http, "/v1/dead-letters/replay", {"filter": {"reason": "unknown_unit"}, "reason": "enrolled today"}
    )

    assert (shown["refusal"], shown["document"]["readings"]) == (None, {"battery_v": 12.5})
    assert answer == {"number": 3, "not_replayable": 0, "more": False}
    assert until(lambda: len(listed(http, imei=imei, state="replayed")) == 3, 20)
    fates = [one["fate"] for one in listed(http, imei=imei)]
    beats = http.get(f"/v1/units/{imei}/heartbeats").json()["items"]
    assert {(fate["verdict"], fate["why"]) for fate in fates} == {("stored", "enrolled today")}
    assert sorted(one["seq"] for one in beats) == [1, 2, 3]
    arrived = {one["first_at"] for one in listed(http, imei=imei)}
    assert {one["received_at"] for one in beats} == arrived
    assert http.get(f"/v1/units/{imei}").json()["presence"]["state"] != "online"


@pytest.mark.timeout(180)
def test_messages_and_heartbeats_add_up_at_every_scrape(stack: Stack, http: httpx.Client) -> None:
    """R4: good, repeated and bad messages, lost pieces, a stranger, and replays, all at once."""
    over = threading.Event()
    scrapes: list[Counter[str]] = []

    def scrape() -> None:
        while not over.is_set():
            scrapes.append(figures(stack))

    def speak(number: int) -> None:
        with unit(stack, number) as client:
            sent = [say(client, number, body) for seq in range(1, MESSAGES // 5 + 1) for body in varied(seq)]
            for one in sent:
                one.wait_for_publish(60)

    scraping = threading.Thread(target=scrape)
    speaking = [threading.Thread(target=speak, args=(number,)) for number in (*ENROLLED, STRANGER)]
    before = figures(stack)
    scraping.start()
    for thread in speaking:
        thread.start()
    while any(thread.is_alive() for thread in speaking):
        post(http, "/v1/dead-letters/replay", {"filter": {"imei": an_imei(STRANGER)}, "reason": "again"})
    for thread in speaking:
        thread.join()
    total = 3 * MESSAGES
    assert until(lambda: figures(stack)["received"] >= before["received"] + total, 30)
    assert until(stack.drained, 30)
    over.set()
    scraping.join()

    scrapes.append(figures(stack))
    assert [one for one in scrapes if imbalance(one) != (0, 0)] == []
    assert len(scrapes) > 50
    moving = [one for one in scrapes if one["unacknowledged"]]
    assert len(moving) > 10, "nothing was on its way at any scrape"
    last = scrapes[-1]
    grown = {name: last[name] - before[name] for name in last}
    assert {name: grown[name] for name in ("stored", "duplicate", "dead_letter")} == {
        "stored": 2 * 2 * MESSAGES // 5,
        "duplicate": 2 * MESSAGES // 5,
        "dead_letter": 2 * 2 * MESSAGES // 5 + MESSAGES,
    }
    assert grown["seen"] == 2 * 4 * MESSAGES // 5
    assert grown["replayed"] > 0


@pytest.mark.timeout(180)
def test_a_gateway_that_is_killed_while_it_replays_loses_nothing_and_doubles_nothing(stack: Stack) -> None:
    """R1, R2, for what was lost already."""
    with unit(stack, KILLED) as client:
        sent = [say(client, KILLED, beat(seq)) for seq in range(1, MANY + 1)]
        for one in sent:
            one.wait_for_publish(60)
    kept = "SELECT count(*) FROM dead_letter WHERE imei = %s"
    assert until(lambda: stack.query(kept, an_imei(KILLED)) == [(MANY,)], 30)
    stack.run("registry", "enrol", an_imei(KILLED), a_serial(KILLED))

    def fates(state: str) -> int:
        [(number,)] = stack.query(
            "SELECT count(*) FROM dead_letter_with_fate WHERE imei = %s AND state = %s",
            an_imei(KILLED),
            state,
        )
        return int(number)

    stack.children[0].end()
    stack.run("telemetry", "dead-letters", "replay", "--imei", an_imei(KILLED), "--why", "enrolled today")
    with held(stack, KILLED, HELD):  # however fast it is, the kill finds it with something left
        gateway = stack.start_gateway()
        assert until(lambda: fates("replayed") > 0, 60)
        gateway.tell(signal.SIGKILL)
        gateway.end()
        left = fates("marked")
    stack.start_gateway()
    assert until(lambda: fates("marked") == 0, 60)

    assert HELD <= left < MANY, "the kill did not hit"
    verdicts = stack.query(
        "SELECT verdict, count(*) FROM dead_letter_with_fate WHERE imei = %s GROUP BY 1", an_imei(KILLED)
    )
    stored = [seq for imei, _, _, seq in stack.stored() if imei == an_imei(KILLED)]
    assert verdicts == [("stored", MANY)]
    assert sorted(stored) == list(range(1, MANY + 1))


@contextmanager
def held(stack: Stack, number: int, newest: int) -> Iterator[None]:
    """Hold so many of a unit's marks, as another gateway that is at them."""
    with psycopg.connect(stack.database.url(Role.SUPERUSER)) as conn:
        locked = conn.execute(
            "SELECT FROM dead_letter_fate WHERE letter_id IN (SELECT id FROM dead_letter WHERE imei = %s)"
            " ORDER BY id DESC LIMIT %s FOR UPDATE",
            [an_imei(number), newest],
        )
        assert locked.rowcount == newest
        yield


def varied(seq: int) -> list[str]:
    """Give five messages: a good one, it again, one with a backlog and a lost piece, and two bad ones."""
    return [
        beat(3 * seq),
        beat(3 * seq),
        beat(
            3 * seq + 1,
            readings={"panel_v": "high"},
            backlog=[{"seq": 3 * seq + 2, "mode": "enabled", "epoch": 0}],
        ),
        f"{{{seq}",
        beat(0, note=seq),
    ]


def figures(stack: Stack) -> Counter[str]:
    """Scrape the gateway once."""
    found: Counter[str] = Counter()
    with urlopen(f"http://127.0.0.1:{stack.health_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            match sample.name:
                case "heliograph_messages_received_total":
                    found["received"] += int(sample.value)
                case "heliograph_gateway_unacknowledged":
                    found["unacknowledged"] += int(sample.value)
                case "heliograph_messages_total":
                    found[sample.labels["verdict"]] += int(sample.value)
                case "heliograph_heartbeats_seen_total":
                    found["seen"] += int(sample.value)
                case "heliograph_heartbeats_total":
                    found[sample.labels["kind"]] += int(sample.value)
                case "heliograph_replayed_total":
                    found["replayed"] += int(sample.value)
    return found


def imbalance(one: Counter[str]) -> tuple[int, int]:
    """Tell by how much messages and heartbeats do not add up."""
    verdicts = one["stored"] + one["duplicate"] + one["dead_letter"]
    return one["received"] - verdicts - one["unacknowledged"], one["seen"] - one["new"] - one["repeated"]
