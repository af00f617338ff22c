"""Who runs in a folder: one launcher at a time, and a record of its processes for who comes after a crash."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter

from deploy.local.folder import Folder, told_of, write_private
from deploy.local.postgres import FAST_SHUTDOWN
from deploy.local.processes import POLITELY, Identity, end, ourselves
from runtime.errors import Conflict, Invalid

LOCK = "lock"
RECORD = "run.json"
STOP_ORDER = ("fleet", "api", "gateway", "mosquitto", "postgres")
"""By the first word of a child's name: there may be several gateways."""

Name = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(STOP_ORDER)})(-|$)")]


class AlreadyRunning(Conflict):
    """A Heliograph runs in this folder already."""


class DamagedRecord(Invalid):
    """The record of what runs in a folder cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a launcher wrote down for others to act on."""

    children: dict[Name, Identity]
    api: str | None


NOTHING = Record(children={}, api=None)
RECORDED = TypeAdapter(Record)


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
    """Be the only launcher here; end what a killed one left behind.

    Raises `AlreadyRunning`; `BadFolder` and `DamagedRecord` when the folder does not admit it.
    """
    record = folder.path / RECORD
    file = folder.path / LOCK
    with told_of(file):
        file.touch(mode=0o600)  # who may open it may lock us out
    with file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"Heliograph runs in {folder.path} already: {_api(record) or 'its API is not up yet'}",
                api=_api(record),
            ) from None
        _end_leftovers(record)
        folder.turn_logs()
        yield Tenancy(record)
        record.unlink(missing_ok=True)


def _api(record: Path) -> str | None:
    """Say where the API of the running launcher is; None when the record does not."""
    with suppress(DamagedRecord):
        return _read(record).api
    return None


def _end_leftovers(record: Path) -> None:
    children = _read(record).children
    for name in sorted(children, key=lambda name: STOP_ORDER.index(name.partition("-")[0])):
        end(children[name], FAST_SHUTDOWN if name == "postgres" else POLITELY)
    record.unlink(missing_ok=True)


def _read(record: Path) -> Record:
    """Read the record: replaced as a whole, it is whole or not there; else raises `DamagedRecord`."""
    try:
        return RECORDED.validate_json(record.read_bytes())
    except FileNotFoundError:
        return NOTHING
    except (OSError, ValueError) as error:
        raise DamagedRecord(
            f"{record} is damaged: it tells what a killed start has left. "
            f"End what still runs for {record.parent}, then delete it."
        ) from error
