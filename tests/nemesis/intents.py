"""R13: a command is applied at most once, the newest intent wins, and outlives its command."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import httpx

from deploy.local.processes import until
from protocol.identity import Imei
from protocol.messages import Mode
from simulator.link import Endpoint
from simulator.roster import imeis as roster
from tests.acceptance.stack import Stack
from tests.nemesis import endings
from tests.nemesis.endings import REPORTING, UNFINISHED, Harm
from tests.nemesis.ground import BROKER_URL, Ground, laid
from tests.nemesis.homes import Town
from tests.nemesis.operators import Accepted, Operators
from tests.nemesis.proxy import between
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial

HOMES = {Size.SHORT: 24, Size.FULL: 200}
ROUNDS = {Size.SHORT: 1, Size.FULL: 6}
"""Each with a backup, what comes after it, and the restore."""

HARMS = {Size.SHORT: 1, Size.FULL: 4}
"""Before a backup, between it and the restore, and after."""

BETWEEN_S = (1.0, 3.0)
GONE = 0.2
"""Of the homes: nobody hears of them from the first round until calm is there."""

THINK_S = 0.05
CALM_S = 90.0
COPIED_S = 120.0
DEADLINES: Mapping[str, str] = {
    **endings.DEADLINES,
    "HELIOGRAPH_COMMAND_LIFE_DISABLE_S": "3600",
    "HELIOGRAPH_COMMAND_DRIFT_SENDINGS": "1000",
}
"""An enable expires before who is gone comes back; an offline-disable never does."""


def outlive(seed: int, size: Size, tell: Tell) -> Row:
    """Let two people flip the same units while everything misbehaves; then let it be calm."""
    trial = Trial(
        "R13",
        "two people flip the same units: duplicates, delays, reboots, resets that forget, absence, gateway"
        " and broker killed, database restored from an older backup",
        seed,
    )
    with laid(0, own_server=True) as ground, between(ground.port(BROKER_URL)) as proxy:
        stack = ground.stack
        stack.environment |= DEADLINES
        endings.enrol(stack, HOMES[size], seed)
        imeis = roster(HOMES[size], seed)
        tokens = [stack.token("admin", email=f"{number}@example.com") for number in range(3)]
        stack.start_api()
        harm = Harm(trial, stack, proxy, ground.through(BROKER_URL, proxy.port))
        endpoint = Endpoint("127.0.0.1", stack.mqtt.port, None)
        master = bytes.fromhex(stack.folder.secrets.master)
        with Town(endpoint, master, imeis, trial.dice) as town:
            assert until(lambda: stack.query(REPORTING)[0][0] >= len(imeis), endings.REPORTED_S)
            for home in trial.dice.sample(list(town.homes.values()), round(GONE * len(imeis))):
                home.away_until = time.monotonic() + 3_600
            with Operators(stack.api_url, tokens[:2], imeis, trial.dice, think_s=THINK_S) as people:
                for _ in range(ROUNDS[size]):
                    _harm(harm, trial, size, tell)
                    with people.held():
                        backup = _back_up(ground)
                    _harm(harm, trial, size, tell)
                    with people.held():
                        lost = _restore(ground, harm, backup, people.accepted)
                    trial.figures["lost by the restores"] = (
                        trial.figures.get("lost by the restores", 0) + lost
                    )
                    tell(f"restored: {lost} commands are lost by right")
                    _harm(harm, trial, size, tell)
            town.calm = True
            with _second_person(stack, tokens[2]) as http:
                agreed = until(lambda: _calm(stack, town, people.accepted, http), CALM_S)
            wrong = _differing(stack, town, people.accepted)
            trial.demand(agreed, f"the system does not come to rest: {_unrest(stack)}")
            trial.broken += [
                f"{imei} is {found}, {wanted} is wanted: {_story(stack, imei)}"
                for imei, found, wanted in wrong
            ]
        expired = "SELECT count(*) FROM command WHERE mode = 'enabled' AND state = 'expired'"
        trial.figures |= {
            "applied": len(town.applied),
            "forgot": town.forgot,
            "enables expired": stack.query(expired)[0][0],
            "final mode not newest": len(wrong),
        }
        return trial.row(n=len(people.commands), doubled=_applied_again(town))


def _harm(harm: Harm, trial: Trial, size: Size, tell: Tell) -> None:
    for _ in range(HARMS[size]):
        time.sleep(trial.dice.uniform(*BETWEEN_S))  # the moment of the harm is the experiment
        tell(harm.strike())


def _back_up(ground: Ground) -> Path:
    """Copy the database as it stands."""
    copy = ground.server.data.with_name("backup")
    shutil.rmtree(copy, ignore_errors=True)
    ground.server.stop()
    subprocess.run(["cp", "-a", ground.server.data, copy], check=True, timeout=COPIED_S)
    ground.server.start()
    return copy


def _restore(ground: Ground, harm: Harm, backup: Path, accepted: list[Accepted]) -> int:
    """Put the copy in place while no gateway runs; gives how many accepted commands it does not know."""
    harm.end_gateway(signal.SIGTERM)
    ground.server.stop()
    shutil.rmtree(ground.server.data)
    subprocess.run(["cp", "-a", backup, ground.server.data], check=True, timeout=COPIED_S)
    ground.server.start()
    there = {str(found) for (found,) in ground.stack.query("SELECT id FROM command")}
    known = [one for one in accepted if one.command_id in there]
    lost = len({one.command_id for one in accepted} - there)
    accepted[:] = known
    harm.start_gateway()
    return lost


def _second_person(stack: Stack, token: str) -> httpx.Client:
    return httpx.Client(
        base_url=stack.api_url, headers={"Authorization": f"Bearer {token}"}, timeout=endings.REPORTED_S
    )


def _calm(stack: Stack, town: Town, accepted: Sequence[Accepted], http: httpx.Client) -> bool:
    """Approve what waits for it; true when nothing is under way and every unit does what is wanted."""
    for (waiting,) in stack.query("SELECT id FROM command WHERE state = 'awaiting_approval'"):
        answer = http.post(
            f"/v1/commands/{waiting}/approve",
            json={"reason": "still wanted"},
            headers={"Idempotency-Key": str(uuid4())},
        )
        assert answer.status_code in {200, 409}, answer.text
    return stack.query(UNFINISHED) == [(0,)] and not _differing(stack, town, accepted)


def _differing(stack: Stack, town: Town, accepted: Sequence[Accepted]) -> list[tuple[Imei, Mode, Mode]]:
    """Name the units that do not do what was accepted for them last, as far as anything is known of it."""
    epochs = dict(stack.query("SELECT id::text, epoch FROM command WHERE epoch > 0"))
    newest: dict[Imei, tuple[int, Mode]] = {}
    for one in accepted:
        if one.mode and (epoch := epochs.get(one.command_id)):
            newest[one.imei] = max(newest.get(one.imei, (0, Mode.ENABLED)), (epoch, Mode(one.mode)))
    return [
        (imei, town.homes[imei].mode, wanted)
        for imei, (_, wanted) in newest.items()
        if town.homes[imei].mode is not wanted
    ]


def _story(stack: Stack, imei: Imei) -> object:
    return stack.query(
        "SELECT epoch, mode, state, attempt, refusal, origin FROM command"
        " WHERE unit_id = (SELECT id FROM unit WHERE imei = %s) ORDER BY id",
        str(imei),
    )


def _unrest(stack: Stack) -> object:
    return stack.query("SELECT state, mode, count(*) FROM command WHERE finished_at IS NULL GROUP BY 1, 2")


def _applied_again(town: Town) -> int:
    """How often a unit changed by an epoch by which it had changed before."""
    times = Counter((one.imei, one.life, one.epoch) for one in town.applied)
    return sum(number - 1 for number in times.values())
