"""The launcher's children: watched, and started again when they end unasked."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.folder import REPOSITORY, Folder
from deploy.local.processes import Child, run
from deploy.local.tenancy import Tenancy
from runtime.errors import Unavailable

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0
"""A child that ran so long is not failing; its next end is a first one again."""


class ChildEnded(Unavailable):
    """A process that everything needs has ended."""


class StepFailed(Unavailable):
    """A step of the setting up failed."""


@dataclass(slots=True, kw_only=True)
class Watched:
    """One child and how to start it again; without `start` its end is the end of all."""

    name: str
    child: Child
    start: Callable[[], Child] | None = None
    failures: int = 0
    due: float | None = None
    since: float = field(default_factory=time.monotonic)


class Children:
    """What one launcher has started."""

    def __init__(self, folder: Folder, tenancy: Tenancy, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._tenancy = tenancy
        self._say = say
        self._watched: dict[str, Watched] = {}

    @contextmanager
    def watch(self, name: str, child: Child) -> Iterator[None]:
        """Watch a server that somebody else starts and ends."""
        self._tenancy.note(name, child.identity)
        self._watched[name] = Watched(name=name, child=child)
        try:
            yield
        finally:
            del self._watched[name]

    @contextmanager
    def serve(
        self, name: str, words: Sequence[str | Path], env: Mapping[str, str], *, again: bool = True
    ) -> Iterator[Watched]:
        """Run `python -m …` until the block ends, and again when it ends unasked if `again`."""

        def start() -> Child:
            argv = [sys.executable, "-m", *words]
            child = Child(argv, env=os.environ | env, log=self._folder.log(name), folder=REPOSITORY)
            self._tenancy.note(name, child.identity)
            return child

        watched = Watched(name=name, child=start(), start=start if again else None)
        self._watched[name] = watched
        try:
            yield watched
        finally:
            self._watched.pop(name, None)
            watched.child.end()

    def stop(self, watched: Watched) -> int:
        """End one child before its time; nobody starts it again."""
        del self._watched[watched.name]
        return watched.child.end()

    def tend(self) -> None:
        """Start again what ended; `ChildEnded` when that cannot be."""
        for watched in self._watched.values():
            if watched.child.ended is not None:
                self._revive(watched)

    def _revive(self, watched: Watched) -> None:
        now = time.monotonic()
        if watched.start is None:
            raise ChildEnded(f"{watched.name} has ended.", **told(watched.child))
        if watched.due is None:
            watched.failures = 0 if now - watched.since > STEADY_S else watched.failures
            pause = BACKOFF_S[min(watched.failures, len(BACKOFF_S) - 1)]
            self._say(f"{watched.name} has ended ({watched.child.ended}); again in {pause:g} s")
            watched.due = now + pause
        elif now >= watched.due:
            watched.child = watched.start()
            watched.failures, watched.due, watched.since = watched.failures + 1, None, now


def told(child: Child) -> dict[str, object]:
    """Give an ended child's exit code, its log and the end of what it said."""
    return {"code": child.ended, "log": str(child.log), "said": child.last_words()}


def step(*words: str | Path, env: Mapping[str, str], stdin: str | None = None) -> str:
    """Run `python -m …` to its end and give what it printed; `StepFailed` otherwise."""
    done = run([sys.executable, "-m", *words], env=os.environ | env, stdin=stdin, folder=REPOSITORY)
    if done.returncode:
        raise StepFailed(
            f"`python -m {' '.join(map(str, words[:2]))}` failed.",
            code=done.returncode,
            said=done.stderr.strip(),
        )
    return done.stdout
