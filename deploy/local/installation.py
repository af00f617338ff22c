"""Mosquitto comes from the system's packages: root on Debian gets it, others are told what to type."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.broker import NoBroker, find
from deploy.local.processes import run

POLICY = Path("/usr/sbin/policy-rc.d")
DENY = "#!/bin/sh\n# Written by Heliograph while it installs a broker, and removed then.\nexit 101\n"
SYSTEMD = Path("/run/systemd/system")


def ensure_broker(say: Callable[[str], None]) -> None:
    """Make sure that Mosquitto is there; `NoBroker` says what to type when it cannot be installed."""
    try:
        find()
    except NoBroker:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
        say("installing mosquitto from the system's packages; its own service stays off")
        with _no_services():
            _apt("update")
            _apt("install", "-y", "--no-install-recommends", "mosquitto")
        if SYSTEMD.exists():
            run(["systemctl", "disable", "--now", "mosquitto"], env=dict(os.environ))
        find()


def _apt(*words: str) -> None:
    done = run(["apt-get", "-q", *words], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    if done.returncode:
        raise NoBroker(
            "Mosquitto could not be installed; type `apt-get update && apt-get install mosquitto`.",
            said=done.stderr.strip().rsplit("\n", 1)[-1],
        )


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep Debian from starting what it installs, unless somebody has a policy of his own already."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text(DENY, encoding="ascii")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
