"""The running system under bad inputs: who says them, what the broker answers, what is found then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from deploy.local import broker
from deploy.local.account import servers_account
from deploy.local.folder import write_private
from deploy.local.processes import Child, until
from protocol import signing
from protocol.identity import Imei
from tests.acceptance.bad_inputs import JUDGED, Fate, Key, Row, Said, beat
from tests.acceptance.raw_line import Line, connect, publish
from tests.acceptance.stack import Stack, running
from tests.builders import a_serial

PROBER, PASSWORD = "prober", "goes-anywhere"
"""A login that may publish anywhere, as another broker might allow it, or a tool needs it."""

NOT_AUTHORIZED, NOBODY_LISTENS = 0x87, 0x10
SETTLED_S = 60.0
ADMITTED_S = 10.0


@dataclass
class System:
    """The stack with gateway and API; made by `probed`."""

    stack: Stack
    gateway: Child
    http: httpx.Client
    """The API, at the level of an administrator."""

    sent: int = 0
    """How many messages must reach the gateway until now."""

    @property
    def received(self) -> float:
        """How many messages this gateway has taken from the broker."""
        return self.stack.metric("heliograph_messages_received_total")

    def judged(self) -> dict[Fate, float]:
        """Count the messages of each verdict."""
        name = 'heliograph_messages_total{{verdict="{}"}}'
        return {fate: self.stack.metric(name.format(fate)) for fate in JUDGED}

    def settle(self) -> None:
        """Wait until everything that was sent has its verdict; what is missing then, the caller will find."""
        until(lambda: self.received >= self.sent and sum(self.judged().values()) >= self.sent, SETTLED_S)

    @contextmanager
    def line(self, login: str, password: str | None = None) -> Iterator[Line]:
        """Log in; a unit needs no password to be given."""
        with Line(self.stack.mqtt.port) as line:
            assert line.enter(connect(login, password or self.password(login)))
            yield line

    def password(self, imei: str) -> str:
        """Derive the password of a unit."""
        return signing.password(bytes.fromhex(self.stack.folder.secrets.master), Imei(imei))

    def good(self, line: Line, imei: Imei, seq: int) -> None:
        """Say a good heartbeat of boot 1."""
        line.say(publish(topic(imei), beat(seq=seq)))
        self.sent += 1

    def say(self, line: Line, imei: Imei, said: Said) -> Fate | None:
        """Say part of a row; gives what the broker makes of it, None when it simply takes it."""
        codes = {answer.code for answer in line.say(said.packet(said.address(imei), said.body))}
        self.sent += said.fate in JUDGED
        if NOT_AUTHORIZED in codes:
            return Fate.NOT_ADMITTED
        if not line.open:
            return Fate.CUT
        return Fate.UNHEARD if NOBODY_LISTENS in codes else None

    def say_between_good_ones(self, imei: Imei, row: Row) -> list[Fate | None]:
        """Say a row between two good heartbeats of its unit, which connects anew after a cut."""
        with self.line(imei) as line:
            self.good(line, imei, 1)
            if row.foreign:
                with self.line(PROBER, PASSWORD) as prober:
                    answers = [self.say(prober, imei, said) for said in row.said]
            else:
                answers = [self.say(line, imei, said) for said in row.said]
            if line.open:
                self.good(line, imei, 3)
                return answers
        with self.line(imei) as line:
            self.good(line, imei, 3)
        return answers

    def get(self, path: str, **query: Any) -> Any:
        """Ask the API for something that must be there."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json()

    def heartbeats(self, imei: str) -> dict[Key, Any]:
        """Ask the API for all heartbeats of a unit, by boot and seq."""
        since = datetime.now(UTC) - timedelta(days=50)
        beats = self.get(f"/v1/units/{imei}/heartbeats", **{"from": since.isoformat()})["items"]
        found = {(beat["boot"], beat["seq"]): beat for beat in beats}
        assert len(found) == len(beats), "one is stored twice"
        return found

    def newest(self, imei: str) -> Key:
        """Give boot and seq of the report that the unit's status has for the newest."""
        reported = self.get(f"/v1/units/{imei}")["reported"]
        return reported["boot"], reported["seq"]

    def letters(self, topics: set[str]) -> list[tuple[str, str, bytes]]:
        """Give reason, path and body of each dead letter of some topics, as often as it came."""
        storable = [topic.replace("\0", "") for topic in topics]
        found = self.stack.query(
            "SELECT reason, path, body, times FROM dead_letter WHERE topic = ANY(%s)", storable
        )
        return sorted((reason, path, body) for reason, path, body, times in found for _ in range(times))


def topic(imei: Imei, channel: str = "heartbeat") -> str:
    """Name a topic of a unit."""
    return f"scu/v1/{imei.partition}/{imei}/{channel}"


@contextmanager
def probed(units: Sequence[Imei]) -> Iterator[System]:
    """Run the whole system with these units and the prober let in, until the block ends."""
    with running() as stack:
        _admit_prober(stack)
        lines = [f"{imei},{a_serial(place)}" for place, imei in enumerate(units)]
        stack.run("registry", "import", "-", stdin="\n".join(["imei,serial_number", *lines]))
        stack.refresh_logins()
        gateway = stack.start_gateway()
        stack.start_api()
        headers = {"Authorization": f"Bearer {stack.token('admin')}"}
        with httpx.Client(base_url=stack.api_url, headers=headers, timeout=30) as http:
            system = System(stack, gateway, http)
            assert until(lambda: lets_in(system, PROBER, PASSWORD), ADMITTED_S)
            yield system


def lets_in(system: System, login: str, password: str | None = None, *, client_id: str | None = None) -> bool:
    """Whether the broker lets somebody in now."""
    greeting = connect(login, password or system.password(login), client_id=client_id)
    with Line(system.stack.mqtt.port) as line:
        return line.enter(greeting)


def _admit_prober(stack: Stack) -> None:
    access, logins = stack.mqtt.logins.with_name("access"), stack.mqtt.backend
    rule = f"\nuser {PROBER}\ntopic write #\n"
    write_private(access, access.read_text(encoding="ascii") + rule, owner=servers_account())
    write_private(logins, logins.read_text(encoding="ascii") + broker.login(PROBER, PASSWORD))
