"""A command obeys only the key of the unit it is for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import decode_command, encode
from protocol.identity import Imei
from protocol.messages import Command, CommandKind, Mode
from protocol.reasons import Unreadable
from protocol.signing import password, sign, signed_text, unit_key, verify

MASTER = bytes(range(32))
IMEI = Imei("352099001761481")
OTHER = Imei("490154203237518")
KEY = unit_key(MASTER, IMEI)
ID = "0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6"
BOOKED: dict[str, Any] = {"attempt": 1, "issued_at": 1795310000, "expires_at": 4102444800}
OFFLINE = Command(
    id=UUID(ID + "a"),
    kind=CommandKind.SET_MODE,
    mode=Mode.OFFLINE_DISABLED,
    after_s=0,
    epoch=13,
    **BOOKED,
)
PING = Command(id=UUID(ID + "b"), kind=CommandKind.PING, **BOOKED)
RESEND = Command(id=UUID(ID + "c"), kind="resend", args='{"last":200}', **BOOKED)
VECTORS = [
    (
        OFFLINE,
        f"v1|352099001761481|{ID}a|set_mode|offline_disabled|0|13|4102444800",
        "df27d92fff21ad11639653965ee94a89a86dcccc67e32cb291f6863049ec6efb",
    ),
    (
        PING,
        f"v1|352099001761481|{ID}b|ping||0|0|4102444800",
        "8f284214e1cae8bf2d45086dfd303d7f3355377bef9955166a5dfad73fbfb503",
    ),
    (
        RESEND,
        f"v1|352099001761481|{ID}c|resend||0|0|4102444800|c34baf6f721901c9f94edd411fd66a2bd6f573c32b584cb4445cdf51ce67261b",
        "bca0d38eaba6151e449562f4b3aafdfef00dbcf43761610a3b66c136da42637a",
    ),
]


def test_key_and_password_are_those_of_the_contract() -> None:
    assert KEY.hex() == "4268c35fc0c9219201f501ba4b0f08009a7e7a62b3b604af6f4c11b14bd4ed0b"
    assert password(MASTER, IMEI) == "kq3vhjp4uc6r5aiionbsqeaotw7yzhzr"


@pytest.mark.parametrize(("command", "text", "mac"), VECTORS, ids=["set_mode", "ping", "resend"])
def test_text_and_mac_are_those_of_the_contract(command: Command, text: str, mac: str) -> None:
    signed = sign(command, IMEI, KEY)

    assert signed_text(command, IMEI) == text.encode()
    assert signed.mac == mac
    assert verify(decode_command(encode(signed)), IMEI, KEY)


def test_another_unit_does_not_obey() -> None:
    signed = sign(PING, IMEI, KEY)

    assert not verify(signed, OTHER, unit_key(MASTER, OTHER))
    assert not verify(signed, OTHER, KEY)
    assert not verify(signed, IMEI, unit_key(bytes(32), IMEI))


@pytest.mark.parametrize("mac", [None, "", "7", "ü" * 64, sign(PING, IMEI, KEY).mac.upper(), " " * 64])  # type: ignore[union-attr]  # signed
def test_a_missing_or_malformed_mac_is_wrong(mac: str | None) -> None:
    assert not verify(PING.model_copy(update={"mac": mac}), IMEI, KEY)


def test_the_attempt_is_not_signed() -> None:
    again = sign(PING, IMEI, KEY).model_copy(update={"attempt": 2})

    assert verify(again, IMEI, KEY)


@pytest.mark.parametrize("command", [OFFLINE, PING, RESEND], ids=["set_mode", "ping", "resend"])
def test_no_flipped_bit_changes_what_a_unit_obeys(command: Command) -> None:
    """Every bit of a sent command: unreadable, refused, or nothing of what is signed has changed."""
    body = encode(sign(command, IMEI, KEY))
    meant = signed_text(command, IMEI)

    for bit in range(8 * len(body)):
        forged = bytearray(body)
        forged[bit // 8] ^= 1 << bit % 8
        try:
            read = decode_command(bytes(forged))
        except Unreadable:
            continue
        assert not verify(read, IMEI, KEY) or signed_text(read, IMEI) == meant


def test_no_flipped_bit_of_mac_or_key_is_accepted() -> None:
    signed = sign(OFFLINE, IMEI, KEY)
    mac = bytes.fromhex(signed.mac or "")

    for bit in range(256):
        flip = (1 << bit).to_bytes(32)
        wrong = bytes(a ^ b for a, b in zip(mac, flip, strict=True)).hex()
        key = bytes(a ^ b for a, b in zip(KEY, flip, strict=True))
        assert not verify(signed.model_copy(update={"mac": wrong}), IMEI, KEY)
        assert not verify(signed, IMEI, key)


@given(
    st.sampled_from(Mode),
    st.none() | st.integers(0, 2**32 - 1),
    st.integers(1, 2**32 - 1),
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_any_command_survives_the_wire_with_its_mac(
    mode: Mode, after_s: int | None, epoch: int, args: str | None
) -> None:
    command = Command(
        id=UUID(ID + "d"),
        kind=CommandKind.SET_MODE,
        mode=mode,
        after_s=after_s,
        epoch=epoch,
        args=args,
        **BOOKED,
    )

    arrived = decode_command(encode(sign(command, IMEI, KEY)))

    assert arrived == sign(command, IMEI, KEY)
    assert verify(arrived, IMEI, KEY)


def test_a_unit_can_read_what_it_does_not_know_in_order_to_refuse_it() -> None:
    command = decode_command(
        b'{"v":1,"id":"%sa","kind":"dance","mode":"samba","attempt":1,"issued_at":1,"expires_at":2,"beat":[1]}'
        % ID.encode()
    )

    assert (command.kind, command.mode, command.after_s, command.epoch) == ("dance", "samba", None, 0)
    assert command.extra == {"beat": [1]}
    assert not verify(command, IMEI, KEY)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ('"id":"0198f3a2-7c1e-4b4d-9a55-3f0c2d1e4b6a"', "/id"),
        ('"id":"0198F3A2-7C1E-7B4D-9A55-3F0C2D1E4B6A"', "/id"),
        ('"kind":"a|b"', "/kind"),
        ('"mode":"a|b"', "/mode"),
        ('"after_s":-1', "/after_s"),
        ('"attempt":0', "/attempt"),
        ('"expires_at":-1', "/expires_at"),
        ('"epoch":0', ""),
        ('"mode":null', ""),
        ('"kind":"ping"', ""),
        ('"args":"\\u0000"', "/args"),
        ('"mac":7', "/mac"),
    ],
)
def test_a_command_that_cannot_be_meant_is_unreadable(change: str, path: str) -> None:
    fields = {
        "v": '"v":1',
        "id": f'"id":"{ID}a"',
        "kind": '"kind":"set_mode"',
        "mode": '"mode":"enabled"',
        "epoch": '"epoch":1',
        "attempt": '"attempt":1',
        "issued_at": '"issued_at":1',
        "expires_at": '"expires_at":2',
    }
    good = "{" + ",".join(fields.values()) + "}"
    bad = "{" + ",".join((fields | {change.split('"')[1]: change}).values()) + "}"

    assert decode_command(good.encode()).mode is Mode.ENABLED
    with pytest.raises(Unreadable) as caught:
        decode_command(bad.encode())
    assert (caught.value.path, caught.value.imei) == (path, None)
