"""Who runs in a folder: one launcher at a time, and a record of its processes for who comes after a crash."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.local.folder import Folder, write_private
from deploy.local.postgres import FAST_SHUTDOWN
from deploy.local.processes import POLITELY, Identity, end, ourselves
from runtime.errors import Conflict

LOCK = "lock"
RECORD = "run.json"
STOP_ORDER = ("fleet", "api", "gateway", "mosquitto", "postgres")
"""By the first word of a child's name: there may be several gateways."""


class AlreadyRunning(Conflict):
    """A Heliograph runs in this folder already."""


class Tenancy:
    """The record of one launcher and its children; made by `sole`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._api: str | None = None
        self._children: dict[str, Identity] = {}

    def note(self, name: str, child: Identity) -> None:
        """Write down a child that was started."""
        self._children[name] = child
        self._write()

    def announce(self, api: str) -> None:
        """Write down where the API is."""
        self._api = api
        self._write()

    def _write(self) -> None:
        write_private(
            self._file,
            json.dumps(
                {
                    "launcher": asdict(ourselves()),
                    "children": {name: asdict(child) for name, child in self._children.items()},
                    "api": self._api,
                },
                indent=1,
            ),
        )


@contextmanager
def sole(folder: Folder) -> Iterator[Tenancy]:
    """Be the only launcher here; end what a killed one left behind. Raises `AlreadyRunning`."""
    record = folder.path / RECORD
    file = folder.path / LOCK
    file.touch(mode=0o600)  # who may open it may lock us out
    with file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            api = _read(record).get("api")
            raise AlreadyRunning(
                f"Heliograph runs in {folder.path} already: {api or 'its API is not up yet'}", api=api
            ) from None
        _end_leftovers(record)
        folder.turn_logs()
        yield Tenancy(record)
        record.unlink(missing_ok=True)


def _end_leftovers(record: Path) -> None:
    children = _read(record).get("children", {})
    for name in sorted(children, key=lambda name: STOP_ORDER.index(name.partition("-")[0])):
        end(Identity(**children[name]), FAST_SHUTDOWN if name == "postgres" else POLITELY)
    record.unlink(missing_ok=True)


def _read(record: Path) -> dict[str, Any]:
    """Read the record; it is replaced as a whole, so it is whole or not there."""
    try:
        told: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return told
