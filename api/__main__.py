"""`python -m api`: answer programs over HTTP; `python -m api openapi` describes the answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import typer
import uvicorn

from api.wiring import application, bare
from runtime import logs
from runtime.entry import enter
from runtime.errors import Unavailable
from runtime.garbage import collect_rarely
from runtime.services import run
from runtime.settings import Commands, Database, Http, Keeping, Plans, read
from storage.pool import open_pool

GRACE_S = 20.0
LAST_ANSWERS_S = 15
"""Seconds that requests under way may take after a stop was asked."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True)
log = structlog.get_logger()


class AddressTaken(Unavailable):
    """The address cannot be listened on."""


class Server(uvicorn.Server):
    """A server that leaves the signals to `runtime.services`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say where."""
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            log.info("api_served", address=f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def stop_when(self, stop: asyncio.Event) -> None:
        """Turn the process's stop into the server's."""
        await stop.wait()
        self.should_exit = True


@app.callback()
def main(context: typer.Context) -> None:
    """Serve until SIGTERM."""
    if context.invoked_subcommand is None:
        logs.configure("api")
        collect_rarely()
        asyncio.run(serve(read(Http), read(Database), read(Commands), read(Keeping), read(Plans)))


@app.command()
def openapi() -> None:
    """Print the OpenAPI document; api/openapi.json is this."""
    print(json.dumps(bare().openapi(), indent=2, ensure_ascii=False))


async def serve(http: Http, database: Database, commands: Commands, keeping: Keeping, plans: Plans) -> None:
    """Wire the API and run it."""
    with listen(http) as listener:
        async with open_pool(database) as pool:
            server = Server(
                uvicorn.Config(
                    application(pool, commands, keeping, plans),
                    lifespan="off",
                    ws="none",
                    log_config=None,
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,  # else any local caller could choose the origin in the audit
                    timeout_graceful_shutdown=LAST_ANSWERS_S,
                )
            )
            await run(
                {"http": lambda _stop: server.serve([listener]), "http-stop": server.stop_when}, grace=GRACE_S
            )


def listen(http: Http) -> socket.socket:
    """Open the port; `AddressTaken` when that is refused."""
    family = socket.AF_INET6 if ":" in http.http_host else socket.AF_INET
    try:
        listener = socket.create_server((http.http_host, http.http_port), family=family)
    except OSError as error:
        raise AddressTaken(
            f"{http.http_host}:{http.http_port} cannot be listened on: {error.strerror}. "
            "Set HELIOGRAPH_HTTP_PORT to another port, or to 0 for a free one.",
        ) from error
    # asyncio leaves the sockets of such a listener alone, and an answer is two writes: the second would
    # wait for the first to be acknowledged, which takes others 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    enter(app)
