"""What the broker knows of the units: the hash of each password, and the file of them all.

The file is replaced as a whole: a broker that reads it meets the old one or the new one. It is
written owned by the broker's account and readable by nobody else, for Mosquitto reads it after it
has given up its privileges and then refuses everyone when it cannot.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from runtime.errors import Invalid
from storage.sql import Connection, load

SQL = load(__file__)

ROUNDS = 101  # Mosquitto's own; the password has 160 random bits, so more would add nothing
SALT_BYTES = 12


class NoSuchOwner(Invalid):
    """This machine has no such account."""


class FileNotWritten(Invalid):
    """The broker's password file could not be written."""


def broker_hash(password: str, salt: bytes | None = None) -> str:
    """Give a password as Mosquitto's password file holds it."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
    return f"$7${ROUNDS}${b64encode(salt).decode()}${b64encode(digest).decode()}"


async def write(conn: Connection, path: Path, *, owner: str | None = None, first: Path | None = None) -> int:
    """Write the password file: the lines of `first`, then every unit that has not left; count the units.

    Raises `NoSuchOwner`, `FileNotWritten`.
    """
    try:
        with _replacing(path, owner) as file:
            if first is not None:
                _copy(first, file)
            async with conn.cursor() as cursor:
                async with cursor.copy(SQL.lines) as copy:
                    async for block in copy:
                        file.write(block)
                return cursor.rowcount
    except OSError as error:
        at_fault = first if first is not None and error.filename == str(first) else path
        raise FileNotWritten(
            f"The broker's password file is as it was; {at_fault}: {error.strerror}.", file=str(at_fault)
        ) from error


@contextmanager
def _replacing(path: Path, owner: str | None) -> Iterator[BinaryIO]:
    """Lend a new file of mode 0600 that takes the place of `path`, on disk for good, when all went well.

    Of a link, what it points to is replaced. What is no file is refused: a device would be gone for all.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise FileNotWritten(f"{path} is no file; name one for the broker's passwords.", file=str(path))
    ids = _ids(owner)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            os.fchown(descriptor, *ids)
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)  # noqa: PTH105 - the name is text here
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - the name is text here
        raise
    _sync(path.parent)


def _ids(owner: str | None) -> tuple[int, int]:
    if owner is None:
        return -1, -1
    try:
        account = pwd.getpwnam(owner)
    except KeyError:
        raise NoSuchOwner(f"This machine has no account {owner!r}.", owner=owner) from None
    return account.pw_uid, account.pw_gid


def _copy(source: Path, target: BinaryIO) -> None:
    """Copy whole lines: a last one without its end would run into the next login."""
    with source.open("rb") as file:
        shutil.copyfileobj(file, target)
        if file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
            target.write(b"\n")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
