"""`python -m gateway`: take in what units say, for one range of partitions; `retire` ends its session."""

from __future__ import annotations

import asyncio
import json
import re
from functools import partial
from typing import Annotated

import structlog
import typer

from commands.dispatcher import Dispatcher
from commands.executor import Executor
from commands.reaper import Reaper
from gateway.downlink import Downlink
from gateway.ingest import Ingest
from gateway.replay import Replay
from gateway.retirement import Unconfirmed
from gateway.retirement import retire as end_session
from gateway.tenure import Tenure
from gateway.uplink import Uplink
from gateway.watchdog import Watchdog
from registry import access_list
from runtime import logs
from runtime.entry import enter
from runtime.garbage import collect_rarely
from runtime.health import Health
from runtime.retry import until_stopped
from runtime.services import run
from runtime.settings import Broker, Commands, Database, Gateway, Keeping, Keys, Plans, read
from runtime.settings import Health as HealthSettings
from storage.pool import open_pool
from telemetry.missing import Count
from telemetry.partitions import Days
from telemetry.upkeep import Upkeep

GRACE_S = 20.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
log = structlog.get_logger()


def partition_range(text: str) -> range:
    """Read `0-99`; both ends are served."""
    found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", text)
    if found is None or int(found[1]) > int(found[2]):
        raise typer.BadParameter("write it as FIRST-LAST, both from 0 to 99")
    return range(int(found[1]), int(found[2]) + 1)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    partitions: Annotated[str, typer.Option(help="last two digits of the IMEIs served, FIRST-LAST")] = "0-99",
    name: Annotated[
        str | None, typer.Option(help="broker login and session; default gateway-FIRST-LAST")
    ] = None,
) -> None:
    """Serve until SIGTERM."""
    if context.invoked_subcommand:
        return
    logs.configure("gateway")
    collect_rarely()
    served = partition_range(partitions)
    asyncio.run(serve(name or access_list.gateway(served), served))


@app.command()
def retire(
    name: Annotated[str, typer.Argument(help="as the gateway was called: gateway-FIRST-LAST, or its --name")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="lose what waits there")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """End the broker's session of a gateway that will not come back, and all that waits in it."""
    if not yes:
        raise Unconfirmed(name)
    there = asyncio.run(end_session(name, read(Broker), read(Gateway), read(Database)))
    if as_json:
        print(json.dumps({"gateway": name, "session_ended": there}))
    elif there:
        print(f"The session of {name} is ended, and what waited in it is gone.")
    else:
        print(f"The broker had no session of {name}.")


async def serve(name: str, partitions: range) -> None:
    """Wire one gateway and run it."""
    broker, gateway, database = read(Broker), read(Gateway), read(Database)
    commands, keys = read(Commands), read(Keys)
    async with open_pool(database) as pool:
        days = Days(pool)
        ingest = Ingest(name, gateway, commands, pool, days)
        uplink = Uplink(name, partitions, broker, gateway, ingest)
        downlink = Downlink(access_list.downlink(name), broker, gateway)
        dispatcher = Dispatcher(name, partitions, downlink, pool, keys, commands)
        replay = Replay(name, pool, days, commands)
        upkeep = Upkeep(pool, read(Keeping))
        reaper = Reaper(name, pool, commands)
        plans = Executor(pool, commands, read(Plans))
        health = Health(read(HealthSettings).health_port, lambda: not_ready(uplink, downlink))
        tenure = Tenure(
            name,
            database,
            {
                "uplink": uplink.serve,
                "commands": partial(talk, downlink, dispatcher),
                "dispatcher-listen": partial(dispatcher.listen, database),
            },
        )
        await run(
            {
                "health": health.serve,
                "days": partial(until_stopped, "days", days.serve),
                "upkeep": upkeep.serve,
                "missing": partial(until_stopped, "missing", Count(pool).serve),
                "ingest": ingest.serve,
                "watchdog": Watchdog(ingest, gateway.gateway_hang_s).serve,
                "reaper": reaper.serve,
                "plans": plans.serve,
                "replay": replay.serve,
                "replay-listen": partial(replay.listen, database),
                "tenure": tenure.serve,
            },
            grace=GRACE_S,
        )


async def talk(downlink: Downlink, dispatcher: Dispatcher, stop: asyncio.Event) -> None:
    """Dispatch until stopped; the downlink stays until the last answer is written down."""
    dispatched = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(downlink.serve(dispatched), name="downlink")
        await dispatcher.serve(stop)
        dispatched.set()


def not_ready(uplink: Uplink, downlink: Downlink) -> list[str]:
    """Say what is missing before units can be heard and told."""
    missing = {
        "uplink is not subscribed": not uplink.subscribed,
        "downlink is not connected": not downlink.connected,
    }
    return [what for what, lacks in missing.items() if lacks]


if __name__ == "__main__":
    enter(app)
