"""How every process tells what happens: one line per fact, JSON unless a person watches."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

SECRET_WORDS = ("password", "secret", "token", "mac", "key")
NOT_SECRET = frozenset({"idempotency_key", "key_generation", "token_id", "token_name"})


def configure(process: str) -> None:
    """Send structlog and the standard library's logging to stderr, in one form.

    `process` names the emitter in every line. Called once, in a room's `__main__`.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    finish: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not sys.stderr.isatty():
        finish.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*finish, renderer])
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    structlog.contextvars.bind_contextvars(process=process)


def _mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank what looks like a secret by its field's name: the last line of defence, not the first."""
    for name in event:
        if name not in NOT_SECRET and any(word in name.lower().split("_") for word in SECRET_WORDS):
            event[name] = "***"
    return event
