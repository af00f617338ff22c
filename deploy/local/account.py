"""Who the servers run as: root hands them to an unprivileged account, anybody else runs them himself."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import TypedDict

from runtime.errors import Invalid

RUN_AS = "HELIOGRAPH_RUN_AS"
CANDIDATES = ("postgres", "nobody")


class NoAccount(Invalid):
    """There is no account for the servers."""


class Dropping(TypedDict, total=False):
    """What `subprocess` needs to become somebody else."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    gid: int

    @property
    def dropping(self) -> Dropping:
        """Give the arguments that make a child run as this account; none when it is ours."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def servers_account() -> Account:
    """Choose the account of PostgreSQL and Mosquitto; PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return _account(pwd.getpwuid(os.geteuid()))
    wanted = os.environ.get(RUN_AS)
    for name in (wanted,) if wanted else CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return _account(entry)
    raise NoAccount(
        f"The servers cannot run as root; name an existing account in {RUN_AS}.", tried=wanted or CANDIDATES
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
