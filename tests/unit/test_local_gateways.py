"""The local stack's gateways share the partitions: none is served twice, none by nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.local.account import Account
from deploy.local.folder import open_folder
from deploy.local.gateways import MOST, gateways, ranges

ME = Account("me", os.geteuid(), os.getegid())


@pytest.mark.parametrize("number", range(1, MOST + 1))
def test_the_ranges_cover_every_partition_once(number: int) -> None:
    shared = ranges(number)

    assert [partition for one in shared for partition in one] == list(range(100))
    assert max(map(len, shared)) - min(map(len, shared)) <= 1


def test_each_gateway_has_a_name_and_a_port_of_its_own(tmp_path: Path) -> None:
    planned = gateways(open_folder(tmp_path / "state", ME), 2)

    assert [one.name for one in planned] == ["gateway-0-49", "gateway-50-99"]
    assert [one.words for one in planned] == [
        ("gateway", "--partitions", "0-49"),
        ("gateway", "--partitions", "50-99"),
    ]
    assert len({one.health_port for one in planned}) == 2
