"""What an address in a setting must be; what is wrong with one is told without telling the address."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
PORTS = range(1, 65_536)

BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
PLACE = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]*)(?::(?P<port>[0-9]{0,9}))?")
"""One host of a database's address, an IPv6 address in brackets, and its port."""


def broker(text: str) -> str:
    """Take a broker's address: encrypted, but for loopback."""
    parts = _split(text)
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
        raise ValueError("write it as mqtt://host:port, or mqtts://host:port for TLS")
    if parts.username or parts.password:
        raise ValueError("logins have settings of their own and do not belong into the address")
    if parts.scheme == "mqtt" and parts.hostname not in LOOPBACK:
        raise ValueError("plain TCP is for loopback only; use mqtts://")
    return text


def api(text: str) -> str:
    """Take an API's address: encrypted, but for loopback."""
    parts = _split(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write it as https://host:port")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("plain HTTP is for loopback only, for a token goes with it; use https://")
    return text


def database(secret: SecretStr) -> SecretStr:
    """Refuse what the driver would complain of, or take for the host, with the password in its words."""
    scheme, there, rest = secret.get_secret_value().partition("://")
    if not there or scheme not in {"postgresql", "postgres"}:
        raise ValueError("write it as postgresql://role:password@host:port/database")
    authority, _, path = rest.partition("/")
    login, _, places = authority.rpartition("@")
    if BROKEN_ESCAPE.search(rest) or "@" in login or "@" in path.partition("?")[0]:
        raise ValueError("percent-encode role and password: % is %25, @ is %40, / is %2F, : is %3A")
    for place in places.partition("?")[0].split(","):
        found = PLACE.fullmatch(place)
        if found is None or (found["port"] and int(found["port"]) not in PORTS):
            raise ValueError(
                f"a port is a number from {PORTS[0]} to {PORTS[-1]}; "
                "if that is the password, percent-encode it: / is %2F, : is %3A"
            )
    return secret


def _split(text: str) -> SplitResult:
    """Take an address apart; nothing of it is told, for somebody may have written a password into it."""
    try:
        parts = urlsplit(text)
        usable = parts.port is None or parts.port in PORTS
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"host and port are written as host:port, the port from {PORTS[0]} to {PORTS[-1]}")
    return parts
