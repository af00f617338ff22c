"""`python -m bench.shares`: whose CPU a heartbeat costs, process by process, in microseconds.

Heartbeats go through the whole system at full speed; the kernel's own account of every process is read
before and after. What all cores could do in that time adds up: what is nobody's of ours was used by
others, kept back by the host, or idle.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import psutil  # type: ignore[import-untyped]  # its author ships no types
import psycopg
import typer
from rich.console import Console
from rich.table import Table

from bench.figures import MICROSECONDS, Figure
from bench.ingest import DURABLE, UNITS, WORKLOAD, Rig, Run, Tell, blast, furnish, last_landed, stored
from bench.load import connect
from bench.stack import DidNotHappen, Stack, serve
from deploy.local.gateways import ranges
from deploy.local.postgres import Role
from deploy.local.processes import Identity, identity
from runtime import logs
from runtime.entry import enter

WIDTH = 140  # characters
WARM = 2 * UNITS
"""Heartbeats before the first that counts: rows are made, caches filled, statements prepared."""

PARTS: Mapping[str, str] = {
    "broker": "broker",
    "gateway": "gateway, or all of them together",
    "backend": "PostgreSQL: the gateway's sessions",
    "walwriter": "PostgreSQL: WAL writer",
    "checkpointer": "PostgreSQL: checkpointer",
    "autovacuum": "PostgreSQL: autovacuum, and sessions that ended meanwhile",
    "postgres": "PostgreSQL: every other process",
    "load": "the load, and watching for its arrival",
    "others": "other processes of this machine",
    "stolen": "kept back by the host",
    "idle": "idle cores",
    "cores": "all cores, from the first publish to the last commit",
}
"""Whose CPU it is."""

BACKGROUND = {
    "walwriter": "walwriter",
    "checkpointer": "checkpointer",
    "autovacuum launcher": "autovacuum",
    "autovacuum worker": "autovacuum",
}
"""Parts of PostgreSQL's processes by what they call themselves; any other is `postgres`."""

SESSIONS = """
SELECT pid,
       CASE WHEN backend_type <> 'client backend' THEN backend_type
            WHEN datname <> current_database() THEN 'foreign'
            WHEN application_name = 'heliograph' THEN 'backend'
            ELSE 'load' END
  FROM pg_stat_activity WHERE backend_type IS NOT NULL
"""
"""Everybody in the database server; clients that call themselves heliograph are the gateway's."""

WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Elsewhere(DidNotHappen):
    """The database server's processes cannot be seen from here."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was used up to one moment: seconds of CPU by process and part, and bytes of journal."""

    at: float
    used: Mapping[tuple[Identity, str], float]
    idle: float
    stolen: float
    wal: int

    def since(self, before: Reading) -> dict[str, float]:
        """Give the seconds of each part."""
        spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        for (who, part), seconds in self.used.items():
            spent[part] += seconds - before.used.get((who, part), 0.0)
        ours = sum(spent.values())
        spent["cores"] = (self.at - before.at) * (os.cpu_count() or 1)
        spent["idle"] = self.idle - before.idle
        spent["stolen"] = self.stolen - before.stolen
        spent["others"] = max(0.0, spent["cores"] - ours - spent["idle"] - spent["stolen"])
        return spent


@dataclass(frozen=True, slots=True)
class Share:
    """One load: what each part used, in microseconds per heartbeat, and the journal's bytes per heartbeat."""

    run: Run
    parts: Mapping[str, float]
    wal: float


