"""The simulated fleet against a real Mosquitto, as a client that listens to everything sees it."""

from __future__ import annotations

import asyncio
import base64
import getpass
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from uuid_utils.compat import uuid7

from protocol.codec import decode, encode
from protocol.identity import Imei
from protocol.messages import Ack, Command, CommandKind, Heartbeat, Mode, Presence, PresenceState
from protocol.signing import password, sign, unit_key
from protocol.topics import Channel, topic
from runtime.settings import Broker
from simulator import station
from simulator.fleet import Fleet
from simulator.ledger import Ledger
from simulator.link import Endpoint
from simulator.memory import Memories
from simulator.plan import Faults, Plan
from simulator.roster import imeis

MASTER = bytes(range(32))
SEED = 5
UNITS = 12
FIRST = imeis(1, SEED)[0]
EVERYTHING = [(f"scu/v1/+/+/{channel}", 1) for channel in Channel if channel is not Channel.COMMAND]
ROOT = Path(__file__).parents[2]

Names = set[tuple[str, int, int, int]]
"""Heartbeats by IMEI, life, boot and seq."""


async def until(condition: Callable[[], Any], *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


def _hashed(secret: str) -> str:
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, 101, 64)
    return f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


@dataclass
class Mosquitto:
    """A broker that lets in the fleet and one listener, and tells what it received."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self, *extra: str) -> None:
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        logins = [(imei, password(MASTER, imei)) for imei in imeis(UNITS, SEED)] + [("listener", "ear")]
        (self.folder / "logins").write_text("".join(f"{who}:{_hashed(word)}\n" for who, word in logins))
        (self.folder / "logins").chmod(0o600)
        (self.folder / "mosquitto.conf").write_text(
            "\n".join(
                [
                    f"listener {self.port} 127.0.0.1",
                    *extra,
                    "allow_anonymous false",
                    f"password_file {self.folder}/logins",
                    "use_username_as_clientid true",
                    f"user {getpass.getuser()}",
                    "log_type all",
                    "",
                ]
            )
        )
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert program, "install mosquitto"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    async def listening(self) -> None:
        def connects() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        await until(connects)

    def heard_from(self, imei: Imei) -> list[str]:
        """Give the packets of one unit in the order in which the broker received or answered them."""
        found = []
        for line in (self.folder / "log").read_text().splitlines():
            if said := re.search(rf"(Received|Sending) (\w+) (?:from|to) {imei}(?: \(.*/(\w+)')?", line):
                found.append(" ".join(filter(None, said.groups())))
            elif f" as {imei} " in line:
                found.append("connected")
        return found


class Network:
    """Carries the fleet's connections to the broker, and can be gone."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self._to = to
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        if self._server:
            self._server.close()
        for end in self._ends:
            end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._ends |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while some := await reader.read(65_536):
                writer.write(some)
        writer.close()


@dataclass
class Listener:
    """Hears every unit and keeps what it heard, in order."""

    client: Client
    heard: list[Any] = field(default_factory=list)

    def of(self, imei: Imei) -> list[Any]:
        return [message for who, message in self.heard if who == imei]

    def states(self, imei: Imei) -> list[PresenceState]:
        return [message.state for message in self.of(imei) if isinstance(message, Presence)]

    def heartbeats(self) -> list[tuple[Imei, Heartbeat]]:
        return [(who, message) for who, message in self.heard if isinstance(message, Heartbeat)]

    def names(self) -> Names:
        return {
            (who, beat.life, beat.boot if entry.boot is None else entry.boot, entry.seq)
            for who, beat in self.heartbeats()
            for entry in (_as_entry(beat), *beat.backlog)
        }

    def hear(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        decoded = decode(message.topic, bytes(message.payload))
        assert decoded.faults == ()
        self.heard.append((decoded.address.imei, decoded.message))

    def command(self, imei: Imei, **fields: Any) -> Command:
        now = int(datetime.now(UTC).timestamp())
        given = {"attempt": 1, "issued_at": now, "expires_at": now + 600}
        order = sign(Command(id=uuid7(), **given | fields), imei, unit_key(MASTER, imei))
        self.client.publish(topic(imei, Channel.COMMAND), encode(order), qos=1)
        return order


def _as_entry(beat: Heartbeat) -> Any:
    return beat.model_copy(update={"backlog": ()})


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path)
    mosquitto.start()
    await mosquitto.listening()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture
