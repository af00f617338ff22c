"""The state folder keeps what it drew, hides it from others, and does not take what is not its own."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.account import Account, NoAccount, servers_account
from deploy.local.folder import BadFolder, Folder, open_folder, state_path, write_private

ME = Account("me", os.geteuid(), os.getegid())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return open_folder(tmp_path / "state", ME)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_drawn_once_and_for_their_owner_alone(folder: Folder) -> None:
    again = open_folder(folder.path, ME)

    assert again.secrets == folder.secrets
    assert mode(folder.path / "secrets.json") == 0o600
    assert mode(folder.path) == mode(folder.path / "logs") == 0o700


def test_no_two_folders_share_a_secret(tmp_path: Path, folder: Folder) -> None:
    other = open_folder(tmp_path / "other", ME)

    assert other.secrets != folder.secrets


def test_secrets_do_not_show_themselves(folder: Folder) -> None:
    assert repr(folder.secrets) == "Secrets()"


def test_a_port_is_kept_while_it_is_free(folder: Folder) -> None:
    first = folder.port("api")

    assert folder.port("api") == first


def test_a_port_that_somebody_took_is_replaced(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", folder.port("api"))) as somebody:
        taken = somebody.getsockname()[1]

        assert folder.port("api") != taken


def test_a_wish_for_a_port_is_granted_when_it_can_be(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        wanted = somebody.getsockname()[1]
        assert folder.port("taken", wish=wanted) != wanted

    assert folder.port("free", wish=wanted) == wanted


def test_a_wish_comes_before_the_port_that_was_kept(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        wanted = somebody.getsockname()[1]
        kept = folder.port("api", wish=wanted)

        assert folder.port("api", wish=wanted) == kept != wanted

    assert folder.port("api", wish=wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "\udcff"),
        *('{"api": 99999999}', '{"api": "8080"}', '{"api": -5}', '{"api": true}', '{"api": null}'),
    ],
)
def test_kept_ports_that_are_none_are_forgotten(folder: Folder, text: str) -> None:
    file = folder.path / "ports.json"
    file.write_text(text, errors="surrogateescape")

    port = folder.port("api")

    assert json.loads(file.read_text()) == {"api": port}


def test_no_port_is_kept_where_a_folder_is_in_the_way(folder: Folder) -> None:
    (folder.path / "ports.json").mkdir()

    assert folder.port("api") > 0


@pytest.mark.parametrize("name", ["mosquitto", "logs"])
def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path, name: str) -> None:
    folder = open_folder(tmp_path / "state", ME)
    shutil.rmtree(folder.path / "logs")
    (folder.path / name).touch()

    with pytest.raises(BadFolder, match=rf"{name}: not a folder\. Mend that, or name another"):
        open_folder(folder.path, ME).owned(name, ME)


@pytest.mark.parametrize("refused", [os.fsync, os.mkdir])
def test_a_first_start_without_room_says_so_and_the_next_one_with_room_goes_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., object]
) -> None:
    def full(*_given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(os, refused.__name__, full)
        with pytest.raises(BadFolder, match=rf"^{tmp_path}\S*: No space left on device\."):
            open_folder(tmp_path, ME)

    assert open_folder(tmp_path, ME).log("api").parent.is_dir()


def test_what_a_first_start_without_room_has_left_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "secrets.json.new").touch()

    assert open_folder(tmp_path, ME).path == tmp_path


def test_logs_of_somebody_else_are_no_first_start_of_ours(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "theirs.log").touch()

    with pytest.raises(BadFolder, match="holds other things"):
        open_folder(tmp_path, ME)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[]", b"{}", b"null", b'{"superuser": "one"}', b'{"nobody": "one"}'],
)
def test_damaged_secrets_are_told_and_left_alone(folder: Folder, text: bytes) -> None:
    file = folder.path / "secrets.json"
    file.write_bytes(text)

    with pytest.raises(BadFolder, match=r"secrets\.json is damaged"):
        open_folder(folder.path, ME)

    assert file.read_bytes() == text


def test_secrets_that_are_no_text_are_damaged_ones(folder: Folder) -> None:
    file = folder.path / "secrets.json"
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), 1)))

    with pytest.raises(BadFolder, match=r"secrets\.json is damaged"):
        open_folder(folder.path, ME)


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("months of work")
    tmp_path.chmod(0o755)

    with pytest.raises(BadFolder, match="holds other things"):
        open_folder(tmp_path, ME)

    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("there_before", [True, False])
def test_a_private_file_is_private_from_its_first_moment(tmp_path: Path, *, there_before: bool) -> None:
    file = tmp_path / "secret"
    if there_before:
        file.touch(mode=0o644)

    write_private(file, "text")

    assert file.read_text() == "text"
    assert mode(file) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_the_state_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HELIOGRAPH_STATE_DIR", str(tmp_path))

    assert state_path() == tmp_path


def test_root_keeps_its_state_where_another_account_can_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELIOGRAPH_STATE_DIR", raising=False)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_path().parent == Path("/var/lib/heliograph")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_path().name == ".heliograph"


def test_an_ordinary_user_runs_the_servers_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)

    account = servers_account()

    assert account.uid == 65534
    assert account.dropping == {}


@pytest.mark.parametrize("name", ["root", "no-such-account"])
def test_root_needs_an_account_that_is_not_root(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("HELIOGRAPH_RUN_AS", name)

    with pytest.raises(NoAccount, match="HELIOGRAPH_RUN_AS"):
        servers_account()
