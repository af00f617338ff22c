"""Children are ended for certain, strangers with the same pid never; those who end unasked come again."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import children as watching
from deploy.local.account import Account
from deploy.local.children import ChildEnded, Children, StepFailed, step
from deploy.local.folder import BadFolder, Folder, open_folder
from deploy.local.processes import Child, Identity, end, identity, started_with, until
from deploy.local.tenancy import RECORD, AlreadyRunning, DamagedRecord, sole

ME = Account("me", os.geteuid(), os.getegid())
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
IMPATIENT = ((signal.SIGTERM, 0.1), (signal.SIGKILL, 10.0))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return open_folder(tmp_path / "state", ME)


def python(folder: Folder, code: str) -> Child:
    return Child([sys.executable, "-c", code], env=dict(os.environ), log=folder.log("child"))


def test_a_child_that_does_not_listen_is_killed(folder: Folder) -> None:
    child = python(folder, DEAF)
    assert until(lambda: "up" in child.last_words(), 10)

    code = child.end(IMPATIENT)

    assert code == -signal.SIGKILL
    assert not child.identity.alive


def test_a_child_that_ended_is_not_alive_although_nobody_fetched_it(folder: Folder) -> None:
    child = python(folder, "")

    assert until(lambda: not child.identity.alive, 10)
    assert child.ended == 0


def test_a_stranger_who_has_the_pid_now_is_left_alone(folder: Folder) -> None:
    child = python(folder, "import time; time.sleep(60)")
    someone_earlier = replace(child.identity, started=child.identity.started - 100)

    end(someone_earlier)

    assert child.ended is None
    child.end()


def test_a_pid_that_nobody_has_has_no_identity() -> None:
    nobody = 2**22 + 1

    assert identity(nobody) is None
    assert not Identity(nobody, time.time()).alive


def test_a_process_is_found_by_the_words_it_was_started_with(folder: Folder) -> None:
    code = f"import time; time.sleep(60)  # {folder.path}"
    child = python(folder, code)

    assert until(lambda: started_with(["-c", code]) == [child.identity], 10)
    assert started_with(["-c"]) == started_with([code]) == []

    child.end()
    assert started_with(["-c", code]) == []


def test_a_child_s_log_is_closed_to_others(folder: Folder) -> None:
    child = python(folder, "print('a secret')")
    child.end()

    assert folder.log("child").stat().st_mode & 0o077 == 0


def test_only_one_launcher_at_a_time_lives_in_a_folder(folder: Folder) -> None:
    with sole(folder) as tenancy:
        tenancy.announce("http://127.0.0.1:8080")

        with pytest.raises(AlreadyRunning, match=r"runs in .* already: http://127"), sole(folder):
            pass

    with sole(folder):
        pass


def test_what_a_killed_launcher_left_is_ended_by_the_next(folder: Folder) -> None:
    left = python(folder, "import time; time.sleep(60)")
    with pytest.raises(KeyboardInterrupt), sole(folder) as tenancy:
        tenancy.note("gateway", left.identity)
        raise KeyboardInterrupt  # stands for the death that leaves the record behind
    assert json.loads((folder.path / RECORD).read_text())["children"]["gateway"]["pid"] == left.pid

    with sole(folder):
        assert left.ended == -signal.SIGTERM


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"{}", b"\xff", b'{"api": null, "children": []}'),
        b'{"api": null, "children": {"gateway": {"pid": 1}}}',
        b'{"api": null, "children": {"gateway": {"pid": -1, "started": 1.0}}}',
        b'{"api": null, "children": {"stranger": {"pid": 1, "started": 1.0}}}',
        b'{"api": null, "children": {"gateways": {"pid": 1, "started": 1.0}}}',
    ],
)
def test_a_record_that_does_not_say_what_is_left_is_told_and_left_alone(folder: Folder, text: bytes) -> None:
    record = folder.path / RECORD
    record.write_bytes(text)

    with pytest.raises(DamagedRecord, match=r"run\.json is damaged.* End what still runs"), sole(folder):
        pass

    assert record.read_bytes() == text


def test_a_disk_without_room_for_the_lock_is_told(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "touch", full)

    with pytest.raises(BadFolder, match=r"/lock: No space left on device\."), sole(folder):
        pass


def test_a_running_launcher_is_told_although_its_record_is_damaged(folder: Folder) -> None:
    with sole(folder):
        (folder.path / RECORD).write_bytes(b"{")

        with pytest.raises(AlreadyRunning, match="its API is not up yet"), sole(folder):
            pass


def test_a_child_that_ends_unasked_is_started_again_later_and_later(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BACKOFF_S", (0.0, 0.0, 3600.0))
    said: list[str] = []
    with sole(folder) as tenancy:
        children = Children(folder, tenancy, said.append)
        with children.serve("gateway", ["this"], {}) as watched:

            def tended() -> bool:
                children.tend()
                return len(said) == 3

            assert until(tended, 30)

            children.tend()
            assert watched.child.ended == 0
            assert ["again in 0 s" in line for line in said] == [True, True, False]


def test_the_end_of_a_child_that_cannot_come_again_is_an_error(folder: Folder) -> None:
    with sole(folder) as tenancy:
        children = Children(folder, tenancy, print)
        with children.serve("fleet", ["this"], {}, again=False) as fleet:
            assert until(lambda: fleet.child.ended is not None, 10)

            with pytest.raises(ChildEnded, match="fleet has ended"):
                children.tend()


def test_a_child_that_was_asked_to_end_is_not_missed(folder: Folder) -> None:
    with sole(folder) as tenancy:
        children = Children(folder, tenancy, print)
        with children.serve("fleet", ["this"], {}, again=False) as fleet:
            children.stop(fleet)

            children.tend()


def test_a_step_that_fails_says_why() -> None:
    with pytest.raises(StepFailed) as failed:
        step("no_such_room", env={})

    assert "no_such_room" in str(failed.value)
