"""`python -m bench.profile`: where a heartbeat's time goes inside the gateway, in microseconds per heartbeat.

One process, one connection, no broker: batches as the gateway makes them are decoded and judged, and
each step of that way is timed by its own clock. A step's time is the wall's, so it holds the wait for
the database; what stands above a step holds the step.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.figures import MICROSECONDS, Figure
from bench.ingest import Tell
from bench.load import Load
from bench.stack import serve
from commands import docket
from gateway import verdicts
from gateway.reading import read
from gateway.session import Delivery
from protocol.identity import Imei
from protocol.topics import Channel, topic
from runtime import clock, logs
from runtime.entry import enter
from runtime.garbage import collect_rarely
from runtime.settings import Commands
from runtime.settings import read as settings_of
from storage.pool import Pool, open_pool
from telemetry import heartbeats, sequence, status
from telemetry.partitions import Days

UNITS = 10_000
BATCH = 5_000
BATCHES = 12
WARM = 2  # batches before the first that counts

STEPS: tuple[tuple[Any, str, str], ...] = (
    (status, "lock", "lock_status"),
    (sequence, "hear", "bits"),
    (heartbeats, "append", "copy"),
    (status, "report", "update_status"),
    (verdicts, "record", "record"),
    (verdicts, "observe", "commands"),
    (docket, "lock", "lock_commands"),
)
"""Functions that are timed while they are called by name, and the step that each is."""

MEANING: Mapping[str, str] = {
    "decode": "the codec: bytes to a message",
    "prepare": "look up the unit",
    "judge": "everything inside the transaction",
    "record": "within judge: what telemetry keeps; the next four and Python between them",
    "lock_status": "within record: lock the status rows in the order of ids",
    "bits": "within record: new or repeated; bitmaps of what is odd",
    "copy": "within record: COPY into the heartbeats",
    "update_status": "within record: the newest word of each unit",
    "commands": "within judge: what it means for commands",
    "lock_commands": "within commands: lock the commands that are under way",
    "commit": "commit: the journal on disk",
    "wall": "decode, prepare, judge and commit one after the other",
    "cpu": "CPU of this process in that time; the rest is waiting for the database",
}
"""Every step that is told, in the order of a heartbeat's way."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    batches: Annotated[
        int, typer.Option(min=1, help=f"batches of {BATCH:,} heartbeats that are timed")
    ] = BATCHES,
) -> None:
    """Print microseconds per heartbeat for each step."""
    logs.configure("bench")
    table = Table(
        "step", "µs per heartbeat", "what", title=f"{batches * BATCH:,} heartbeats in batches of {BATCH:,}"
    )
    for step, spent in asyncio.run(_profile(1, batches))[0].items():
        table.add_row(step, f"{spent:.1f}", MEANING[step])
    Console().print(table)


async def measure(runs: int, tell: Tell) -> list[Figure]:
    """Time the steps in so many series of batches."""
    tell("profile: steps")
    series = await _profile(runs, BATCHES)
    return [
        Figure(
            key=f"profile.step_{step}_us",
            unit=MICROSECONDS,
            runs=tuple(spent[step] for spent in series),
            workload=f"{what}; {UNITS:,} units, batches of {BATCH:,}, one process, one connection, no broker",
            n=runs * BATCHES * BATCH,
            lost=0,
        )
        for step, what in MEANING.items()
    ]


async def _profile(series: int, batches: int) -> list[dict[str, float]]:
    """Give microseconds per heartbeat of each step, series by series."""
    collect_rarely()
    spent: dict[str, float] = defaultdict(float)
    async with serve() as stack, open_pool(stack.settings) as pool:
        known = await stack.enrol(UNITS)
        load = Load(list(known), 1, (WARM + series * batches) * BATCH, int(time.time()))
        await Days(pool).ensure([clock.now()])
        found = []
        with ExitStack() as held:
            for module, name, step in STEPS:
                held.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, _timed(step, getattr(module, name), spent))
            for number in range(WARM):
                await _batch(load, known, number, pool, spent)
            for start in range(WARM, WARM + series * batches, batches):
                spent.clear()
                for number in range(start, start + batches):
                    await _batch(load, known, number, pool, spent)
                found.append({step: spent[step] / batches / BATCH * 1e6 for step in MEANING})
    return found


async def _batch(
    load: Load, known: Mapping[Imei, int], number: int, pool: Pool, spent: dict[str, float]
) -> None:
    """Take one batch the gateway's way, with a clock at each step."""
    deliveries = [_delivery(load, place) for place in range(number * BATCH, (number + 1) * BATCH)]
    began, used = time.perf_counter(), time.process_time()
    readings = [read(delivery, clock.now(), live=True) for delivery in deliveries]
    decoded = time.perf_counter()
    entries = [(reading, reading.content(known[reading.imei])) for reading in readings]  # type: ignore[index]
    prepared = time.perf_counter()
    async with pool.transaction() as conn:
        await verdicts.judge(conn, entries, gateway="bench", settings=settings_of(Commands))
        judged = time.perf_counter()
    ended = time.perf_counter()
    spent["decode"] += decoded - began
    spent["prepare"] += prepared - decoded
    spent["judge"] += judged - prepared
    spent["commit"] += ended - judged
    spent["wall"] += ended - began
    spent["cpu"] += time.process_time() - used


def _delivery(load: Load, place: int) -> Delivery:
    imei = load.imeis[place % len(load.imeis)]
    return Delivery(
        session=None,  # nobody acknowledges here
        packet_id=None,
        topic=topic(imei, Channel.HEARTBEAT),
        body=load.body(place),
        retained=False,
        again=False,
        fault=None,
    )


def _timed(step: str, work: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    @wraps(work)
    async def timed(*args: Any, **words: Any) -> Any:
        began = time.perf_counter()
        try:
            return await work(*args, **words)
        finally:
            spent[step] += time.perf_counter() - began

    return timed


if __name__ == "__main__":
    enter(app)