class Meter:
    """Reads the account of everybody who takes part: processes of ours by pid, and the database server's."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], ours: Mapping[int, str]) -> None:
        self._conn = conn
        self._ours = ours

    async def read(self) -> Reading:
        """Read every account now."""
        cursor = await self._conn.execute(WAL)
        [(wal,)] = await cursor.fetchall()
        sessions = dict(await (await self._conn.execute(SESSIONS)).fetchall())
        parts = {pid: _part(kind) for pid, kind in sessions.items() if kind != "foreign"}
        used = _accounts({**self._ours, **parts})
        used |= _ended(self._conn.info.backend_pid)
        machine = psutil.cpu_times()
        stolen = getattr(machine, "steal", 0.0)
        return Reading(time.monotonic(), used, machine.idle + getattr(machine, "iowait", 0.0), stolen, wal)


@app.command()
def main(
    runs: Annotated[int, typer.Option(min=1, help=f"loads of {DURABLE:,} heartbeats; the median counts")] = 3,
    *,
    gateways: Annotated[int, typer.Option(min=1, max=2, help="gateways that share the partitions")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print microseconds of CPU per heartbeat by process."""
    logs.configure("bench")
    logging.getLogger().setLevel(logging.WARNING)
    figures = asyncio.run(measure(runs, lambda _: None, gateways))
    console = Console(width=WIDTH)
    if as_json:
        console.print_json(json.dumps({figure.key: [figure.value, *figure.runs] for figure in figures}))
        return
    table = Table("key", "per heartbeat", "unit", "runs", "whose")
    for figure in figures:
        runs_told = " ".join(f"{run:.1f}" for run in figure.runs)
        whose, _, _ = figure.workload.partition(";")
        table.add_row(figure.key, f"{figure.value:.1f}", figure.unit, runs_told, whose)
    console.print(table)


async def measure(runs: int, tell: Tell, gateways: int = 1) -> list[Figure]:
    """Send so many loads through the gateways and tell what each part used for a heartbeat."""
    tell("profile: servers and units")
    async with serve() as stack, furnish(stack) as rig, AsyncExitStack() as held:
        ours = {stack.broker.pid: "broker", os.getpid(): "load"}
        for partitions in ranges(gateways):
            ours[(await held.enter_async_context(stack.gateway(partitions))).pid] = "gateway"
        meter = Meter(await held.enter_async_context(await _connect(stack)), ours)
        await stored(rig, WARM)
        shares = []
        for number in range(1, runs + 1):
            tell(f"profile: load {number} of {runs}")
            shares.append(await _share(rig, meter))
    return _figures(shares)


async def _connect(stack: Stack) -> psycopg.AsyncConnection[Any]:
    conn = await psycopg.AsyncConnection.connect(stack.database.url(Role.SUPERUSER), autocommit=True)
    if identity(conn.info.backend_pid) is None:
        raise Elsewhere(
            "The database server's processes cannot be seen from here: it must run on this machine."
        )
    return conn


async def _share(rig: Rig, meter: Meter) -> Share:
    """Send one load; it is encoded, and connections are made, before the accounts are read."""
    load = rig.load(DURABLE)
    packets = load.packets()
    async with connect(rig.stack) as lines:
        before = await meter.read()
        seconds = await blast(lines, packets, last_landed(rig, load))
        after = await meter.read()
    each = {part: 1e6 * used / load.size for part, used in after.since(before).items()}
    return Share(await rig.count(load, seconds), each, (after.wal - before.wal) / load.size)


def _part(kind: str) -> str:
    return kind if kind in PARTS else BACKGROUND.get(kind, "postgres")


def _accounts(parts: Mapping[int, str]) -> dict[tuple[Identity, str], float]:
    """Read the account of each process."""
    found = {}
    for pid, part in parts.items():
        with suppress(psutil.NoSuchProcess):  # it ended in this moment: its time is on its parent's account
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                found[Identity(pid, process.create_time()), part] = times.user + times.system
    return found


def _ended(backend: int) -> dict[tuple[Identity, str], float]:
    """Read what the postmaster's ended children used: autovacuum's workers, above all."""
    postmaster = psutil.Process(backend).ppid()
    who, times = identity(postmaster), psutil.Process(postmaster).cpu_times()
    return {(who, "autovacuum"): times.children_user + times.children_system} if who else {}


def _figures(shares: Sequence[Share]) -> list[Figure]:
    runs = [share.run for share in shares]

    def figure(key: str, unit: str, what: str, values: Sequence[float]) -> Figure:
        return Figure(
            key=f"profile.{key}",
            unit=unit,
            runs=tuple(values),
            workload=f"{what}; {WORKLOAD}",
            n=sum(run.n for run in runs),
            lost=sum(run.lost for run in runs),
            duplicates=sum(run.duplicates for run in runs),
        )

    return [
        *(
            figure(f"{part}_us", MICROSECONDS, what, [share.parts[part] for share in shares])
            for part, what in PARTS.items()
        ),
        figure("wal_bytes", "bytes", "journal written", [share.wal for share in shares]),
    ]


if __name__ == "__main__":
    enter(app)
