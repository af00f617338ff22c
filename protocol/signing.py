"""What unit and backend both derive from a master secret: the unit's key, its password, a command's mac."""

from __future__ import annotations

import hmac
from base64 import b32encode
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.identity import Imei
from protocol.messages import Command

_PASSWORD = 20  # bytes: 32 characters of base32, without padding


def unit_key(master: bytes, imei: Imei) -> bytes:
    """Derive the 32 bytes with which commands to this unit are signed."""
    return _derive(master, f"heliograph/unit/v1/{imei}")


def password(master: bytes, imei: Imei) -> str:
    """Derive what the unit shows to the broker."""
    return b32encode(_derive(master, f"heliograph/mqtt/v1/{imei}")[:_PASSWORD]).decode().lower()


def signed_text(command: Command, imei: Imei) -> bytes:
    """Write what the mac of a command stands for."""
    parts = [
        "v1",
        imei,
        str(command.id),
        command.kind,
        command.mode or "",
        str(command.after_s or 0),
        str(command.epoch),
        str(command.expires_at),
    ]
    if command.args is not None:
        parts.append(sha256(command.args.encode()).hexdigest())
    return "|".join(parts).encode("ascii")


def sign(command: Command, imei: Imei, key: bytes) -> Command:
    """Give the command its mac for this unit."""
    return command.model_copy(update={"mac": _mac(command, imei, key)})


def verify(command: Command, imei: Imei, key: bytes) -> bool:
    """Tell whether the command was signed for this unit, in constant time."""
    return hmac.compare_digest((command.mac or "").encode(), _mac(command, imei, key).encode())


def _mac(command: Command, imei: Imei, key: bytes) -> str:
    return hmac.digest(key, signed_text(command, imei), "sha256").hex()


def _derive(master: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=b"", info=purpose.encode("ascii")).derive(master)
