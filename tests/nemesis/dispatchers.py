"""R15: of several dispatchers no two ever send the same attempt, also when one sleeps through its lease.

No unit answers, so every command is sent again and again. Who hears all of it tells which attempts came,
and in which order; the ledger tells which were claimed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import paho.mqtt.client as mqtt
import psutil  # type: ignore[import-untyped]  # its author ships no types
from paho.mqtt.enums import CallbackAPIVersion

from bench.command import PRESENT
from bench.stack import PUBLISHERS
from commands import ledger
from commands.policy import Wish
from deploy.local.processes import Child, until
from protocol.identity import Imei
from protocol.messages import CommandKind
from registry import units
from registry.audit import Deed
from registry.permissions import shell
from runtime import clock
from runtime.settings import Commands, Database
from storage.pool import open_pool
from tests.acceptance.stack import Stack
from tests.nemesis.ground import Ground, laid
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.sleepy_gateway import Point
from tests.nemesis.verdict import Trial

UNITS = 60
SLEEPY, AWAKE = "gateway-sleepy", {"gateway-0-59": "0-59", "gateway-40-99": "40-99"}
LEASE_S = 3.0
HASTE = {
    "HELIOGRAPH_COMMAND_LEASE_S": str(LEASE_S),
    "HELIOGRAPH_COMMAND_ACK_S": "0.5",
    "HELIOGRAPH_COMMAND_PAUSE_S": "0.1",
    "HELIOGRAPH_COMMAND_PAUSE_MAX_S": "0.5",
    "HELIOGRAPH_COMMAND_ATTEMPTS": "1000000",
    "HELIOGRAPH_GATEWAY_KEEPALIVE_S": "120",  # else the broker cuts off who sleeps, and helps
    "HELIOGRAPH_HEALTH_PORT": "0",
}
NAPS = {Size.SHORT: 1, Size.FULL: 20}
"""How often it falls asleep at each point."""

PATIENCE_S = 60.0
QUIET_S = 1.0

Attempt = tuple[str, int]
"""A command's id and the number of a sending."""


