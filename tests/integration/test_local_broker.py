"""The broker of a folder is the only one there, whatever became of the launcher before."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import broker
from deploy.local.account import servers_account
from deploy.local.folder import Folder, open_folder
from deploy.local.processes import Child, until

ACCOUNT = servers_account()


@pytest.fixture
def folder() -> Iterator[Folder]:
    with tempfile.TemporaryDirectory(prefix="heliograph-test-", dir="/tmp") as home:
        yield open_folder(Path(home), ACCOUNT)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_broker_that_nobody_noted_is_ended_by_the_next(folder: Folder) -> None:
    """Its launcher was killed while it started: neither the record nor a pid file tells of it."""
    with broker.serve(folder, ACCOUNT) as before:
        pass
    words: list[str | Path] = [broker.find(), "-c", folder.path / "mosquitto" / "mosquitto.conf"]
    left = Child(words, env={"PATH": os.defpath}, log=folder.log("left"), account=ACCOUNT)
    try:
        assert until(lambda: listens(before.port), 10)
        with broker.serve(folder, ACCOUNT) as server:
            assert left.ended is not None
            assert server.child.ended is None
    finally:
        left.end()
