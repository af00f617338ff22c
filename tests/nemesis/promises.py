"""Every promise that is tried, by its number in docs/reliability.md; a part of one has a name behind it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.nemesis import gateway_kills
from tests.nemesis.rows import Promise

PROMISES: Mapping[str, Promise] = {
    "R1": gateway_kills.at_random,
}