class Ear:
    """Hears every command, by a client that shares no line with the gateway's; a context manager."""

    def __init__(self, port: int, login: tuple[str, str]) -> None:
        self.heard: list[Attempt] = []
        self.subscribed = False
        self._port = port
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=login[0])
        self._client.username_pw_set(*login)
        self._client.on_connect = lambda client, *_: client.subscribe("scu/v1/+/+/command", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert until(lambda: self.subscribed, PATIENCE_S), "the broker does not let us hear"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_subscribe(self, *_: object) -> None:
        self.subscribed = True

    def _on_message(self, _client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        if not message.dup:  # that is the broker's second delivery to us, not a second sending
            told = json.loads(message.payload)
            self.heard.append((told["id"], told["attempt"]))


def sleep_through_leases(seed: int, size: Size, tell: Tell) -> Row:
    """Let one of three dispatchers of overlapping partitions fall asleep between claim and publish."""
    trial = Trial("R15", "one of three dispatchers asleep (SIGSTOP) beyond its lease as it sends", seed)
    naps = list(Point) * NAPS[size]
    trial.dice.shuffle(naps)
    with ExitStack() as held:
        ground = held.enter_context(laid(UNITS, gateways=[SLEEPY, *AWAKE]))
        asyncio.run(ping(ground))
        ear = held.enter_context(Ear(ground.stack.mqtt.port, (PUBLISHERS[0], ground.password)))
        others = [
            start(ground.stack, "gateway", "--name", name, "--partitions", served)
            for name, served in AWAKE.items()
        ]
        sleepy = start(ground.stack, "tests.nemesis.sleepy_gateway", SLEEPY, *naps)
        for place, point in enumerate(naps):
            tell(f"nap {place + 1} of {len(naps)}, {point}: {len(ear.heard):,} sendings")
            _nap(trial, ground.stack, sleepy, ear)
        time.sleep(QUIET_S)  # what it wakes up to comes within this
        for child in (sleepy, *others):
            trial.demand(child.ended is None, f"a gateway ended: {child.last_words()}")
            child.end()
        until(lambda: published(ground.stack) <= set(ear.heard), PATIENCE_S)
        return _verdict(trial, ground.stack, ear.heard, naps)


def _nap(trial: Trial, stack: Stack, sleepy: Child, ear: Ear) -> None:
    """Wait until it sleeps, and wake it when its lease is over; a hit when others took over what it held."""
    process = psutil.Process(sleepy.pid)
    asleep = until(lambda: process.status() == psutil.STATUS_STOPPED, PATIENCE_S)
    trial.demand(asleep, "it never came to that point")
    trial.kills += 1
    held = claimed_by(stack, SLEEPY)
    lapsed = until(lambda: held.isdisjoint(claimed_by(stack, SLEEPY)), PATIENCE_S)
    trial.demand(lapsed, "what it held was not taken from it")
    taken_over = until(lambda: bool(later(held) & set(ear.heard)), PATIENCE_S)
    trial.hits += bool(held) and taken_over
    process.resume()


def _verdict(trial: Trial, stack: Stack, heard: Sequence[Attempt], naps: Sequence[Point]) -> Row:
    """Hold what was heard against what was claimed; an attempt is late behind a newer one of its command."""
    late, newest = 0, dict[str, int]()
    for command, attempt in heard:
        late += attempt < newest.get(command, 0)
        newest[command] = max(attempt, newest.get(command, 0))
    strangers = set(heard) - attempts(stack, "claimed")
    trial.demand(not strangers, f"{len(strangers)} attempts were sent that nobody claimed")
    trial.demand(trial.hits == trial.kills, f"only {trial.hits} of {trial.kills} naps hit")
    most = naps.count(Point.LOOKED)
    trial.demand(late <= most, f"{late} attempts came after a newer one; at most {most} were on their way")
    trial.figures["sent late"] = late
    return trial.row(
        n=len(heard),
        lost=len(published(stack) - set(heard)),
        doubled=sum(number - 1 for number in Counter(heard).values()),
    )


async def ping(ground: Ground) -> None:
    """Order a ping for every unit, each present."""
    deed = Deed(by=shell(), now=clock.now(), reason="to be tried")
    settings = Database.model_validate({"database_url": ground.stack.database.url()})
    async with open_pool(settings) as pool, pool.transaction() as conn:
        for imei in ground.imeis:
            unit = await units.by_imei(conn, Imei(imei))
            assert unit is not None
            await ledger.order(conn, unit, Wish(kind=CommandKind.PING), deed, Commands())
        await conn.execute(PRESENT.encode())


def start(stack: Stack, *words: str) -> Child:
    """Start a gateway in a hurry, and wait until it may send."""
    child = stack.start(*words, env=HASTE)
    assert until(lambda: "downlink_connected" in child.log.read_text(encoding="utf-8"), PATIENCE_S)
    return child


def attempts(stack: Stack, event: str) -> set[Attempt]:
    """Name the attempts of which the ledger tells an event."""
    found = stack.query("SELECT command_id::text, attempt FROM command_event WHERE event = %s", event)
    return {(command, attempt) for command, attempt in found}


def published(stack: Stack) -> set[Attempt]:
    """Name the attempts that a dispatcher wrote down as sent."""
    return attempts(stack, "published")


def claimed_by(stack: Stack, gateway: str) -> set[Attempt]:
    """Name the attempts that a gateway holds."""
    found = stack.query(
        "SELECT c.id::text, c.attempt FROM command c JOIN command_event e"
        " ON e.command_id = c.id AND e.attempt = c.attempt AND e.event = 'claimed'"
        " WHERE c.state = 'sending' AND e.actor = %s",
        gateway,
    )
    return {(command, attempt) for command, attempt in found}


def later(held: set[Attempt]) -> set[Attempt]:
    """Name the attempts that follow on these."""
    return {(command, attempt + 1) for command, attempt in held}
