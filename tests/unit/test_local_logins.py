"""The broker's password file and access list admit whom they should, in the form that Mosquitto reads."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from deploy.local import broker, installation
from deploy.local.account import Account
from deploy.local.broker import CONFIGURATION, BrokerFailed, NoBroker, backend_logins, login
from deploy.local.folder import open_folder

ME = Account("me", os.geteuid(), os.getegid())


def test_a_login_holds_the_password_s_hash_and_not_the_password() -> None:
    line = login("gateway-0-99", "a password")

    user, kind, rounds, salt, digest = line.strip().replace(":", "").split("$")
    made = hashlib.pbkdf2_hmac("sha512", b"a password", base64.b64decode(salt), int(rounds), 64)
    assert (user, kind, rounds) == ("gateway-0-99", "7", "101")
    assert base64.b64decode(digest) == made
    assert login("gateway-0-99", "a password") != line


def test_each_gateway_logs_in_under_two_names(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "state", ME)

    file = backend_logins(folder, ["gateway-0-49", "gateway-50-99"])

    users = [line.split(":")[0] for line in file.read_text().splitlines()]
    assert users == ["gateway-0-49", "downlink-0-49", "gateway-50-99", "downlink-50-99"]
    assert file.stat().st_mode & 0o077 == 0
    assert folder.secrets.uplink not in file.read_text()


def test_logins_that_are_no_text_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "find", lambda: "/nowhere/mosquitto")
    folder = open_folder(tmp_path / "state", ME)
    (folder.owned("mosquitto", ME) / "logins").write_bytes(b"35209900176148\xb9:$7$\n")

    with (
        pytest.raises(BrokerFailed, match=r"mosquitto/logins is damaged: delete it"),
        broker.serve(folder, ME),
    ):
        pass


@pytest.mark.parametrize(
    "line",
    [
        "allow_anonymous false",
        "use_username_as_clientid true",
        "max_inflight_messages 0",
        "max_queued_messages 0",
        "set_tcp_nodelay true",
        "persistence true",
    ],
)
def test_the_broker_s_configuration_keeps_the_design_s_promises(line: str) -> None:
    assert line in CONFIGURATION.splitlines()


def test_messages_over_the_wire_s_limit_reach_the_gateway() -> None:
    assert broker.PACKET_BYTES > 256 * 1024


def test_whoever_cannot_install_a_broker_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "SBIN", ())
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(NoBroker, match="type `sudo apt install mosquitto`"):
        installation.ensure_broker(print)
