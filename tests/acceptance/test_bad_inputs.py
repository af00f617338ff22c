"""Whatever is sent has one fate; a dead letter tells why, and the good beside it is stored (issue 3.9)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from deploy.local import broker
from deploy.local.processes import until
from protocol import signing
from protocol.identity import Imei
from tests.acceptance.bad_bodies import BODIES, TEXTS
from tests.acceptance.bad_inputs import JUDGED, Fate, beat
from tests.acceptance.bad_packets import ODD_PACKETS
from tests.acceptance.independent_client import IndependentUnit
from tests.acceptance.prober import PASSWORD, PROBER, System, lets_in, probed, topic
from tests.acceptance.raw_line import Line, connect, publish
from tests.builders import a_serial, an_imei

ROWS = [*BODIES, *ODD_PACKETS]
NAMES = [f"{row.number} {row.name}" for row in ROWS]
SPEAKERS = [an_imei(2000 + place) for place in range(len(ROWS))]
ADA, BEN, CAM, DOT, EVE, STRANGER = (an_imei(number) for number in range(1, 7))
"""Units of the stories below the table; the last is not enrolled at first."""

GATEWAY = broker.UPLINK
Answers = list[list[Fate | None]]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with probed([*SPEAKERS, ADA, BEN, CAM, DOT, EVE]) as system:
        yield system


@pytest.fixture(scope="module")
def answers(system: System) -> Answers:
    """Say the whole table, and give what the broker answered."""
    answers = [system.say_between_good_ones(imei, row) for imei, row in zip(SPEAKERS, ROWS, strict=True)]
    system.settle()
    return answers


def test_every_number_has_its_rows_and_every_row_a_name_of_its_own() -> None:
    """11 and 18 are stories, told below."""
    assert {row.number for row in ROWS} == {*range(1, 21), 29} - {11, 18}
    assert [name for name, times in Counter(NAMES).items() if times > 1] == []


@pytest.mark.parametrize("place", range(len(ROWS)), ids=NAMES)
def test_a_bad_input_has_its_fate_and_costs_nothing_else(
    system: System, answers: Answers, place: int
) -> None:
    row, imei = ROWS[place], SPEAKERS[place]

    letters = system.letters({said.address(imei) for said in row.said})
    beats = system.heartbeats(imei)

    assert answers[place] == [
        None if said.fate in {*JUDGED, Fate.UNFINISHED} else said.fate for said in row.said
    ]
    assert letters == sorted(
        (letter.reason, letter.path, letter.body(said.body)) for said in row.said for letter in said.letters
    )
    assert sorted(beats) == sorted([(1, 1), (1, 3), *(key for said in row.said for key in said.beats)])
    assert system.newest(imei) == row.newest
    for said in row.said:
        shown = beats[said.beats[0]] if said.beats else {}
        assert {name: told(shown, name) for name in said.keeps} == said.keeps


def told(beat: dict[str, Any], name: str) -> Any:
    """Give a field as the API tells it; `at` as the second, None when it is that of the arrival."""
    if name != "at":
        return beat[name]
    return (
        None if beat["at"] == beat["received_at"] else round(datetime.fromisoformat(beat["at"]).timestamp())
    )


@pytest.mark.usefixtures("answers")
def test_the_table_adds_up(system: System) -> None:
    """R4: as many messages of each verdict as the rows say, and none without."""
    expected = Counter(said.fate for row in ROWS for said in row.said if said.fate in JUDGED)
    expected[Fate.STORED] += 2 * len(ROWS)

    assert system.judged() == expected
    assert system.received == expected.total()


@pytest.mark.usefixtures("answers")
def test_whatever_was_said_can_be_shown_and_summed_up(system: System) -> None:
    for imei in SPEAKERS:
        system.get(f"/v1/units/{imei}/holes")
        system.get(f"/v1/units/{imei}/reliability")
    system.get("/v1/fleet/holes")
    for path in ("/v1/units", "/v1/dead-letters"):
        page = system.get(path, limit=200)
        assert len(page["items"]) == 200
        assert system.get(path, limit=200, cursor=page["next"])["items"]

    [(hours, heartbeats)] = system.stack.query("SELECT count(*), sum(heartbeats) FROM heartbeat_hourly")

    assert hours >= len(SPEAKERS)
    assert heartbeats == len(system.stack.stored())


def test_an_unknown_unit_is_kept_out_kept_as_a_dead_letter_and_heard_once_it_is_enrolled(
    system: System,
) -> None:
    """Number 11."""
    assert not lets_in(system, STRANGER)
    with system.line(PROBER, PASSWORD) as line:
        system.good(line, STRANGER, 1)
    system.settle()
    strangers = system.get("/v1/dead-letters/strangers")["items"]
    assert [(stranger["imei"], stranger["messages"]) for stranger in strangers] == [(STRANGER, 1)]

    system.stack.run("registry", "enrol", STRANGER, a_serial(9001))
    system.stack.refresh_logins()
    assert until(lambda: lets_in(system, STRANGER), 10)
    with system.line(STRANGER) as line:
        system.good(line, STRANGER, 2)
    system.settle()

    assert list(system.heartbeats(STRANGER)) == [(1, 2)]
    assert system.letters({topic(STRANGER)}) == [("unknown_unit", "", beat(seq=1))]
    assert system.get("/v1/dead-letters/strangers")["items"] == []


def test_a_terminated_unit_is_cut_and_its_last_words_that_were_under_way_are_stored(
    system: System,
) -> None:
    """Number 11: what it said stays true; it may say no more, and is told nothing."""
    with system.line(ADA) as line:
        system.good(line, ADA, 1)
        system.stack.run("registry", "move", ADA, "TERMINATED", "--reason", "scrapped")
        system.stack.refresh_logins()
        assert until(lambda: not line.say(b"") and not line.open, 10), "it is still connected"
    assert not lets_in(system, ADA)

    with system.line(PROBER, PASSWORD) as line:
        system.good(line, ADA, 2)
    system.settle()

    assert sorted(system.heartbeats(ADA)) == [(1, 1), (1, 2)]
    assert system.get(f"/v1/units/{ADA}")["lifecycle"] == "TERMINATED"
    assert order_ping(system, ADA).status_code == 409


def test_a_unit_that_was_just_moved_goes_on_under_its_new_entity(system: System) -> None:
    """Number 11."""
    system.stack.run("registry", "entity", "add", "Sunshine")
    with system.line(BEN) as line:
        system.good(line, BEN, 1)
        system.stack.run("registry", "reassign", BEN, "--entity", "2", "--reason", "sold")
        system.stack.run("registry", "move", BEN, "SHIPPED", "--reason", "sold")
        system.good(line, BEN, 2)
    system.settle()

    assert sorted(system.heartbeats(BEN)) == [(1, 1), (1, 2)]
    assert system.get(f"/v1/units/{BEN}")["entity"]["name"] == "Sunshine"


def test_what_an_ack_says_is_shown_as_it_was_said(system: System) -> None:
    """Number 12: the reason of a refusal, and what else stands beside it."""
    reason = "".join(TEXTS.values())[:200]
    unit = independent(system, CAM)
    assert unit.connect()
    system.sent += 1  # its presence
    command = order_ping(system, CAM).json()
    assert until(lambda: len(unit.received) == 1, 20)

    refusal = {"v": 1, "command_id": command["id"], "epoch": 0, "mode": "enabled", "result": "refused"}
    more = {"reason": reason} | {word: word for word in TEXTS.values()}
    unit.say("ack", json.dumps(refusal | more))
    system.sent += 1
    assert until(lambda: system.get(f"/v1/commands/{command['id']}")["state"] == "refused", 20)
    unit.leave()
    system.sent += 1

    shown = system.get(f"/v1/commands/{command['id']}")
    evidence = shown["events"][-1]["evidence"]
    assert shown["refusal"] == evidence["reason"] == reason
    assert {word: evidence[word] for word in TEXTS.values()} == {word: word for word in TEXTS.values()}


@pytest.mark.usefixtures("answers")
def test_a_dead_letter_is_shown_as_it_was_said(system: System) -> None:
    """Number 12: in topic, path and body."""
    misnamed = {
        letter["topic"] for letter in system.get("/v1/dead-letters", reason="bad_imei", limit=200)["items"]
    }
    rows = [(row, imei) for row, imei in zip(ROWS, SPEAKERS, strict=True) if row.number == 12]
    for said, imei, foreign in ((row.said[0], imei, row.foreign) for row, imei in rows):
        if foreign and said.letters:
            assert said.address(imei) in misnamed
        elif said.letters:
            [listed] = system.get("/v1/dead-letters", imei=imei)["items"]
            opened = system.get(f"/v1/dead-letters/{listed['id']}")
            [letter] = said.letters
            assert (listed["path"], opened["text"]) == (letter.path, letter.body(said.body).decode())


def test_nobody_connects_under_somebody_elses_client_id(system: System) -> None:
    """Number 18: the broker takes the login for the client id, so neither unit nor gateway is pushed out."""
    with system.line(DOT) as line:
        for client_id in (DOT, GATEWAY, broker.DOWNLINK, "", "x" * 60_000):
            assert lets_in(system, EVE, client_id=client_id)
        assert not lets_in(system, EVE, system.password(DOT), client_id=DOT)
        assert not lets_in(system, DOT, system.password(EVE), client_id=EVE)
        system.good(line, DOT, 1)
        assert line.open
    system.settle()

    assert list(system.heartbeats(DOT)) == [(1, 1)]
    assert system.gateway.ended is None
    assert "broker_connected" in (log := system.gateway.log.read_text(encoding="utf-8"))
    assert log.count("broker_connected") == 1, "the gateway had to connect anew"


def test_half_a_packet_and_then_silence_holds_nobody_up(system: System) -> None:
    """Number 18."""
    greeting, heartbeat = connect(EVE, system.password(EVE)), publish(topic(EVE), beat())
    with ExitStack() as held:
        for size in range(1, len(greeting) - 9, 2):
            held.enter_context(Line(system.stack.mqtt.port)).whisper(greeting[:size])
        eve = held.enter_context(system.line(EVE))
        eve.whisper(heartbeat[:-9])
        with system.line(DOT) as line:
            system.good(line, DOT, 2)
        system.settle()
        assert max(system.heartbeats(DOT)) == (1, 2)
    system.settle()

    assert system.heartbeats(EVE) == {}


@pytest.mark.usefixtures("answers")
def test_every_message_had_one_verdict_and_no_heartbeat_is_stored_twice(system: System) -> None:
    """R4, over everything above."""
    system.settle()

    assert system.received == sum(system.judged().values()) == system.sent
    stored = system.stack.stored()
    assert len(stored) == len(set(stored)) == system.stack.metric('heliograph_heartbeats_total{kind="new"}')


@pytest.mark.usefixtures("answers")
def test_what_was_retained_is_not_heard_again_by_a_gateway_that_lost_its_session(system: System) -> None:
    """Number 20: only presence is told again, as something known."""
    before = system.stack.stored()
    system.gateway.end()
    forget = connect(GATEWAY, system.stack.folder.secrets.uplink)  # a clean start: its session is gone
    with Line(system.stack.mqtt.port) as line:
        assert line.enter(forget)

    system.gateway = system.stack.start_gateway()

    assert until(lambda: system.judged()[Fate.DUPLICATE] >= 1, 20)
    assert until(system.stack.drained, 20)
    assert system.judged() == {Fate.STORED: 0, Fate.DUPLICATE: system.received, Fate.DEAD_LETTER: 0}
    assert sorted(system.stack.stored()) == sorted(before)


def order_ping(system: System, imei: Imei) -> Any:
    """Order a ping."""
    return system.http.post(
        f"/v1/units/{imei}/commands",
        json={"kind": "ping", "reason": "is it there?"},
        headers={"Idempotency-Key": str(uuid4())},
    )


def independent(system: System, imei: Imei) -> IndependentUnit:
    """Make a unit that receives commands and does not answer by itself."""
    master = bytes.fromhex(system.stack.folder.secrets.master)
    unit = IndependentUnit(
        "127.0.0.1",
        system.stack.mqtt.port,
        imei=imei,
        password=system.password(imei),
        key=signing.unit_key(master, imei),
        life=7,
    )
    unit.obeys = False
    return unit
