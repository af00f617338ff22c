"""How a process without an API tells how it is: /healthz, /readyz and /metrics on loopback.

The server is a thread of its own: when the event loop hangs, it is still there to say so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import structlog

from runtime import metrics
from runtime.errors import Conflict
from runtime.services import pause

BEAT_S = 1.0
STALE_S = 15.0
"""A loop that has not come round for so long (seconds) is called hung."""

log = structlog.get_logger()


class PortTaken(Conflict):
    """Something else listens on this port."""


class Health:
    """One process's health, asked over HTTP: `not_ready` gives reasons, empty when ready."""

    def __init__(self, port: int, not_ready: Callable[[], list[str]]) -> None:
        self._port = port
        self._not_ready = not_ready
        self._beat = time.monotonic()

    async def serve(self, stop: asyncio.Event) -> None:
        """Answer until stopped; the beat shows that the event loop still comes round."""
        if self._port == 0:
            await stop.wait()
            return
        try:
            server = ThreadingHTTPServer(("127.0.0.1", self._port), self._door())
        except OSError as error:
            raise PortTaken("The health page has no port.", port=self._port, why=error.strerror) from error
        thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        thread.start()
        log.info("health_served", port=server.server_port)
        try:
            while not await pause(stop, BEAT_S):
                self._beat = time.monotonic()
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Give status, content type and body for one path."""
        if path == "/metrics":
            return HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.exposition()
        if path not in {"/healthz", "/readyz"}:
            return HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n"
        reasons = ["event loop hangs"] if time.monotonic() - self._beat > STALE_S else []
        if path == "/readyz":
            reasons += self._not_ready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return status, "text/plain", ("\n".join(reasons or ["ok"]) + "\n").encode()

    def _door(self) -> type[BaseHTTPRequestHandler]:
        health = self

        class Door(BaseHTTPRequestHandler):
            timeout: ClassVar[float] = 5.0

            def do_GET(self) -> None:
                status, content_type, body = health.answer(self.path)
                with suppress(ConnectionError):  # who asked has left
                    self.send_response(status)
                    self.send_header("Content-Type", content_type)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: a scrape every few seconds is no news."""

        return Door
