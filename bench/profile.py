"""`python -m bench.profile`: where a heartbeat's time goes inside the gateway, in microseconds per heartbeat.

One process, one connection, no broker: batches as the gateway makes them are decoded and judged, and
each step of that way is timed by its own clock. A step's time is the wall's, so it holds the wait for
the database; what stands above a step holds the step.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.load import Load
from bench.stack import Stack, serve
from commands import docket
from gateway import verdicts
from gateway.reading import read
from gateway.session import Delivery
from protocol.topics import Channel, topic
from runtime import clock, logs
from runtime.entry import enter
from runtime.garbage import collect_rarely
from runtime.settings import Commands
from runtime.settings import read as settings_of
from storage.pool import open_pool
from telemetry import heartbeats, sequence, status
from telemetry.partitions import Days
from telemetry.record import Arrival, moments

UNITS = 10_000
BATCH = 5_000
WARM = 2  # batches before the first that counts

STEPS: tuple[tuple[Any, str], ...] = (
    (status, "lock"),
    (sequence, "hear"),
    (heartbeats, "append"),
    (status, "report"),
    (verdicts, "record"),
    (verdicts, "observe"),
    (docket, "lock"),
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    batches: Annotated[int, typer.Option(min=1, help="batches of 5,000 heartbeats that are timed")] = 12,
) -> None:
    """Print microseconds per heartbeat for each step."""
    logs.configure("bench")
    collect_rarely()
    Console().print(asyncio.run(measure(batches)))


async def measure(batches: int) -> Table:
    """Time so many batches."""
    spent: dict[str, float] = defaultdict(float)
    async with serve() as stack:
        with ExitStack() as held:
            for module, name in STEPS:
                held.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, _timed(f"{module.__name__}.{name}", getattr(module, name), spent))
            await _run(stack, batches, spent)
    table = Table("step", "µs per heartbeat", title=f"{batches * BATCH:,} heartbeats in batches of {BATCH:,}")
    for step, seconds in spent.items():
        table.add_row(step, f"{seconds / batches / BATCH * 1e6:.1f}")
    return table


async def _run(stack: Stack, batches: int, spent: dict[str, float]) -> None:
    known = await stack.enrol(UNITS)
    async with open_pool(stack.settings) as pool:
        days = Days(pool)
        load = Load(list(known), 1, (WARM + batches) * BATCH, int(time.time()))
        await days.ensure([clock.now()])
        for number in range(WARM + batches):
            if number == WARM:
                spent.clear()
            deliveries = [_delivery(load, place) for place in range(number * BATCH, (number + 1) * BATCH)]
            began, used = time.perf_counter(), time.process_time()
            readings = [read(delivery, clock.now(), live=True) for delivery in deliveries]
            spent["decode"] += time.perf_counter() - began
            entries = [(reading, reading.content(known[reading.imei])) for reading in readings]  # type: ignore[index]
            await days.ensure(moments(content for _, content in entries if isinstance(content, Arrival)))
            spent["decode, content, days"] += time.perf_counter() - began
            judged = time.perf_counter()
            async with pool.transaction() as conn:
                await verdicts.judge(conn, entries, gateway="bench", settings=settings_of(Commands))
                spent["judge"] += time.perf_counter() - judged
                judged = time.perf_counter()
            spent["commit"] += time.perf_counter() - judged
            spent["all, wall"] += time.perf_counter() - began
            spent["all, this process's CPU"] += time.process_time() - used


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


def _timed(name: str, step: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    @wraps(step)
    async def timed(*args: Any, **words: Any) -> Any:
        began = time.perf_counter()
        try:
            return await step(*args, **words)
        finally:
            spent[name] += time.perf_counter() - began

    return timed


if __name__ == "__main__":
    enter(app)
