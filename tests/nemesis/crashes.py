"""R21: what the gateway acknowledged is on disk: the server is killed, and its disks are filled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg

from deploy.local.account import servers_account
from deploy.local.postgres import Role
from deploy.local.processes import Child, until
from tests.nemesis.disk import Disk, mounted
from tests.nemesis.ground import Ground, laid
from tests.nemesis.load import Load, numbered
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial
from tests.nemesis.watching import holds, verdicts

UNITS = 500
PER_SECOND = 1_000
KILLS = {Size.SHORT: 2, Size.FULL: 30}
RECOVERED_S = 90.0

DISK_MB = 320
FILLED = {Size.SHORT: 1, Size.FULL: 4}
"""How often a disk is filled."""

FULL_S = {Size.SHORT: 2.0, Size.FULL: 15.0}
"""For so long nothing more is stored before there is room again."""

REFUSED_S = 120.0
NO_SPACE = "No space left on device"


def of_the_server(seed: int, size: Size, tell: Tell) -> Row:
    """Kill every process of the server, or its postmaster alone, while batches are committed."""
    trial = Trial("R21", "PostgreSQL killed (-9) under load, whole or the postmaster alone", seed)
    with laid(UNITS, own_server=True) as ground:
        ground.stack.start_gateway()
        with ground.load(numbered(ground.imeis), PER_SECOND) as load:
            for _ in range(KILLS[size]):
                time.sleep(trial.dice.uniform(0.2, 1.5))  # the moment of the kill is the experiment
                trial.hits += holds(ground.stack)
                ground.server.kill(alone=trial.dice.random() < 0.5)
                trial.kills += 1
                ground.server.start()
                _recover(ground, trial)
                tell(f"{trial.hits} of {trial.kills} kills hit, {len(load.acked):,} heartbeats")
            load.finish()
        trial.demand(trial.hits > 0, f"none of {trial.kills} kills hit")
        return trial.of_loads(ground, load)


def data_full(seed: int, size: Size, tell: Tell) -> Row:
    """Fill the disk under the tables."""
    trial = Trial("R21.data", "disk under the tables full", seed)
    with loaded("base") as (ground, load, disk, gateway):
        for _ in range(FILLED[size]):
            disk.fill()
            tell("the disk is full")
            _stand_still(ground, trial, size, lambda: None)
            disk.free()
            _recover(ground, trial)
            tell(f"there is room again; {len(load.acked):,} heartbeats")
        trial.demand(gateway.ended is None, f"the gateway ended with {gateway.ended}")
        load.finish()
        return trial.of_loads(ground, load)


def journal_full(seed: int, size: Size, tell: Tell) -> Row:
    """Fill the disk under the journal: the server then ends itself, and is started when there is room."""
    trial = Trial("R21.wal", "disk under the journal full", seed)
    with loaded("pg_wal") as (ground, load, disk, gateway):
        for _ in range(FILLED[size]):
            disk.fill()
            tell("the disk is full")
            _stand_still(ground, trial, size, lambda: _begin_segment(ground))
            disk.free()
            _recover(ground, trial)
            tell(f"there is room again; {len(load.acked):,} heartbeats")
        trial.demand(gateway.ended is None, f"the gateway ended with {gateway.ended}")
        load.finish()
        return trial.of_loads(ground, load)


@contextmanager
def loaded(folder: str) -> Iterator[tuple[Ground, Load, Disk, Child]]:
    """Run a gateway under load whose database has a folder of its data on a disk of its own."""
    with laid(UNITS, own_server=True) as ground:
        place = ground.stack.folder.path / "disk"
        with mounted(place, DISK_MB, servers_account()) as disk:
            try:
                ground.server.stop()
                disk.take_over(ground.server.data / folder)
                ground.server.start()
                gateway = ground.stack.start_gateway()
                with ground.load(numbered(ground.imeis), PER_SECOND) as load:
                    yield ground, load, disk, gateway
                gateway.end()
            finally:
                ground.server.stop()


def _stand_still(ground: Ground, trial: Trial, size: Size, press: Callable[[], None]) -> None:
    """Wait until nothing more is committed, for long enough; a hit when the server was refused a write."""
    refused = _refused(ground)

    def still() -> bool:
        press()
        before = verdicts(ground.stack)
        return not until(lambda: verdicts(ground.stack) > before, FULL_S[size])

    trial.demand(until(still, REFUSED_S), "a full disk, and batches are still committed")
    hit = _refused(ground) > refused
    trial.demand(hit, "the server did not lack space")
    trial.kills += 1
    trial.hits += hit


def _refused(ground: Ground) -> int:
    """Give how often the server was refused a write."""
    said = ground.stack.folder.log("postgres").read_text(encoding="utf-8", errors="replace")
    return said.count(NO_SPACE)


def _begin_segment(ground: Ground) -> None:
    """Have the journal ask for room, which a server that has none does not survive."""
    with suppress(psycopg.OperationalError), psycopg.connect(ground.server.url(Role.SUPERUSER)) as conn:
        conn.execute("SELECT pg_switch_wal()")


def _recover(ground: Ground, trial: Trial) -> None:
    """Time the first commit; a server that ended is started, as whoever supervises it does."""
    back, before = time.monotonic(), verdicts(ground.stack)

    def committed() -> bool:
        if ground.server.ended:
            ground.server.start()
        return verdicts(ground.stack) > before

    recovered = until(committed, RECOVERED_S)
    trial.worst("to the first commit (s)", time.monotonic() - back)
    trial.demand(recovered, f"no commit within {RECOVERED_S:g} s")
