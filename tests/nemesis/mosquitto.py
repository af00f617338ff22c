"""The broker of a stack, ended and started again where it was."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from deploy.local import broker
from deploy.local.account import servers_account
from deploy.local.processes import Child, until
from runtime.errors import Unavailable
from tests.acceptance.stack import Stack

READY_S = 30.0
SAVED_S = 10.0


class BrokerDoesNot(Unavailable):
    """The broker does not do what it was told."""


def stop(stack: Stack, how: signal.Signals = signal.SIGTERM) -> None:
    """End it: politely it saves its sessions and queues first."""
    stack.mqtt.child.end(((how, READY_S), (signal.SIGKILL, READY_S)))


def start(stack: Stack) -> None:
    """Start it again, on the same port with what it has saved."""
    home = _home(stack)
    child = Child(
        [broker.find(), "-c", home / "mosquitto.conf"],
        env={"PATH": os.defpath, "TZ": "UTC"},
        log=stack.folder.log("mosquitto"),
        folder=home,
        account=servers_account(),
    )
    stack.children.append(child)
    stack.mqtt.child = child
    if not until(lambda: _listens(stack.mqtt.port), READY_S):
        raise BrokerDoesNot("The broker does not start again.", said=child.last_words())


def save(stack: Stack) -> None:
    """Have it save now, and wait until it has; what it takes later a `kill -9` loses."""
    file = _saved(stack)
    before = file.stat().st_mtime_ns if file.exists() else 0
    stack.mqtt.child.tell(signal.SIGUSR1)
    if not until(lambda: file.exists() and file.stat().st_mtime_ns > before, SAVED_S):
        raise BrokerDoesNot("The broker does not save.", file=str(file))


def wipe(stack: Stack) -> None:
    """Let it have forgotten everything at its next start."""
    _saved(stack).unlink(missing_ok=True)


def _home(stack: Stack) -> Path:
    return stack.mqtt.logins.parent


def _saved(stack: Stack) -> Path:
    return _home(stack) / "mosquitto.db"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
