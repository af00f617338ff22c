"""Whatever is sent, it has one fate, a dead letter tells why, and the good beside it is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from deploy.local import broker
from deploy.local.account import servers_account
from deploy.local.folder import write_private
from deploy.local.processes import until
from protocol import signing
from protocol.identity import Imei
from tests.acceptance.bad_bodies import BODIES
from tests.acceptance.bad_inputs import JUDGED, Fate, Row, Said, beat
from tests.acceptance.bad_packets import ODD_PACKETS
from tests.acceptance.raw_line import Line, connect, publish
from tests.acceptance.stack import Stack, running
from tests.builders import a_serial, an_imei

ROWS = [*BODIES, *ODD_PACKETS]
PROBER, PROBER_PASSWORD = "prober", "goes-anywhere"
"""A login that may publish anywhere, as one of another broker might, or of a tool."""

NOT_AUTHORIZED, NOBODY_LISTENS = 0x87, 0x10
SETTLED_S = 60.0


def imei_of(row: Row) -> Imei:
    """Give the unit that speaks in a row."""
    return an_imei(2000 + ROWS.index(row))


@dataclass
class System:
    """The running stack, and what the broker said to everything that was sent."""

    stack: Stack
    http: httpx.Client
    answered: dict[str, list[Fate | None]]
    sent: int = 0
    """Messages that must have reached the gateway."""

    verdicts: tuple[float, ...] = ()

    def metric(self, name: str) -> float:
        """Read a figure of the gateway."""
        return self.stack.metric(name)

    @property
    def received(self) -> float:
        """How many messages the gateway has taken from the broker."""
        return self.metric("heliograph_messages_received_total")

    def judged(self) -> dict[str, float]:
        """Count messages by verdict."""
        return {
            fate.value: self.metric(f'heliograph_messages_total{{verdict="{fate}"}}')
            for fate in sorted(JUDGED)
        }

    def settle(self) -> None:
        """Wait until everything that was sent has its verdict."""
        until(lambda: self.received >= self.sent and sum(self.judged().values()) >= self.sent, SETTLED_S)

    @contextmanager
    def line(self, login: str, password: str | None = None) -> Iterator[Line]:
        """Log in with a login of its own, a unit's unless a password is given."""
        master = bytes.fromhex(self.stack.folder.secrets.master)
        with Line(self.stack.mqtt.port) as line:
            assert line.enter(connect(login, password or signing.password(master, Imei(login))))
            yield line

    def good(self, line: Line, imei: Imei, seq: int) -> None:
        """Say a good heartbeat of boot 1."""
        line.say(publish(topic_of(imei), beat(seq=seq)))
        self.sent += 1

    def say(self, line: Line, imei: Imei, said: Said) -> Fate | None:
        """Send what a row says; gives what the broker makes of it, None when it simply takes it."""
        codes = {answer.code for answer in line.say(said.packet(said.address(imei), said.body))}
        self.sent += said.fate in JUDGED
        if NOT_AUTHORIZED in codes:
            return Fate.NOT_ADMITTED
        if not line.open:
            return Fate.CUT
        return Fate.UNHEARD if NOBODY_LISTENS in codes else None

    def heartbeats(self, imei: str) -> dict[tuple[int, int], Any]:
        """Ask the API for all heartbeats of a unit."""
        answer = self.http.get(
            f"/v1/units/{imei}/heartbeats",
            params={"from": (datetime.now(UTC) - timedelta(days=50)).isoformat()},
        )
        assert answer.status_code == 200, answer.text
        beats = answer.json()["items"]
        found = {(beat["boot"], beat["seq"]): beat for beat in beats}
        assert len(found) == len(beats), "one is stored twice"
        return found

    def letters(self, topics: set[str]) -> list[tuple[str, str, bytes]]:
        """Give the dead letters of some topics, as often as they came."""
        found = self.stack.query(
            "SELECT reason, path, body, times FROM dead_letter WHERE topic = ANY(%s)",
            [topic.replace("\0", "") for topic in sorted(topics)],
        )
        return sorted((reason, path, body) for reason, path, body, times in found for _ in range(times))


