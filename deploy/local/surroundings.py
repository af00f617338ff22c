"""What the shell's environment leads to elsewhere: the system on this machine takes none of it over.

Deadlines, limits and ports are taken over: children inherit what is left. Where to listen is not, for the
launcher looks for everything on 127.0.0.1.
"""

from __future__ import annotations

import os

from runtime.settings import SECRETS_DIR

ELSEWHERE = frozenset(
    {
        SECRETS_DIR,
        "HELIOGRAPH_DATABASE_URL",
        "HELIOGRAPH_DATABASE_OWNER_URL",
        "HELIOGRAPH_BROKER_URL",
        "HELIOGRAPH_BROKER_CA_FILE",
        "HELIOGRAPH_BROKER_UPLINK_PASSWORD",
        "HELIOGRAPH_BROKER_DOWNLINK_PASSWORD",
        "HELIOGRAPH_MASTER_SECRETS",
        "HELIOGRAPH_HTTP_HOST",
        "HELIOGRAPH_API_URL",
        "HELIOGRAPH_API_TOKEN",
        "HELIOGRAPH_APPROVER_TOKEN",
    }
)
"""Addresses and secrets of an installation; ours has its own."""


def leave() -> None:
    """Take them out of this process's environment, in whichever case they are written: settings read each."""
    for name in [name for name in os.environ if name.upper() in ELSEWHERE]:
        del os.environ[name]
