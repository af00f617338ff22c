"""What holds for every message: nothing but a verdict comes out, and nothing is lost beside a fault."""

from __future__ import annotations

import json
import math
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol.codec import Decoded, decode, encode
from protocol.identity import Imei
from protocol.messages import Ack, AckResult, BacklogEntry, Heartbeat, Mode, Presence, PresenceState
from protocol.reasons import Fault, Reason, Unreadable
from protocol.topics import Channel, topic
from runtime.errors import Invalid

IMEI = Imei("352099001761481")
TOPICS = {
    Heartbeat: topic(IMEI, Channel.HEARTBEAT),
    Ack: topic(IMEI, Channel.ACK),
    Presence: topic(IMEI, Channel.PRESENCE),
}
NUMBERS = [
    "battery_v",
    "battery_a",
    "panel_v",
    "panel_a",
    "load_a",
    "energy_wh",
    "soc_pct",
    "temp_c",
    "rssi_dbm",
]

uint32 = st.integers(0, 2**32 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
unknown = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
readings = st.builds(
    lambda numbers, switches, others: others | numbers | switches,
    st.dictionaries(st.sampled_from(NUMBERS), finite),
    st.dictionaries(st.sampled_from(["tamper", "lvd"]), st.booleans()),
    st.dictionaries(
        st.from_regex(r"[a-z0-9_]{1,32}", fullmatch=True), finite | st.booleans(), max_size=4
    ).map(
        lambda found: {
            name: value for name, value in found.items() if name not in {*NUMBERS, "tamper", "lvd"}
        }
    ),
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def extras(model: type[Heartbeat | BacklogEntry | Ack | Presence]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(texts.filter(lambda name: name not in model.model_fields), unknown, max_size=3)


report: dict[str, st.SearchStrategy[Any]] = {
    "seq": st.integers(1, 2**32 - 1),
    "ts": maybe(int64),
    "mode": st.sampled_from(Mode),
    "epoch": uint32,
    "output": maybe(st.booleans()),
    "readings": readings,
}
entries = st.builds(
    lambda fields, more: BacklogEntry(**more, **fields),
    st.fixed_dictionaries({**report, "boot": maybe(uint32)}),
    extras(BacklogEntry),
)
heartbeats = st.builds(
    lambda fields, more: Heartbeat(**more, **fields),
    st.fixed_dictionaries(
        {
            **report,
            "life": uint32,
            "boot": uint32,
            "next_s": maybe(uint32),
            "fw": maybe(
                st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=32)
            ),
            "backlog": st.lists(entries, max_size=3),
        }
    ),
    extras(Heartbeat),
)
acks = st.builds(
    lambda fields, more: Ack(**more, **fields),
    st.fixed_dictionaries(
        {
            "command_id": st.uuids(),
            "attempt": maybe(st.integers(1, 2**32 - 1)),
            "epoch": uint32,
            "result": st.sampled_from(AckResult),
            "reason": texts,
            "mode": st.sampled_from(Mode),
            "life": uint32,
            "boot": maybe(uint32),
            "ts": maybe(int64),
        }
    ),
    extras(Ack),
)
presences = st.builds(
    lambda fields, more: Presence(**more, **fields),
    st.fixed_dictionaries(
        {"state": st.sampled_from(PresenceState), "life": uint32, "boot": uint32, "conn": maybe(uint32)}
    ),
    extras(Presence),
)


@given(heartbeats | acks | presences)
def test_what_is_encoded_is_decoded_to_the_same(message: Heartbeat | Ack | Presence) -> None:
    decoded = decode(TOPICS[type(message)], encode(message))

    assert decoded.message == message
    assert decoded.faults == ()
    assert decoded.message.extra == message.extra


def test_absent_fields_are_not_written() -> None:
    message = Heartbeat(boot=3, seq=7, mode=Mode.ENABLED, epoch=0, note=None)

    assert json.loads(encode(message)) == {
        "v": 1,
        "boot": 3,
        "seq": 7,
        "mode": "enabled",
        "epoch": 0,
        "note": None,
    }
    assert b" " not in encode(message)


def test_messages_cannot_be_made_wrong() -> None:
    fields: dict[str, Any] = {"boot": 3, "seq": 7, "mode": Mode.ENABLED, "epoch": 0}

    for wrong in (
        {"seq": True},
        {"boot": 2**32},
        {"readings": {"x": math.nan}},
        {"note": math.inf},
        {"note": "\0"},
    ):
        with pytest.raises(ValidationError):
            Heartbeat(**(fields | wrong))


def test_a_message_does_not_change() -> None:
    presence = Presence(state=PresenceState.ONLINE, boot=3)

    with pytest.raises(ValidationError):
        presence.boot = 4  # type: ignore[misc]  # the point of the test


def test_a_uuid_is_written_in_its_canonical_form() -> None:
    text = "0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a"
    ack = Ack(command_id=UUID(text), epoch=1, result=AckResult.APPLIED, mode=Mode.ENABLED)

    assert json.loads(encode(ack))["command_id"] == text


def test_every_reason_has_its_line() -> None:
    assert all(reason.meaning.endswith(".") and "\n" not in reason.meaning for reason in Reason)
    assert len({reason.meaning for reason in Reason}) == len(Reason)


def test_unreadable_is_invalid_and_tells_where() -> None:
    error = Unreadable("It is wrong.", reason=Reason.INVALID_FIELD, path="/seq")

    assert isinstance(error, Invalid)
    assert str(error) == "It is wrong. (reason='invalid_field', path='/seq')"


def verdict(address: str, body: bytes) -> Decoded | Unreadable:
    """Take the only two things that may come of a message."""
    try:
        return decode(address, body)
    except Unreadable as error:
        return error


@settings(max_examples=300)
@given(st.sampled_from(sorted(TOPICS.values())), st.binary() | st.binary().map(lambda tail: b"{" + tail))
@example(TOPICS[Heartbeat], b'{"readings":{"":')
@example(TOPICS[Heartbeat], b'{"a":"' + b"\\" * 9999)
def test_any_bytes_get_a_verdict(address: str, body: bytes) -> None:
    assert isinstance(verdict(address, body), Decoded | Unreadable)


anything = st.recursive(
    st.sampled_from(
        [b"null", b"true", b"1", b"-1", b"1.0", b'"7"', b'"\\u0000"', b"NaN", b"1e999", b"9" * 4301, b'":"']
    )
    | unknown.map(lambda value: json.dumps(value).encode()),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")
        | st.lists(
            st.tuples(
                st.sampled_from([b'"x"', b'"seq"', b'"readings"', b'"backlog"', b'"\\u0000"', b'"A"']), inner
            ),
            max_size=4,
        ).map(lambda pairs: b"{" + b",".join(key + b":" + value for key, value in pairs) + b"}")
    ),
    max_leaves=6,
)


@settings(max_examples=50)
@given(
    heartbeats,
    st.lists(st.tuples(st.sampled_from([*Heartbeat.model_fields, "x", "\0"]), anything), max_size=3),
    st.integers(0, 2),
)
def test_any_mutation_of_a_heartbeat_gets_a_verdict(
    message: Heartbeat, changes: list[tuple[str, bytes]], repeats: int
) -> None:
    fields = {name: json.dumps(value).encode() for name, value in json.loads(encode(message)).items()}
    written = [*(fields | dict(changes)).items(), *changes[:repeats]]
    body = b",".join(json.dumps(name).encode() + b":" + value for name, value in written)

    result = verdict(TOPICS[Heartbeat], b"{" + body + b"}")

    assert isinstance(result, Decoded | Unreadable)
    if isinstance(result, Decoded):
        json.dumps([fault.piece for fault in result.faults], allow_nan=False)
        assert verdict(TOPICS[Heartbeat], encode(result.message)) == Decoded(  # type: ignore[arg-type]  # a heartbeat
            result.address, result.message, ()
        )


@settings(max_examples=50)
@given(heartbeats, st.data())
def test_any_flipped_byte_gets_a_verdict(message: Heartbeat, data: st.DataObject) -> None:
    body = bytearray(encode(message))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    assert isinstance(verdict(TOPICS[Heartbeat], bytes(body)), Decoded | Unreadable)


bad_readings = st.dictionaries(
    st.sampled_from(["Bad", "tamper", "zz", "battery_v", "a/b~c", ""]),
    st.sampled_from(["text", [1], {"a": 1}, math.inf, -math.inf, 10**400, "\0"]),
)
bad_entries: st.SearchStrategy[Any] = st.sampled_from(
    [None, 7, [], {}, {"seq": 0}, {"seq": 1, "mode": "on", "epoch": 0, "boot": True}]
)


@settings(max_examples=50)
@given(heartbeats, bad_readings, st.lists(st.tuples(bad_entries | st.none(), bad_readings), max_size=3))
def test_what_is_lost_is_named_and_everything_else_stays(
    message: Heartbeat, wrong: dict[str, Any], more: list[tuple[Any, dict[str, Any]]]
) -> None:
    good = json.loads(encode(message))
    sent = json.loads(encode(message))
    kept = {name: value for name, value in good.get("readings", {}).items() if name not in wrong}
    sent["readings"] = good.get("readings", {}) | wrong
    expected = [("/readings/" + escaped(name), wrong[name]) for name in wrong]
    sent["backlog"] = []
    for entry, faults in more:
        expected += [
            (f"/backlog/{len(sent['backlog']) + 1}/readings/{escaped(name)}", faults[name]) for name in faults
        ]
        expected.append((f"/backlog/{len(sent['backlog'])}", entry))
        sent["backlog"] += [entry, {"seq": 9, "mode": "enabled", "epoch": 0, "readings": faults}]
    own = len(sent["backlog"])
    sent["backlog"] += good.get("backlog", [])

    decoded = decode(TOPICS[Heartbeat], json.dumps(sent).encode())

    heard = decoded.message
    assert isinstance(heard, Heartbeat)
    assert heard.readings == kept
    assert heard.backlog[own // 2 :] == message.backlog
    assert [(entry.seq, entry.readings) for entry in heard.backlog[: own // 2]] == [(9, {})] * (own // 2)
    assert heard.model_dump(exclude={"readings", "backlog"}) == message.model_dump(
        exclude={"readings", "backlog"}
    )
    assert sorted((fault.path, repr(fault.piece)) for fault in decoded.faults) == sorted(
        (path, repr(shown(piece))) for path, piece in expected
    )


def escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def shown(piece: Any) -> Any:
    return (
        {"\0": "\\u0000", math.inf: "inf", -math.inf: "-inf"}.get(piece, piece)
        if isinstance(piece, str | float)
        else piece
    )


def test_many_faults_at_once_are_all_named() -> None:
    wrong = {f"X{number}": number for number in range(4000)}
    body = json.dumps({"v": 1, "boot": 1, "seq": 1, "mode": "enabled", "epoch": 0, "readings": wrong})

    decoded = decode(TOPICS[Heartbeat], body.encode())

    assert decoded.faults == tuple(
        Fault(
            reason=Reason.INVALID_READING,
            path=f"/readings/{name}",
            detail="A reading's name is 1 to 32 of a-z, 0-9 and _",
            piece=value,
        )
        for name, value in wrong.items()
    )


COLONS = "colons"
"""A field whose value has colons: they alone make a heartbeat take the long way."""

VALUES = st.sampled_from(
    [
        *(
            "1",
            "0",
            "-1",
            "1.0",
            "1e3",
            "1e999",
            "NaN",
            "Infinity",
            "true",
            "null",
            '"enabled"',
            '"a:b"',
            '"\\u0000"',
        ),
        *("4294967296", "9" * 400, "[]", "{}", '{"a":1,"a":2}', '{"battery_v":12.8}', '{"battery_v":NaN}'),
        *(
            '{"battery_v":1,"battery_v":2}',
            '{"odd":null,"lvd":true}',
            '[{"seq":1,"mode":"enabled","epoch":0}]',
        ),
    ]
)
KEYS = st.sampled_from(
    [
        "v",
        "life",
        "boot",
        "seq",
        "ts",
        "mode",
        "epoch",
        "output",
        "next_s",
        "fw",
        "readings",
        "backlog",
        "new",
        "",
    ]
)


@given(
    more=st.lists(st.tuples(KEYS, VALUES), max_size=6),
    before=st.sampled_from(["", " ", "\ufeff", "\n"]),
    behind=st.booleans(),
)
def test_the_one_pass_for_plain_heartbeats_reads_as_the_long_way_does(
    more: list[tuple[str, str]], before: str, *, behind: bool
) -> None:
    given = [("v", "1"), ("boot", "1"), ("seq", "7"), ("mode", '"enabled"'), ("epoch", "0")]
    pairs = more + given if behind else given + more
    body = before + "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"

    read, told = outcome(body)
    long_read, long_told = outcome(body[:-1] + f',"{COLONS}":":::"' + "}")

    assert long_told == told
    assert {name: value for name, value in long_read.items() if name != COLONS} == read


def outcome(body: str) -> tuple[dict[str, Any], Any]:
    """Give what a heartbeat says, and what of it was lost, or why nothing can be read."""
    try:
        decoded = decode(TOPICS[Heartbeat], body.encode())
    except Unreadable as error:
        return {}, error.reason
    assert isinstance(decoded.message, Heartbeat)
    return decoded.message.model_dump(), decoded.faults
