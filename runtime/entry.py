"""How a command line ends: an error of ours is one sentence on stderr and exit 1, never a stack of calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from runtime.errors import HeliographError

E = TypeVar("E", bound=BaseException)


def enter(app: Callable[[], object]) -> None:
    """Run a command-line application to its end."""
    told: list[str] = []
    try:
        app()
    except* HeliographError as failed:
        told = list(dict.fromkeys(str(error) for error in leaves(failed)))
    # Outside the handler: an exit from within it would leave as a group, with its stack.
    if told:
        for line in told:
            print(f"heliograph: {line}", file=sys.stderr)  # noqa: T201 - the terminal is who asked
        sys.exit(1)


def leaves(group: BaseExceptionGroup[E]) -> Iterator[E]:
    """Give the errors themselves, however deep their groups lie in one another."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
