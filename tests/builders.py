"""What tests are made of: units with right check digits, people, and the deeds they do."""

from __future__ import annotations

from datetime import UTC, datetime

from stdnum import luhn

from protocol.identity import Imei, SerialNumber
from registry.audit import Deed
from registry.newcomers import Newcomer
from registry.permissions import Caller, Level, Scope
from runtime.settings import Keys

MASTER = bytes(range(32))
NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def an_imei(number: int) -> Imei:
    """Give the IMEI of a running number; another number, another IMEI."""
    body = f"{35209900000000 + number:014}"
    return Imei(body + luhn.calc_check_digit(body))


def a_serial(number: int) -> SerialNumber:
    """Give the serial number of a running number."""
    return SerialNumber(f"HB{number:06}-G")


def a_newcomer(number: int, *, entity_id: int = 1) -> Newcomer:
    """Give a unit to be enrolled."""
    return Newcomer(imei=an_imei(number), serial_number=a_serial(number), entity_id=entity_id)


def keys(*generations: int) -> Keys:
    """Give master secrets; generation 1 is the one of the wire contract's test vectors."""
    return Keys.model_validate(
        {
            "master_secrets": {
                generation: bytes(byte ^ (generation - 1) for byte in MASTER).hex()
                for generation in generations or (1,)
            }
        }
    )


def a_caller(level: Level = Level.SYSTEM, scope: Scope = None, email: str = "ada@example.com") -> Caller:
    """Give somebody with these rights."""
    return Caller(account_id=None, email=email, level=level, scope=scope, origin="test:127.0.0.1")


def a_deed(*, by: Caller | None = None, now: datetime = NOON, reason: str = "because") -> Deed:
    """Give a deed: by somebody who may all, at noon, for a reason."""
    return Deed(by=by or a_caller(), now=now, reason=reason)