async def listener(broker: Mosquitto) -> AsyncIterator[Listener]:
    client = Client(CallbackAPIVersion.VERSION2, client_id="listener")
    ear, subscribed = Listener(client), asyncio.Event()
    loop = asyncio.get_running_loop()
    client.username_pw_set("listener", "ear")

    def subscribe(*_: Any) -> None:
        client.subscribe(EVERYTHING)

    def say_so(*_: Any) -> None:
        loop.call_soon_threadsafe(subscribed.set)

    client.on_connect, client.on_subscribe = subscribe, say_so
    client.on_message = ear.hear
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    await asyncio.wait_for(subscribed.wait(), 10)
    yield ear
    client.disconnect()
    client.loop_stop()


@asynccontextmanager
async def fleet(broker: Mosquitto, *, port: int = 0, **plan: Any) -> AsyncIterator[Fleet]:
    """Run a fleet for the block, its ledger and state beside the broker's files."""
    wanted = Plan(**{"units": 1, "interval_s": 0.2, "seed": SEED} | plan)
    endpoint, stop = Endpoint("127.0.0.1", port or broker.port, None), asyncio.Event()
    with Ledger(broker.folder / "ledger") as ledger, closing(Memories(broker.folder / "state")) as memories:
        units = Fleet(wanted, endpoint, MASTER, ledger=ledger, memories=memories)
        serving = asyncio.create_task(units.serve(stop))
        try:
            yield units
        finally:
            stop.set()
            await serving


def ledger(broker: Mosquitto, event: str) -> list[dict[str, Any]]:
    lines = (broker.folder / "ledger").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


def named(broker: Mosquitto, event: str) -> Names:
    return {
        (line["imei"], line["life"], boot, seq)
        for line in ledger(broker, event)
        for boot, seq in line["keys"]
    }


def command_line(broker: Mosquitto, *options: str, master: bytes = MASTER) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "HELIOGRAPH_MASTER_SECRETS": json.dumps({"1": master.hex()}),
        "HELIOGRAPH_BROKER_URL": f"mqtt://127.0.0.1:{broker.port}",
    }
    words = ["--seed", str(SEED), "--interval", "0.2", "--ledger", str(broker.folder / "ledger"), *options]
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", "fleet", *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def test_a_unit_connects_subscribes_says_online_and_only_then_reports(
    broker: Mosquitto, listener: Listener
) -> None:
    async with fleet(broker, interval_s=0.05):
        await until(lambda: len(listener.heartbeats()) >= 3)
    await until(lambda: listener.states(FIRST)[-1:] == ["offline"])
    await until(lambda: "Received DISCONNECT" in broker.heard_from(FIRST))

    packets = [each for each in broker.heard_from(FIRST) if "PUBACK" not in each and "CONNACK" not in each]
    assert packets[:5] == [
        "connected",
        "Received SUBSCRIBE",
        "Sending SUBACK",
        "Received PUBLISH presence",
        "Received PUBLISH heartbeat",
    ]
    assert packets[-2:] == ["Received PUBLISH presence", "Received DISCONNECT"]
    assert listener.states(FIRST) == ["online", "offline"]


async def test_presence_is_retained_and_counts_the_connections(broker: Mosquitto, listener: Listener) -> None:
    async with fleet(broker):
        await until(lambda: listener.states(FIRST) == ["online"])
    await until(lambda: listener.states(FIRST) == ["online", "offline"])
    retained: list[MQTTMessage] = []
    listener.client.on_message = lambda _client, _data, message: retained.append(message)

    listener.client.subscribe(EVERYTHING)
    await until(lambda: retained)

    assert [(message.topic, message.retain) for message in retained] == [
        (topic(FIRST, Channel.PRESENCE), True)
    ]
    assert decode(retained[0].topic, bytes(retained[0].payload)).message == Presence(
        state=PresenceState.OFFLINE, life=listener.of(FIRST)[0].life, boot=1, conn=1
    )