def topic_of(imei: Imei, channel: str = "heartbeat") -> str:
    return f"scu/v1/{imei.partition}/{imei}/{channel}"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run the whole system and say everything in the table to it."""
    with running() as stack:
        admit_prober(stack)
        everyone = [*(imei_of(row) for row in ROWS), *(an_imei(number) for number in range(100))]
        lines = [f"{imei},{a_serial(place)}" for place, imei in enumerate(everyone)]
        stack.run("registry", "import", "-", stdin="\n".join(["imei,serial_number", *lines]))
        stack.refresh_logins()
        stack.start_gateway()
        stack.start_api()
        headers = {"Authorization": f"Bearer {stack.token('admin')}"}
        with httpx.Client(base_url=stack.api_url, headers=headers, timeout=30) as http:
            system = System(stack, http, {})
            assert until(lambda: admitted(system), 10)
            for row in ROWS:
                system.answered[f"{row.number} {row.name}"] = said_to(system, row)
            system.settle()
            yield system


def admit_prober(stack: Stack) -> None:
    """Give the broker a login that may publish anywhere."""
    access, logins = stack.mqtt.logins.with_name("access"), broker.backend_logins(stack.folder)
    rule = f"\nuser {PROBER}\ntopic write #\n"
    write_private(access, access.read_text(encoding="ascii") + rule, owner=servers_account())
    write_private(logins, logins.read_text(encoding="ascii") + broker.login(PROBER, PROBER_PASSWORD))


def admitted(system: System) -> bool:
    """Whether the broker has read who may log in."""
    with Line(system.stack.mqtt.port) as line:
        return line.enter(connect(PROBER, PROBER_PASSWORD))


def said_to(system: System, row: Row) -> list[Fate | None]:
    """Say what a row says between two good heartbeats; after a cut the unit connects anew."""
    imei = imei_of(row)
    with system.line(imei) as line:
        system.good(line, imei, 1)
        if row.foreign:
            with system.line(PROBER, PROBER_PASSWORD) as prober:
                answers = [system.say(prober, imei, said) for said in row.said]
        else:
            answers = [system.say(line, imei, said) for said in row.said]
        if line.open:
            system.good(line, imei, 3)
            return answers
    with system.line(imei) as line:
        system.good(line, imei, 3)
    return answers


def test_every_number_has_its_rows_and_every_row_a_name_of_its_own() -> None:
    """11 and 18 are stories and stand below."""
    numbers = Counter(row.number for row in ROWS)
    names = Counter(f"{row.number} {row.name}" for row in ROWS)

    assert set(numbers) == {*range(1, 21), 29} - {11, 18}
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number} {row.name}")
def test_a_bad_input_has_its_fate_and_costs_nothing_else(system: System, row: Row) -> None:
    imei = imei_of(row)
    topics = {said.address(imei) for said in row.said}

    expected_answers = [None if said.fate in {*JUDGED, Fate.UNFINISHED} else said.fate for said in row.said]
    assert system.answered[f"{row.number} {row.name}"] == expected_answers
    assert system.letters(topics) == sorted(
        (letter.reason, letter.path, letter.body(said.body)) for said in row.said for letter in said.letters
    )
    beats = system.heartbeats(imei)
    assert sorted(beats) == sorted([(1, 1), (1, 3), *(key for said in row.said for key in said.beats)])
    assert newest(system, imei) == row.newest
    for said in row.said:
        for name, value in said.keeps.items():
            shown = beats[said.beats[0]]
            assert (standing(shown) if name == "at" else shown[name]) == value, name


def newest(system: System, imei: Imei) -> tuple[int, int]:
    """Give boot and seq of the newest report that the unit's status knows."""
    statement = "SELECT boot, seq FROM unit_status JOIN unit ON unit.id = unit_id WHERE imei = %s"
    [(boot, seq)] = system.stack.query(statement, imei)
    return boot, seq


def standing(beat: Any) -> int | None:
    """Give the second at which a heartbeat stands in charts; None when that is its arrival."""
    if beat["at"] == beat["received_at"]:
        return None
    return round(datetime.fromisoformat(beat["at"]).timestamp())


def test_the_table_adds_up(system: System) -> None:
    """R4: as many messages of each verdict as the rows say, and none without."""
    expected = Counter(said.fate.value for row in ROWS for said in row.said if said.fate in JUDGED)
    expected[Fate.STORED.value] += 2 * len(ROWS)

    assert system.judged() == expected
    assert system.received == expected.total() == system.sent
