"""What stands in the way of the local PostgreSQL is told in a line, before anything is started."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from deploy.local import postgres
from deploy.local.account import Account, Dropping
from deploy.local.folder import Folder, open_folder
from deploy.local.postgres import PostgresFailed

ME = Account("me", os.geteuid(), os.getegid())


class Somebody(Account):
    """Stands for another account, which only root could become."""

    @property
    def dropping(self) -> Dropping:
        return {"user": self.uid}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return open_folder(tmp_path / "state", ME)


@pytest.mark.parametrize("text", [b"", b"\n", b"postmaster", b"\xff", b"-5\n"])
def test_a_pid_file_that_names_nobody_is_told_and_left_alone(folder: Folder, text: bytes) -> None:
    data = folder.owned("postgres", ME) / "data"
    data.mkdir()
    file = data / "postmaster.pid"
    file.write_bytes(text)

    with (
        pytest.raises(PostgresFailed, match=r"postmaster\.pid is damaged.* then delete the file"),
        postgres.serve(folder, ME),
    ):
        pass

    assert file.read_bytes() == text


@pytest.mark.parametrize(("room", "name"), [(shutil, "copyfile"), (os, "makedirs")])
def test_programs_that_find_no_room_are_told_and_cleared_away(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, room: ModuleType, name: str
) -> None:
    def full(*_given: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as meanwhile,
        pytest.raises(PostgresFailed, match="make room, or name another folder") as failed,
    ):
        meanwhile.setattr(room, name, full)
        with postgres.serve(folder, Somebody("somebody", ME.uid, ME.gid)):
            pass

    assert "No space left on device" in str(failed.value)
    assert not [*folder.path.rglob("half")]