async def test_a_command_is_answered_and_then_proved_by_a_heartbeat(
    broker: Mosquitto, listener: Listener
) -> None:
    async with fleet(broker, interval_s=600):
        await until(lambda: listener.states(FIRST))
        order = listener.command(
            FIRST, kind=CommandKind.SET_MODE, mode=Mode.OFFLINE_DISABLED, after_s=0, epoch=4
        )
        await until(listener.heartbeats)

        ack, beat = [each for each in listener.of(FIRST) if isinstance(each, Ack | Heartbeat)]
        assert isinstance(ack, Ack)
        assert (ack.command_id, ack.result, ack.epoch, ack.mode) == (
            order.id,
            "applied",
            4,
            "offline_disabled",
        )
        assert isinstance(beat, Heartbeat)
        assert (beat.epoch, beat.mode, beat.output) == (4, "offline_disabled", False)

        listener.client.publish(topic(FIRST, Channel.COMMAND), b"no command", qos=1)
        listener.command(FIRST, kind=CommandKind.PING)
        await until(lambda: len([each for each in listener.of(FIRST) if isinstance(each, Ack)]) == 2)

    assert len(listener.heartbeats()) == 1
    assert [line["epoch"] for line in ledger(broker, "command_applied")] == [4, 0]
    assert next(line["command_id"] for line in ledger(broker, "command_received")) == str(order.id)
    assert len(ledger(broker, "command_unreadable")) == 1


async def test_a_unit_whose_switch_is_broken_refuses_and_does_not_report(
    broker: Mosquitto, listener: Listener
) -> None:
    async with fleet(broker, interval_s=600, faults=Faults(refuse=1.0)):
        await until(lambda: listener.states(FIRST))
        listener.command(FIRST, kind=CommandKind.SET_MODE, mode=Mode.DISABLED, epoch=1)
        await until(lambda: any(isinstance(each, Ack) for each in listener.of(FIRST)))

    assert [line["reason"] for line in ledger(broker, "command_refused")] == ["hardware"]
    assert listener.heartbeats() == []


async def test_the_ledger_tells_what_arrived_whatever_went_wrong(
    broker: Mosquitto, listener: Listener
) -> None:
    faults = Faults(reboot=0.05, away=0.05, duplicate=0.2, lose=0.1)

    async with fleet(broker, units=UNITS, interval_s=0.15, faults=faults) as units:
        await until(lambda: units.tally.heartbeats_acked >= 400 and units.tally.reboots >= 5)
    await until(lambda: named(broker, "heartbeats_acked") <= listener.names())

    sent, lost = named(broker, "heartbeats_sent"), named(broker, "heartbeats_lost")
    assert listener.names() <= sent
    assert not lost & sent
    _assert_numbered_by_one(sent | lost)
    assert len(listener.heartbeats()) > len(
        {(who, beat.boot, beat.seq) for who, beat in listener.heartbeats()}
    )
    assert any(beat.backlog for _, beat in listener.heartbeats())
    assert ledger(broker, "left")
    assert ledger(broker, "rebooted")


def _assert_numbered_by_one(names: Names) -> None:
    newest: dict[tuple[str, int, int], int] = {}
    for imei, life, boot, seq in names:
        newest[imei, life, boot] = max(seq, newest.get((imei, life, boot), 0))
    assert sum(newest.values()) == len(names)


async def test_what_a_unit_could_not_send_without_a_network_comes_as_backlog(
    broker: Mosquitto, listener: Listener
) -> None:
    network = Network(broker.port)
    await network.up()

    async with fleet(broker, port=network.port, units=3, interval_s=0.1) as units:
        await until(lambda: units.tally.heartbeats_acked >= 10)
        await network.down()
        await until(lambda: units.tally.connects_failed >= 3)
        await network.up()
        await until(lambda: units.tally.connected == 3)
    await network.down()
    await until(lambda: named(broker, "heartbeats_acked") <= listener.names())

    assert listener.names() == named(broker, "heartbeats_sent")
    assert not named(broker, "heartbeats_lost")
    assert any(len(beat.backlog) >= 2 for _, beat in listener.heartbeats())
    assert [line["conn"] for line in ledger(broker, "connected")][-1] >= 2


async def test_a_later_run_with_the_state_file_goes_on_with_the_next_boot(
    broker: Mosquitto, listener: Listener
) -> None:
    for epoch in (1, 2):
        async with fleet(broker, interval_s=600):
            await until(lambda: listener.states(FIRST)[-1:] == ["online"])
            listener.command(FIRST, kind=CommandKind.SET_MODE, mode=Mode.DISABLED, epoch=epoch)
            await until(lambda: len(listener.heartbeats()) == epoch)  # noqa: B023 - awaited in the same round
        await until(lambda: listener.states(FIRST)[-1:] == ["offline"])

    (_, first), (_, second) = listener.heartbeats()
    assert (first.life, first.boot, first.seq) == (second.life, second.boot - 1, second.seq)
    assert (first.epoch, second.epoch) == (1, 2)


