"""The folder in which one Heliograph lives on this machine: data, secrets, ports, logs.

Root keeps it where the servers' account can pass through; everything inside is closed to others.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
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
        return self.path / "logs" / f"{name}.log"

    def turn_logs(self) -> None:
        """Begin new logs; those of the last start are kept beside them."""
        for log in (self.path / "logs").glob("*.log"):
            log.replace(log.with_suffix(".log.1"))

    def owned(self, name: str, account: Account) -> Path:
        """Give the sub-folder that belongs to `account` alone."""
        inner = self.path / name
        inner.mkdir(mode=0o700, exist_ok=True)
        os.chown(inner, account.uid, account.gid)
        return inner

    def port(self, name: str, *, wish: int = 0) -> int:
        """Give a free port of 127.0.0.1 for `name`: the one it had, else the wish, else any."""
        file = self.path / PORTS
        kept: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        kept[name] = next(
            free for wanted in (kept.get(name), wish, 0) if wanted is not None and (free := _bound(wanted))
        )
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
    try:
        _make(path, passable)
        (path / "logs").mkdir(mode=0o700, exist_ok=True)
        folder = Folder(path, _secrets(path / SECRETS))
    except OSError as error:
        raise BadFolder(
            f"{error.filename} is not open to you; name another folder in {STATE_DIR}.", folder=str(path)
        ) from error
    if run(["/bin/sh", "-c", 'test -x "$0"', path], env={}, account=account).returncode:
        raise BadFolder(
            f"The account {account.name} cannot reach {path}; name another folder in {STATE_DIR}.",
            folder=str(path),
        )
    return folder


def write_private(file: Path, text: str, owner: Account | None = None) -> None:
    """Replace a file at once and for good; nobody but its owner can read it."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        if owner is not None:
            os.chown(out.fileno(), owner.uid, owner.gid)
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def _make(path: Path, mode: int) -> None:
    if path.exists() and any(path.iterdir()) and not (path / SECRETS).exists():
        raise BadFolder(f"{path} holds other things; name an empty folder in {STATE_DIR}.", folder=str(path))
    if path.parent == SYSTEM_STATE:
        SYSTEM_STATE.mkdir(mode=0o711, exist_ok=True)
        SYSTEM_STATE.chmod(0o711)
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


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
