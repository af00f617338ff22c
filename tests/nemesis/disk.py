"""A small disk of our own (tmpfs) that a folder is moved to, to be filled to the last byte."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.account import Account
from tests.nemesis.rows import CannotTry

BLOCK = bytes(1 << 16)


class Disk:
    """A mounted tmpfs; made by `mounted`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def take_over(self, folder: Path) -> None:
        """Move a folder here and leave a link in its place; whoever uses it must be stopped."""
        here = self.path / folder.name
        shutil.copytree(folder, here, symlinks=True)
        for path in (folder, *folder.rglob("*")):
            owner = path.lstat()
            os.chown(here / path.relative_to(folder), owner.st_uid, owner.st_gid, follow_symlinks=False)
        shutil.rmtree(folder)
        folder.symlink_to(here)

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(BLOCK):
                    pass
            except OSError as full:
                if full.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink()


@contextmanager
def mounted(path: Path, size_mb: int, account: Account) -> Iterator[Disk]:
    """Mount one until the block ends; `CannotTry` where that is not allowed."""
    path.mkdir()
    options = f"size={size_mb}m,mode=700,uid={account.uid},gid={account.gid}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise CannotTry(f"no tmpfs here: {done.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", path], check=True)
