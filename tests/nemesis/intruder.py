"""R16, over the wire: somebody at the broker hears every command, and tells units whatever he likes."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from deploy.local.processes import Child, until
from protocol.codec import decode_command
from protocol.identity import Imei
from protocol.topics import Channel, topic
from simulator.roster import imeis as roster
from tests.acceptance.stack import Stack
from tests.nemesis.forgeries import Meaning, flipped, spliced
from tests.nemesis.ground import admit, laid
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial
from tests.nemesis.watching import drained

INTRUDER = "intruder"
ACCESS = f"\nuser {INTRUDER}\ntopic readwrite scu/v1/+/+/command\n"
UNITS = 4
FORGED = {Size.SHORT: 800, Size.FULL: 40_000}
WISHES: Sequence[dict[str, Any]] = (
    {"kind": "set_mode", "mode": "offline_disabled"},
    {"kind": "set_mode", "mode": "enabled"},
    {"kind": "set_mode", "mode": "offline_disabled", "after_s": 86_400},
    {"kind": "ping"},
)
REPORTING = "SELECT count(*) FROM unit_status WHERE mode IS NOT NULL"
UNCONFIRMED = "SELECT count(*) FROM command WHERE state <> 'confirmed'"
CONFIRMED_S = 60.0
HEARD_S = 120.0


class Command(NamedTuple):
    """A command as it went over the wire."""

    imei: str
    body: bytes
    retained: bool


class Intruder:
    """A broker login that may read and write the commands of every unit; made by `intruding`."""

    def __init__(self, port: int, password: str) -> None:
        self.heard: list[Command] = []
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=INTRUDER, protocol=mqtt.MQTTv5)
        self._client.username_pw_set(INTRUDER, password)
        self._client.on_connect = lambda client, *_: client.subscribe("scu/v1/+/+/command", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self.heard.append(
            Command(message.topic.split("/")[3], bytes(message.payload), message.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(HEARD_S)

    def deafen(self) -> list[Command]:
        """Give what was heard, and hear no more."""
        self._client.unsubscribe("scu/v1/+/+/command")
        return list(self.heard)

    def say(self, commands: Iterable[Command]) -> None:
        """Tell units these, and wait until the broker has them."""
        sent = [
            self._client.publish(
                topic(Imei(command.imei), Channel.COMMAND), command.body, qos=1, retain=command.retained
            )
            for command in commands
        ]
        for one in sent:
            one.wait_for_publish(HEARD_S)
            assert one.is_published()

    def leave(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def intruding(stack: Stack) -> Iterator[Intruder]:
    """Let somebody in who should not be."""
    password = secrets.token_urlsafe()
    admit(stack, (INTRUDER,), password, ACCESS)
    intruder = Intruder(stack.mqtt.port, password)
    try:
        yield intruder
    finally:
        intruder.leave()


def at_the_broker(seed: int, size: Size, tell: Tell) -> Row:
    """Record real commands, then send forged and old ones, also retained, to connected units."""
    trial = Trial(
        "R16.wire", "recorded off the broker, then sent forged, again, crosswise and retained", seed
    )
    with laid(0) as ground:
        stack = ground.stack
        truth, state = stack.folder.path / "truth.jsonl", stack.folder.path / "memories.jsonl"
        with intruding(stack) as intruder:
            stack.enrol_fleet(UNITS, seed)
            stack.start_gateway()
            stack.start_api()
            fleet = _fleet(stack, seed, truth, state)
            _order(stack, [str(imei) for imei in roster(UNITS, seed)])
            recorded = intruder.deafen()
            trial.demand(not any(command.retained for command in recorded), "a command was retained")
            genuine = {(one.imei, Meaning.of(decode_command(one.body))) for one in recorded}
            trial.demand(len(genuine) >= UNITS * len(WISHES), "not every command was recorded")
            before, memories = _ledger(stack), _memories(state)

            forged = list(_forged(recorded))
            trial.dice.shuffle(forged)
            forged = (
                forged[: FORGED[size]] + _crosswise(recorded) + trial.dice.sample(recorded, len(recorded))
            )
            trial.dice.shuffle(forged)
            already = _heard(truth)
            intruder.say(forged)
            heard = until(lambda: _heard(truth) - already >= len(forged), HEARD_S)
            trial.demand(heard, f"units heard {_heard(truth) - already} of {len(forged)}")
            tell(f"{len(forged):,} forged or repeated commands are heard")

            retained = [one._replace(retained=True) for one in _last(forged)]
            intruder.say(retained)
            trial.demand(fleet.end() == 0, f"the fleet failed: {fleet.last_words()}")
            already = _heard(truth)
            fleet = _fleet(stack, seed, truth, state)
            heard = until(lambda: _heard(truth) - already >= len(retained), HEARD_S)
            trial.demand(heard, f"units heard {_heard(truth) - already} of {len(retained)} retained")
            trial.demand(fleet.end() == 0, f"the fleet failed: {fleet.last_words()}")
            trial.demand(drained(stack), "the gateway still holds messages long after the last one")

            told = {(imei, str(meaning.id), meaning.epoch) for imei, meaning in genuine}
            accepted = [event for event in _events(truth, "command_applied") if _name(event) not in told]
            trial.broken += [f"accepted: {event}" for event in accepted]
            trial.demand(_memories(state) == memories, "units are not as they were")
            trial.demand(_ledger(stack) == before, "the ledger of commands is not as it was")
            trial.figures |= {"recorded": len(recorded), "retained": len(retained), "accepted": len(accepted)}
    return trial.row(n=len(forged) + len(retained))


def _fleet(stack: Stack, seed: int, truth: Path, state: Path) -> Child:
    """Run the units, and wait until all of them are connected."""
    known = len(_events(truth, "connected"))
    words = ("--units", str(UNITS), "--interval", "1", "--seed", str(seed))
    fleet = stack.start("simulator", "fleet", *words, "--ledger", truth, "--state", state)
    assert until(lambda: len(_events(truth, "connected")) >= known + UNITS, HEARD_S), fleet.last_words()
    return fleet


def _order(stack: Stack, units: Sequence[str]) -> None:
    """Order each wish for each unit, one after the other, each confirmed before the next."""
    headers = {"Authorization": f"Bearer {stack.token('admin')}"}
    assert until(lambda: stack.query(REPORTING) == [(UNITS,)], HEARD_S)
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=20) as http:
        for wish in WISHES:
            for unit in units:
                answer = http.post(
                    f"/v1/units/{unit}/commands",
                    json=wish | {"reason": "to be recorded"},
                    headers={"Idempotency-Key": str(uuid4())},
                )
                assert answer.status_code == 202, answer.text
            assert until(lambda: stack.query(UNCONFIRMED) == [(0,)], CONFIRMED_S), _ledger(stack)


def _forged(recorded: Sequence[Command]) -> Iterator[Command]:
    for one in recorded:
        yield from (one._replace(body=body) for body in flipped(one.body))
    for imei in {one.imei for one in recorded}:
        sent = [decode_command(one.body) for one in recorded if one.imei == imei]
        yield from (Command(imei, body, retained=False) for body in spliced(sent))


def _crosswise(recorded: Sequence[Command]) -> list[Command]:
    """Give every unit the commands of all others."""
    units = {one.imei for one in recorded}
    return [one._replace(imei=imei) for one in recorded for imei in units if imei != one.imei]


def _last(commands: Iterable[Command]) -> list[Command]:
    """Give one command for each unit: the broker retains no more."""
    return list({one.imei: one for one in commands}.values())


def _events(truth: Path, *names: str) -> list[dict[str, Any]]:
    """Read the fleet's ground truth as far as it is written."""
    if not truth.exists():
        return []
    whole, _, _ = truth.read_text(encoding="utf-8").rpartition("\n")
    return [event for event in map(json.loads, whole.splitlines()) if event["event"] in names]


def _heard(truth: Path) -> int:
    return len(_events(truth, "command_received", "command_unreadable"))


def _name(event: dict[str, Any]) -> tuple[str, str, int]:
    return event["imei"], event["command_id"], event["epoch"]


def _memories(state: Path) -> dict[str, tuple[object, ...]]:
    """Read what units remember of their commands."""
    lines = map(json.loads, state.read_text(encoding="utf-8").splitlines())
    return {line["imei"]: (line["epoch"], line["mode"], line["after_s"]) for line in lines}


def _ledger(stack: Stack) -> list[tuple[Any, ...]]:
    return stack.query("SELECT id, state, epoch, attempt, finished_at FROM command ORDER BY id")
