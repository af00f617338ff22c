"""A Mosquitto of our own: a generated configuration, a free port on 127.0.0.1, nobody anonymous."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local import processes
from deploy.local.account import Account
from deploy.local.folder import Folder, write_private
from deploy.local.processes import Child, until
from registry.access_list import access_list, downlink
from registry.logins import broker_hash
from runtime.errors import Unavailable

UPLINK = "gateway-0-99"
DOWNLINK = downlink(UPLINK)
"""The two logins of the gateway when there is only one."""

PACKET_BYTES = 1_048_576
"""Larger packets cut the connection. The wire's limit is 64 KiB: what is over it must reach us to be told."""

QUEUE_BYTES = 1 << 30
"""What waits for a gateway that is away, at most; counted in messages the broker drops them silently."""

CONNECTIONS = 1 << 17
READY_S = 20.0
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/sbin")
"""Where systems put servers; an ordinary user's PATH leaves these folders out."""

CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous false
use_username_as_clientid true
password_file {logins}
acl_file {access}

max_inflight_messages 0
max_queued_messages 0
max_queued_bytes {queue_bytes}
max_packet_size {packet_bytes}
set_tcp_nodelay true

persistence true
persistence_location {home}/
autosave_interval 30
persistent_client_expiration 14d

log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


class NoBroker(Unavailable):
    """Mosquitto is not installed."""


class BrokerFailed(Unavailable):
    """Mosquitto does not start."""


class Server:
    """A running broker; made by `serve`."""

    def __init__(self, child: Child, port: int, logins: Path, backend: Path) -> None:
        self.child = child
        self.port = port
        self.logins = logins
        self.backend = backend
        """The backend's own lines, which stand before the units' in the password file."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self.child.pid

    @property
    def url(self) -> str:
        """Say where clients connect."""
        return f"mqtt://127.0.0.1:{self.port}"

    def reload(self) -> None:
        """Make it read the password file again; clients whose login is gone are cut."""
        self.child.tell(signal.SIGHUP)


@contextmanager
def serve(folder: Folder, account: Account, gateways: Sequence[str] = (UPLINK,)) -> Iterator[Server]:
    """Run the broker of this folder, which admits these gateways and the units, until the block ends."""
    program = find()
    home = folder.owned("mosquitto", account)
    logins, access = home / "logins", home / "access"
    backend = backend_logins(folder, gateways)
    write_private(logins, backend.read_text(encoding="ascii") + _units_among(logins), owner=account)
    write_private(access, access_list(gateways), owner=account)
    _allow_connections()
    port = folder.port("mosquitto")
    configuration = CONFIGURATION.format(
        port=port,
        logins=logins,
        access=access,
        home=home,
        queue_bytes=QUEUE_BYTES,
        packet_bytes=PACKET_BYTES,
    )
    _end_leftovers(home / "mosquitto.conf")
    write_private(home / "mosquitto.conf", configuration, owner=account)
    child = Child(
        [program, "-c", home / "mosquitto.conf"],
        env={"PATH": os.defpath, "TZ": "UTC"},
        log=folder.log("mosquitto"),
        folder=home,
        account=account,
    )
    try:
        until(lambda: child.ended is not None or _listens(port), READY_S)
        if child.ended is not None or not _listens(port):
            raise BrokerFailed("Mosquitto does not start.", said=child.last_words())
        yield Server(child, port, logins, backend)
    finally:
        child.end()


def _end_leftovers(configuration: Path) -> None:
    """End a broker whose launcher was killed before it noted it: two would write the same sessions."""
    for left in processes.started_with(["-c", str(configuration)]):
        processes.end(left)


def find() -> str:
    """Find the program; `NoBroker` when it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise NoBroker("Mosquitto is missing; type `sudo apt install mosquitto`.")
    return program


def login(user: str, password: str) -> str:
    """Give one line of the broker's password file."""
    return f"{user}:{broker_hash(password)}\n"


def backend_logins(folder: Folder, gateways: Iterable[str]) -> Path:
    """Write the file of the backend's own lines: two logins for each gateway."""
    secrets = folder.secrets
    lines = (
        login(name, secrets.uplink) + login(downlink(name), secrets.downlink)
        for name in dict.fromkeys(gateways)
    )
    file = folder.path / "backend-logins"
    write_private(file, "".join(lines))
    return file


def _units_among(logins: Path) -> str:
    """Give the units' lines of the last start: until the registry is asked they are admitted as before."""
    if not logins.exists():
        return ""
    try:
        lines = logins.read_text(encoding="ascii").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise BrokerFailed(
            f"{logins} is damaged: delete it, it is written anew from the registry."
        ) from error
    return "".join(line for line in lines if line[0].isdigit())


def _allow_connections() -> None:
    """Let children hold as many files as the system allows: each connected unit is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, CONNECTIONS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
