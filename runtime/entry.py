"""How a command line ends: an error of ours is one sentence on stderr and exit 1, never a stack of calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from runtime.errors import HeliographError


def enter(app: Callable[[], object]) -> None:
    """Run a command-line application to its end."""
    told: list[str] = []
    try:
        app()
    except* HeliographError as failed:
        told = list(dict.fromkeys(str(error) for error in _leaves(failed)))
    # Outside the handler: an exit from within it would leave as a group, with its stack.
    if told:
        for line in told:
            print(f"heliograph: {line}", file=sys.stderr)  # noqa: T201 - the terminal is who asked
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[HeliographError]) -> Iterator[HeliographError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
