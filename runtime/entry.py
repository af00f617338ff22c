"""How a command line ends: an error of ours is one sentence on stderr and exit 1, never a stack of calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from runtime.errors import HeliographError


def enter(app: Callable[[], object]) -> None:
    """Run a command-line application to its end."""
    try:
        app()
    except* HeliographError as failed:
        for error in _leaves(failed):
            print(f"heliograph: {error}", file=sys.stderr)  # noqa: T201 - the terminal is who asked
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[HeliographError]) -> Iterator[HeliographError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
