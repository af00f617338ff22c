"""The broker's password file: what stands in it, how it is replaced, and that a broker takes it."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import stat
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from registry import enrolment, lifecycle, logins, units
from registry.lifecycle import Lifecycle
from registry.logins import FileNotWritten, NoSuchOwner, broker_hash
from storage.sql import Connection
from tests.builders import a_deed, a_newcomer, an_imei, keys

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


async def enrol(conn: Connection, number: int) -> str:
    return (await enrolment.enrol(conn, a_newcomer(number), keys(), a_deed())).password


def names(file: Path) -> list[str]:
    return [line.partition(":")[0] for line in file.read_text().splitlines()]


def test_the_hash_is_the_one_of_mosquitto_passwd() -> None:
    theirs = (
        "$7$101$Louh2+Qf/X0qUtIX$"
        "yDsP8RlaHt5zMMD+ZjtbuyRAwEf8q9om8UZvE8ZZmHIDCN+J27XhOcjpxwcffpfHe4fTxFJe4KR6rDUM+vlKkw=="
    )
    salt = b64decode(theirs.split("$")[3])

    assert broker_hash("secret", salt) == theirs
    assert broker_hash("secret") != broker_hash("secret")


async def test_every_unit_that_has_not_left_is_in_the_file_behind_the_backend_s_own_logins(
    conn: Connection, tmp_path: Path
) -> None:
    for number in range(3):
        await enrol(conn, number)
    gone = await units.by_identity(conn, an_imei(1), scope=None)
    await lifecycle.move(conn, gone.id, Lifecycle.STORED, Lifecycle.TERMINATED, a_deed())
    own, file = tmp_path / "own", tmp_path / "passwords"
    own.write_text(f"gateway-0-99:{broker_hash('x')}")  # no line end: it must not run into the next login

    written = await logins.write(conn, file, first=own)

    assert written == 2
    assert names(file) == ["gateway-0-99", an_imei(0), an_imei(2)]
    assert file.read_text().endswith("\n")


async def test_an_empty_registry_makes_an_empty_file(conn: Connection, tmp_path: Path) -> None:
    own, file = tmp_path / "own", tmp_path / "passwords"
    own.touch()

    assert await logins.write(conn, file, first=own) == 0

    assert file.read_bytes() == b""


async def test_the_file_is_private_and_replaced_as_a_whole(conn: Connection, tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text("old\n")
    file.chmod(0o644)
    await enrol(conn, 1)

    with file.open() as reading:
        await logins.write(conn, file, owner=getpass.getuser())
        assert reading.read() == "old\n"

    assert names(file) == [an_imei(1)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["passwords"]  # noqa: PTH208 - names are what is asked


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_the_file_belongs_to_the_broker_s_account(conn: Connection, tmp_path: Path) -> None:
    await logins.write(conn, tmp_path / "passwords", owner="nobody")

    assert (tmp_path / "passwords").owner() == "nobody"


async def test_a_file_that_cannot_be_written_leaves_the_old_one(conn: Connection, tmp_path: Path) -> None:
    file, absent = tmp_path / "passwords", tmp_path / "absent"
    file.write_text("old\n")

    with pytest.raises(NoSuchOwner):
        await logins.write(conn, file, owner="no-such-account")
    with pytest.raises(FileNotWritten) as unread:
        await logins.write(conn, file, first=absent)
    with pytest.raises(FileNotWritten) as unwritten:
        await logins.write(conn, absent / "passwords")

    assert unread.value.facts["file"] == str(absent)
    assert unwritten.value.facts["file"] == str(absent / "passwords")
    assert file.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["passwords"]  # noqa: PTH208 - names are what is asked


async def test_what_is_no_file_stays_what_it_is_and_a_link_goes_on_pointing(
    conn: Connection, tmp_path: Path
) -> None:
    """As root, a device would be gone for the whole machine."""
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "passwords"
    os.mkfifo(pipe)
    link.symlink_to(file)
    await enrol(conn, 1)

    for odd in (pipe, tmp_path):
        with pytest.raises(FileNotWritten, match="no file"):
            await logins.write(conn, odd)
    await logins.write(conn, link)

    assert pipe.is_fifo()
    assert link.is_symlink()
    assert names(file) == [an_imei(1)]


@contextmanager
def a_broker(folder: Path, passwords: Path) -> Iterator[int]:
    """Run Mosquitto on a free port, as the present account, with this password file."""
    assert MOSQUITTO is not None
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\n"
        f"password_file {passwords}\nuser {getpass.getuser()}\n"
    )
    broker = subprocess.Popen([MOSQUITTO, "-c", config], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        broker.terminate()
        broker.wait(10)


async def answer_to(port: int, name: str, password: str) -> str:
    """Connect as a unit does and give the broker's answer."""
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[str] = asyncio.Queue()
    client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv311)
    client.username_pw_set(name, password)

    def connected(_client: Client, _data: object, _flags: object, reason: object, _more: object) -> None:
        loop.call_soon_threadsafe(answers.put_nowait, str(reason))

    client.on_connect = connected
    async with asyncio.timeout(10):
        while True:  # until the broker listens
            try:
                client.connect("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
        client.loop_start()
        try:
            return await answers.get()
        finally:
            client.disconnect()
            client.loop_stop()


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_a_broker_lets_an_enrolled_unit_in_and_nobody_else(conn: Connection, tmp_path: Path) -> None:
    password = await enrol(conn, 1)
    await logins.write(conn, tmp_path / "passwords")

    with a_broker(tmp_path, tmp_path / "passwords") as port:
        assert await answer_to(port, an_imei(1), password) == "Success"
        assert await answer_to(port, an_imei(1), "wrong") == "Not authorized"
        assert await answer_to(port, an_imei(2), password) == "Not authorized"
