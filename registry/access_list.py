"""Who may hear and say what at the broker: Mosquitto's access list, for units and named gateways.

A pattern binds a unit to its own IMEI, so units come and go without a change. A gateway has two
logins of its own, for a login is also a session at the broker. Each gateway may hear every
partition: what it serves is what it subscribes to, so a range moves without the broker's help.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from runtime.errors import Invalid

GATEWAY, DOWNLINK = "gateway", "downlink"
_NAME = re.compile(rf"{GATEWAY}[A-Za-z0-9._-]*")

UNITS = """\
pattern write scu/v1/+/%u/heartbeat
pattern write scu/v1/+/%u/ack
pattern write scu/v1/+/%u/presence
pattern read scu/v1/+/%u/command
"""

OWN = """\
user {gateway}
topic read scu/v1/+/+/heartbeat
topic read scu/v1/+/+/ack
topic read scu/v1/+/+/presence

user {downlink}
topic write scu/v1/+/+/command
topic read $SYS/#

"""


class NotAGatewayName(Invalid):
    """A gateway cannot be called so."""


def gateway(partitions: range) -> str:
    """Name the gateway of a range, where nobody calls it otherwise."""
    return f"{GATEWAY}-{partitions[0]}-{partitions[-1]}"


def downlink(name: str) -> str:
    """Name the login with which a gateway publishes commands; `NotAGatewayName` when it would be the same."""
    if not _NAME.fullmatch(name):
        raise NotAGatewayName(
            f"A gateway's name is `{GATEWAY}` with letters, digits, `.`, `_` or `-` behind it, not {name!r}: "
            f"with `{DOWNLINK}` in place of `{GATEWAY}` it is the name of its second login.",
            given=name,
        )
    return DOWNLINK + name.removeprefix(GATEWAY)


def access_list(gateways: Iterable[str]) -> str:
    """Write the list for these gateways; raises `NotAGatewayName`."""
    names = dict.fromkeys(gateways)
    return "".join(OWN.format(gateway=name, downlink=downlink(name)) for name in names) + UNITS