async def test_a_unit_that_wakes_for_its_report_listens_a_while_and_leaves_politely(
    broker: Mosquitto, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "LISTENING_S", 0.2)

    async with fleet(broker, interval_s=1.0, wake=True):
        await until(lambda: listener.states(FIRST).count(PresenceState.OFFLINE) >= 2)

    kinds = [each.state if isinstance(each, Presence) else "heartbeat" for each in listener.of(FIRST)]
    assert kinds[:6] == ["online", "heartbeat", "offline"] * 2


async def test_a_killed_fleet_is_reported_by_its_will(broker: Mosquitto, listener: Listener) -> None:
    process = command_line(broker, "--units", "1")
    await until(listener.heartbeats)

    process.send_signal(SIGKILL)
    await asyncio.to_thread(process.communicate)
    await until(lambda: listener.states(FIRST)[-1:] == ["offline"])

    assert "Received DISCONNECT" not in broker.heard_from(FIRST)


async def test_a_fleet_that_is_told_to_stop_ends_well_and_sums_up(
    broker: Mosquitto, listener: Listener
) -> None:
    process = command_line(broker, "--units", "3", "--json")
    await until(lambda: len(listener.heartbeats()) >= 6)

    process.send_signal(SIGTERM)
    out, err = await asyncio.to_thread(process.communicate)

    assert process.returncode == 0, err
    summary = json.loads(out)
    await until(lambda: len(listener.heartbeats()) >= summary["heartbeats_acked"])
    assert summary["heartbeats_sent"] == summary["heartbeats_acked"] == len(listener.heartbeats())
    assert named(broker, "heartbeats_acked") == listener.names()
    assert (summary["ever_connected"], summary["connected"]) == (3, 0)
    assert MASTER.hex().encode() not in err + out + (broker.folder / "ledger").read_bytes()


async def test_a_fleet_that_nobody_lets_in_says_why_once_per_unit_and_fails(broker: Mosquitto) -> None:
    process = command_line(broker, "--units", "2", "--duration", "4", "--json", master=bytes(32))

    out, err = await asyncio.to_thread(process.communicate)

    told = [json.loads(line) for line in err.splitlines() if b"login_refused" in line and b"imei" in line]
    assert process.returncode == 1
    assert {line["imei"] for line in told} == set(imeis(2, SEED))
    assert [line["reason"] for line in told] == ["Not authorized"] * 2
    assert json.loads(out)["login_refused"] == 2


@pytest.mark.parametrize(
    ("master", "options", "missing"),
    [
        (b"", ["--units", "1"], b"HELIOGRAPH_MASTER_SECRETS"),
        (MASTER, ["--units", "1", "--state", "/nowhere/state"], b"/nowhere/state"),
    ],
)
async def test_a_fleet_that_cannot_start_says_in_a_sentence_what_is_missing(
    broker: Mosquitto, master: bytes, options: list[str], missing: bytes
) -> None:
    process = command_line(broker, *options, master=master)

    _, err = await asyncio.to_thread(process.communicate)

    assert process.returncode == 1
    assert missing in err
    assert b"Traceback" not in err


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Write a certificate for 127.0.0.1 that is its own authority."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.now(UTC)
    address = x509.IPAddress(ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, SHA256())
    )
    (tmp_path / "key").write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "cert").write_bytes(signed.public_bytes(Encoding.PEM))
    return tmp_path


async def test_a_unit_speaks_tls_to_a_broker_whose_authority_it_knows(certificate: Path) -> None:
    broker = Mosquitto(certificate)
    broker.start(f"certfile {certificate}/cert", f"keyfile {certificate}/key")
    await broker.listening()
    settings = Broker(broker_url=f"mqtts://127.0.0.1:{broker.port}", broker_ca_file=certificate / "cert")
    stop = asyncio.Event()

    with Ledger(None) as nothing, closing(Memories(None)) as memories:
        plan = Plan(units=2, interval_s=0.1, seed=SEED)
        units = Fleet(plan, Endpoint.of(settings), MASTER, ledger=nothing, memories=memories)
        serving = asyncio.create_task(units.serve(stop))
        await until(lambda: units.tally.heartbeats_acked >= 10)
        stop.set()
        await serving

    broker.stop()
    assert units.tally.ever_connected == 2
