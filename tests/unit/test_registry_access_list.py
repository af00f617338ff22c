"""The broker's access list: what each login may hear and say, and which names a gateway may have."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from registry import access_list
from registry.__main__ import app
from registry.access_list import NotAGatewayName


def rules(text: str) -> dict[str, list[str]]:
    """Read a list as Mosquitto does: a rule belongs to the user named last; patterns belong to everybody."""
    read: dict[str, list[str]] = {}
    user = ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "user":
            user = rest
        elif kind:
            read.setdefault(user if kind == "topic" else kind, []).append(rest)
    return read


def test_only_downlinks_write_commands_and_only_gateways_hear_the_fleet() -> None:
    told = rules(access_list.access_list(["gateway-0-49", "gateway-50-99"]))

    assert told.keys() == {"gateway-0-49", "downlink-0-49", "gateway-50-99", "downlink-50-99", "pattern"}
    assert {user for user, may in told.items() if "write scu/v1/+/+/command" in may} == {
        "downlink-0-49",
        "downlink-50-99",
    }
    assert {user for user, may in told.items() if "read scu/v1/+/+/heartbeat" in may} == {
        "gateway-0-49",
        "gateway-50-99",
    }
    assert all("%u" in rule for rule in told["pattern"])


def test_a_gateway_that_is_named_twice_stands_there_once() -> None:
    assert access_list.access_list(["gateway-a", "gateway-a"]) == access_list.access_list(["gateway-a"])


@pytest.mark.parametrize(
    "name", ["north", "", "gateway 1", "gateway\nuser root", "gateway:x", "gatewayé", "GATEWAY"]
)
def test_a_name_that_would_log_in_twice_or_break_the_files_is_refused(name: str) -> None:
    with pytest.raises(NotAGatewayName, match="is `gateway` with"):
        access_list.downlink(name)


@pytest.mark.parametrize(
    ("name", "second"),
    [("gateway-0-99", "downlink-0-99"), ("gateway", "downlink"), ("gateway-a.b_1", "downlink-a.b_1")],
)
def test_the_second_login_is_called_after_the_first(name: str, second: str) -> None:
    assert access_list.downlink(name) == second


def test_a_gateway_is_called_after_its_range() -> None:
    assert access_list.gateway(range(50, 100)) == "gateway-50-99"


def test_the_command_line_prints_the_list_and_refuses_a_bad_name() -> None:
    good = CliRunner().invoke(app, ["broker-access", "gateway-0-49", "gateway-50-99"])
    bad = CliRunner().invoke(app, ["broker-access", "north"])

    assert good.stdout == access_list.access_list(["gateway-0-49", "gateway-50-99"])
    assert bad.exit_code == 2
    assert "north" in bad.stderr
