"""The folder in which one Heliograph lives on this machine: data, secrets, ports, logs.

Root keeps it where the servers' account can pass through; everything inside is closed to others.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from deploy.local.account import Account
from deploy.local.processes import run
from runtime.errors import Invalid

REPOSITORY = Path(__file__).resolve().parents[2]
STATE_DIR = "HELIOGRAPH_STATE_DIR"
SYSTEM_STATE = Path("/var/lib/heliograph")

SECRETS = "secrets.json"
PORTS = "ports.json"
LOGS = "logs"
BEGUN = frozenset({LOGS, f"{SECRETS}.new"})
"""What a first start may leave that had no room; the logs are empty then."""

PORT_MAX = 65_535


class BadFolder(Invalid):
    """The state folder cannot be used."""


def _password() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Drawn once per folder; `repr` shows none of them."""

    superuser: str = field(default_factory=_password, repr=False)
    owner: str = field(default_factory=_password, repr=False)
    app: str = field(default_factory=_password, repr=False)
    uplink: str = field(default_factory=_password, repr=False)
    downlink: str = field(default_factory=_password, repr=False)
    master: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    @property
    def master_secrets(self) -> str:
        """Give the map of key generations as HELIOGRAPH_MASTER_SECRETS has it."""
        return json.dumps({"1": self.master})


@dataclass(frozen=True, slots=True)
class Folder:
    """A state folder that exists and is ours; made by `open_folder`."""

    path: Path
    secrets: Secrets

    def log(self, name: str) -> Path:
        """Name the file that takes what one process says."""
        return self.path / LOGS / f"{name}.log"

    def turn_logs(self) -> None:
        """Begin new logs; those of the last start are kept beside them."""
        for log in (self.path / LOGS).glob("*.log"):
            log.replace(log.with_suffix(".log.1"))

    def owned(self, name: str, account: Account) -> Path:
        """Give the sub-folder that belongs to `account` alone; `BadFolder` when there is no room for it."""
        inner = self.path / name
        with told_of(inner):
            inner.mkdir(mode=0o700, exist_ok=True)
            os.chown(inner, account.uid, account.gid)
        return inner

    def port(self, name: str, *, wish: int = 0) -> int:
        """Give a free port of 127.0.0.1 for `name`: the wish, else the one it had, else any."""
        file = self.path / PORTS
        kept = _ports(file)
        wanted = [port for port in (wish, kept.get(name)) if port]
        kept[name] = next(free for port in (*wanted, 0) if (free := _bound(port)))
        if not file.is_dir():  # then none is kept
            write_private(file, json.dumps(kept))
        return kept[name]


def state_path() -> Path:
    """Say where the state belongs: HELIOGRAPH_STATE_DIR, else beside the code, or for root in /var/lib."""
    wanted = os.environ.get(STATE_DIR)
    if wanted:
        return Path(wanted).absolute()
    if os.geteuid() != 0:
        return REPOSITORY / ".heliograph"
    fingerprint = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
    return SYSTEM_STATE / f"{REPOSITORY.name}-{fingerprint}"


def open_folder(path: Path, account: Account) -> Folder:
    """Make the folder or take it up again; `BadFolder` when it is somebody else's or out of reach."""
    passable = 0o700 if account.uid == os.geteuid() else 0o711
    with told_of(path):
        _make(path, passable)
        folder = Folder(path, _secrets(path / SECRETS))
        (path / LOGS).mkdir(mode=0o700, exist_ok=True)
    if run(["/bin/sh", "-c", 'test -x "$0"', path], env={}, account=account).returncode:
        raise BadFolder(
            f"The account {account.name} cannot reach {path}; name another folder in {STATE_DIR}.",
            folder=str(path),
        )
    return folder


def write_private(file: Path, text: str, owner: Account | None = None) -> None:
    """Replace a file at once and for good; nobody but its owner can read it. `BadFolder` without room."""
    new = file.with_name(f"{file.name}.new")
    with told_of(file):
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            if owner is not None:
                os.chown(out.fileno(), owner.uid, owner.gid)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Tell what the system refuses there as `BadFolder`; a write names no file itself."""
    try:
        yield
    except OSError as error:
        no_folder = isinstance(error, FileExistsError | NotADirectoryError)
        why = "not a folder" if no_folder else error.strerror
        raise BadFolder(
            f"{error.filename or path}: {why}. Mend that, or name another folder in {STATE_DIR}."
        ) from error


def _make(path: Path, mode: int) -> None:
    if path.exists() and _foreign(path):
        raise BadFolder(f"{path} holds other things; name an empty folder in {STATE_DIR}.", folder=str(path))
    if path.parent == SYSTEM_STATE:
        SYSTEM_STATE.mkdir(mode=0o711, exist_ok=True)
        SYSTEM_STATE.chmod(0o711)
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def _foreign(path: Path) -> bool:
    """Whether it holds other things than ours, begun or whole."""
    there = {one.name for one in path.iterdir()}
    return SECRETS not in there and (not there <= BEGUN or any(path.glob(f"{LOGS}/*")))


def _ports(file: Path) -> dict[str, int]:
    """Read the port that each had; these are but wishes, so what says none is forgotten."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    ports = kept.items() if isinstance(kept, dict) else ()
    return {name: port for name, port in ports if type(port) is int and 0 < port <= PORT_MAX}


def _secrets(file: Path) -> Secrets:
    if not file.exists():
        write_private(file, json.dumps(asdict(Secrets()), indent=1))
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        names = {one.name for one in fields(Secrets)}
        whole = kept.keys() == names and all(isinstance(one, str) for one in kept.values())
    except (ValueError, AttributeError):
        whole = False
    if not whole:
        raise BadFolder(
            f"{file} is damaged, and nothing else opens what lies beside it: "
            f"put a copy of it back, or name another folder in {STATE_DIR}.",
            folder=str(file.parent),
        )
    return Secrets(**kept)


def _bound(port: int) -> int:
    """Give the port if one can listen there (0: any), else 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        found: int = probe.getsockname()[1]
        return found
