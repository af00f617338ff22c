"""The table of what the backend accepts from a unit, what it refuses, and what survives a fault."""

from __future__ import annotations

import gzip
import json
from typing import Any, NamedTuple

import pytest

from protocol.codec import MAX_BODY, Cleared, Decoded, decode
from protocol.messages import Ack, AckResult, Heartbeat, Mode, Presence, PresenceState
from protocol.reasons import Reason, Unreadable

IMEI = "352099001761481"
HEARTBEAT = f"scu/v1/81/{IMEI}/heartbeat"
ACK = f"scu/v1/81/{IMEI}/ack"
PRESENCE = f"scu/v1/81/{IMEI}/presence"
COMMAND = f"scu/v1/81/{IMEI}/command"
EXAMPLE = (
    b'{"v":1,"life":2891336453,"boot":3,"seq":1042,"ts":1795310000,"mode":"enabled","epoch":12,'
    b'"output":true,"next_s":900,"fw":"2.4.1","readings":{"battery_v":12.81,"battery_a":1.23,"panel_v":18.2,'
    b'"panel_a":2.1,"load_a":0.4,"soc_pct":88,"temp_c":31.5,"rssi_dbm":-71}}'
)
PLAIN = b'"v":1,"boot":3,"seq":7,"mode":"enabled","epoch":0'
ENTRY = b'"seq":6,"mode":"disabled","epoch":0'
ACKED = b'"v":1,"command_id":"0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a","epoch":13,"mode":"disabled"'
HERE = b'"v":1,"boot":3,"state":"online"'


def beat(more: bytes = b"") -> bytes:
    """Give a plain heartbeat with more in it."""
    return b"{" + PLAIN + (b"," + more if more else b"") + b"}"


def but(field: str, value: bytes) -> bytes:
    """Give a plain heartbeat with one field as written here."""
    fields = {"v": b"1", "boot": b"3", "seq": b"7", "mode": b'"enabled"', "epoch": b"0", field: value}
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), text) for name, text in fields.items()) + b"}"


def without(field: str) -> bytes:
    """Give a plain heartbeat that lacks one field."""
    document = json.loads(beat())
    del document[field]
    return json.dumps(document).encode()


def backlog(*entries: bytes) -> bytes:
    """Give a plain heartbeat with these entries behind it."""
    return beat(b'"backlog":[' + b",".join(entries) + b"]")


def sized(length: int) -> bytes:
    """Give a good heartbeat of exactly this many bytes."""
    frame = beat(b'"note":""')
    return frame.replace(b'"note":""', b'"note":"' + b"x" * (length - len(frame)) + b'"')


class Refused(NamedTuple):
    """A message that becomes a dead letter as a whole."""

    name: str
    topic: str
    body: bytes
    reason: Reason
    path: str = ""
    imei: str | None = IMEI


class Kept(NamedTuple):
    """A message that is read, with what it says and the faults (reason, path, piece) that it leaves."""

    name: str
    body: bytes
    says: dict[str, Any]
    faults: tuple[tuple[Reason, str, Any], ...] = ()


TOPICS = [
    Refused("too few levels", "scu/v1/81", EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("empty topic", "", EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("an empty level", f"scu/v1//{IMEI}/heartbeat", EXAMPLE, Reason.WRONG_PARTITION),
    Refused("a leading slash", "/" + HEARTBEAT, EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("a trailing slash", HEARTBEAT + "/", EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("a hundred levels", "/".join("scu" * 100), EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("the broker's own", "$SYS/broker/load/messages/received", EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("another root", HEARTBEAT.replace("scu", "SCU"), EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("another version", HEARTBEAT.replace("v1", "v2"), EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("an unknown channel", HEARTBEAT + "s", EXAMPLE, Reason.BAD_TOPIC, imei=None),
    Refused("a command from a unit", COMMAND, b"{}", Reason.BAD_TOPIC),
    Refused("a non-character", f"scu/v1/81/{IMEI}\uffff/ack", EXAMPLE, Reason.BAD_IMEI, imei=None),
    Refused("a NUL character", f"scu/v1/81/{IMEI}\0/ack", EXAMPLE, Reason.BAD_IMEI, imei=None),
    Refused(
        "the partition of another unit", HEARTBEAT.replace("/81/", "/18/"), EXAMPLE, Reason.WRONG_PARTITION
    ),
    Refused("a partition of one digit", HEARTBEAT.replace("/81/", "/1/"), EXAMPLE, Reason.WRONG_PARTITION),
    *(
        Refused(name, f"scu/v1/{imei[-2:]}/{imei}/heartbeat", EXAMPLE, Reason.BAD_IMEI, imei=None)
        for name, imei in {
            "no digits": "",
            "fourteen digits": "35209900176148",
            "sixteen digits": "3520990017614810",
            "a wrong check digit": "352099001761482",
            "all zeros": "0" * 15,
            "spaces between the digits": "35 209900 176148 1",
            "hyphens between the digits": "35-209900-176148-1",
            "a wildcard": "+",
            "the other wildcard": "#",
            "Arabic digits": "٣٥٢٠٩٩٠٠١٧٦١٤٨١",
            "full-width digits": "\N{FULLWIDTH DIGIT THREE}52099001761481",
            "superscript digits": "35209900176148¹",
            "a letter": "35209900176148l",
            "a line break": "352099001761481\n",
        }.items()
    ),
]

BODIES = [
    Refused("one byte more than the limit", HEARTBEAT, sized(MAX_BODY + 1), Reason.TOO_LARGE),
    Refused("a megabyte", HEARTBEAT, sized(2**20), Reason.TOO_LARGE),
    Refused("a million keys", HEARTBEAT, beat(b'"k":0,' * 10**6 + b'"k":0'), Reason.TOO_LARGE),
    Refused("nothing", HEARTBEAT, b"", Reason.UNSUPPORTED_ENCODING),
    Refused("an empty ack", ACK, b"", Reason.UNSUPPORTED_ENCODING),
    Refused("one byte", HEARTBEAT, b"\0", Reason.UNSUPPORTED_ENCODING),
    Refused("a blank in front", HEARTBEAT, b" " + EXAMPLE, Reason.UNSUPPORTED_ENCODING),
    Refused("a byte order mark", HEARTBEAT, b"\xef\xbb\xbf" + EXAMPLE, Reason.UNSUPPORTED_ENCODING),
    Refused("gzip", HEARTBEAT, gzip.compress(EXAMPLE), Reason.UNSUPPORTED_ENCODING),
    Refused("UTF-16", HEARTBEAT, EXAMPLE.decode().encode("utf-16"), Reason.UNSUPPORTED_ENCODING),
    Refused("UTF-16 without a mark", HEARTBEAT, EXAMPLE.decode().encode("utf-16-le"), Reason.NOT_JSON),
    Refused("an array", HEARTBEAT, b"[" + EXAMPLE + b"]", Reason.UNSUPPORTED_ENCODING),
    Refused("a brace alone", HEARTBEAT, b"{", Reason.NOT_JSON),
    Refused("half a message", HEARTBEAT, EXAMPLE[:-1], Reason.NOT_JSON),
    Refused("two messages", HEARTBEAT, EXAMPLE * 2, Reason.NOT_JSON),
    Refused("a trailing comma", HEARTBEAT, EXAMPLE[:-1] + b",}", Reason.NOT_JSON),
    Refused("single quotes", HEARTBEAT, EXAMPLE.replace(b'"', b"'"), Reason.NOT_JSON),
    Refused("a leading zero", HEARTBEAT, but("boot", b"03"), Reason.NOT_JSON),
    Refused("invalid UTF-8", HEARTBEAT, beat(b'"fw":"\xff"'), Reason.NOT_UTF8),
    Refused("an encoded surrogate", HEARTBEAT, beat(b'"fw":"\xed\xa0\x80"'), Reason.NOT_UTF8),
    Refused("a lone surrogate", HEARTBEAT, beat(b'"fw":"\\ud800"'), Reason.NOT_JSON),
    Refused("a naked control character", HEARTBEAT, beat(b'"fw":"\x01"'), Reason.NOT_JSON),
    Refused("a very deep array", HEARTBEAT, beat(b'"deep":' + b"[" * 60_000), Reason.NOT_JSON),
    Refused("a very deep reading", HEARTBEAT, beat(b'"readings":{"x":' + b'{"a":' * 10_000), Reason.NOT_JSON),
    Refused("a hundred thousand levels", HEARTBEAT, b'{"a":' * 100_000, Reason.TOO_LARGE),
    Refused("quotes that never close", HEARTBEAT, b"{" + b'"\\' * 30_000, Reason.NOT_JSON),
    Refused("a long number in a broken message", HEARTBEAT, b'{"a":' + b"9" * 5000, Reason.NOT_JSON),
]

FIELDS = [
    *(
        Refused(f"no {name}", HEARTBEAT, without(name), Reason.INVALID_FIELD, f"/{name}")
        for name in json.loads(beat())
    ),
    *(
        Refused(f"{name} is {value.decode()}", HEARTBEAT, but(name, value), Reason.INVALID_FIELD, f"/{name}")
        for name, values in {
            "v": [b"0", b"2", b"true", b'"1"', b"1.0", b"null"],
            "life": [b"-1", b"4294967296", b"true", b"1.5", b'"1"'],
            "boot": [
                b"-1",
                b"4294967296",
                b"9223372036854775808",
                b"true",
                b'"7"',
                b"1.0",
                b"1e3",
                b"null",
                b"[]",
            ],
            "seq": [b"0", b"-1", b"4294967296", b"1" + b"0" * 40, b"true", b'"7"', b"7.0", b"null"],
            "ts": [
                b"9223372036854775808",
                b"-9223372036854775809",
                b"1.5",
                b'"2026-01-01T00:00:00"',
                b"true",
            ],
            "mode": [b'"Enabled"', b'"on"', b"1", b"true", b"null", b'""', b"{}"],
            "epoch": [b"-1", b"4294967296", b"false", b"1.0", b"null"],
            "output": [b"1", b'"true"', b"0.0"],
            "next_s": [b"-1", b"4294967296", b"1.0", b'"900"'],
            "fw": [b'"' + b"x" * 33 + b'"', b"2", b"[]"],
            "readings": [b"[]", b"1", b'"x"', b"true"],
            "backlog": [b"{}", b"1", b'"x"', b"[" + b",".join([b"{%s}" % ENTRY] * 501) + b"]"],
        }.items()
        for value in values
    ),
    Refused(
        "too many entries, one of them bad",
        HEARTBEAT,
        backlog(b"1", *[b"{%s}" % ENTRY] * 500),
        Reason.INVALID_FIELD,
        "/backlog",
    ),
    Refused("an infinite boot", HEARTBEAT, but("boot", b"1e999"), Reason.NOT_FINITE, "/boot"),
    Refused("a boot beyond all writing", HEARTBEAT, but("boot", b"1" * 5000), Reason.NOT_FINITE, "/boot"),
    Refused("seq twice", HEARTBEAT, beat(b'"seq":7'), Reason.DUPLICATE_KEY, "/seq"),
    Refused("seq in two spellings", HEARTBEAT, beat(b'"\\u0073eq":8'), Reason.DUPLICATE_KEY, "/seq"),
    Refused(
        "readings twice", HEARTBEAT, beat(b'"readings":{},"readings":{}'), Reason.DUPLICATE_KEY, "/readings"
    ),
    Refused("backlog twice", HEARTBEAT, beat(b'"backlog":[],"backlog":[]'), Reason.DUPLICATE_KEY, "/backlog"),
    Refused("an unknown field twice", HEARTBEAT, beat(b'"x":1,"x":1,"x":2'), Reason.DUPLICATE_KEY, "/x"),
    Refused(
        "twice, deep in an unknown field",
        HEARTBEAT,
        beat(b'"x":[{"a":{"b":1,"b":1}}]'),
        Reason.DUPLICATE_KEY,
        "/x",
    ),
    Refused("NUL in fw", HEARTBEAT, beat(b'"fw":"a\\u0000b"'), Reason.NUL_CHARACTER, "/fw"),
    Refused("NUL in mode", HEARTBEAT, but("mode", b'"enabled\\u0000"'), Reason.NUL_CHARACTER, "/mode"),
    Refused("NUL in an unknown field", HEARTBEAT, beat(b'"x":"\\u0000"'), Reason.NUL_CHARACTER, "/x"),
    Refused(
        "NUL deep in an unknown field", HEARTBEAT, beat(b'"x":[{"\\u0000":1}]'), Reason.NUL_CHARACTER, "/x"
    ),
    Refused(
        "NUL in an unknown name", HEARTBEAT, beat(b'"a/~\\u0000":1'), Reason.NUL_CHARACTER, "/a~1~0\\u0000"
    ),
    Refused(
        "an endless unknown name",
        HEARTBEAT,
        beat(b'"%s":NaN' % (b"x" * 999)),
        Reason.NOT_FINITE,
        "/" + "x" * 64,
    ),
    Refused("NaN in an unknown field", HEARTBEAT, beat(b'"x":NaN'), Reason.NOT_FINITE, "/x"),
    Refused(
        "infinity deep in an unknown field", HEARTBEAT, beat(b'"x":{"y":[-1e999]}'), Reason.NOT_FINITE, "/x"
    ),
    Refused(
        "an unwritable number in an unknown field",
        HEARTBEAT,
        beat(b'"x":-' + b"9" * 4301),
        Reason.NOT_FINITE,
        "/x",
    ),
    Refused(
        "two errors: the first field counts", HEARTBEAT, but("seq", b'0,"fw":7'), Reason.INVALID_FIELD, "/seq"
    ),
    Refused(
        "no command id",
        ACK,
        b'{"v":1,"epoch":13,"mode":"disabled","result":"applied"}',
        Reason.INVALID_FIELD,
        "/command_id",
    ),
    *(
        Refused(
            f"command id {text}",
            ACK,
            b'{"v":1,"epoch":1,"mode":"enabled","result":"applied","command_id":%s}' % text.encode(),
            Reason.INVALID_FIELD,
            "/command_id",
        )
        for text in [
            '"0198F3A2-7C1E-7B4D-9A55-3F0C2D1E4B6A"',
            '"0198f3a27c1e7b4d9a553f0c2d1e4b6a"',
            '"{0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a}"',
            '"7"',
            "7",
            "null",
        ]
    ),
    Refused(
        "an ack without v",
        ACK,
        b"{" + ACKED.replace(b'"v":1,', b"") + b',"result":"applied"}',
        Reason.INVALID_FIELD,
        "/v",
    ),
    Refused("an unknown result", ACK, b"{" + ACKED + b',"result":"done"}', Reason.INVALID_FIELD, "/result"),
    Refused(
        "a refusal without reason", ACK, b"{" + ACKED + b',"result":"refused"}', Reason.INVALID_FIELD, ""
    ),
    Refused(
        "attempt 0", ACK, b"{" + ACKED + b',"result":"applied","attempt":0}', Reason.INVALID_FIELD, "/attempt"
    ),
    Refused(
        "NUL in a reason",
        ACK,
        b"{" + ACKED + b',"result":"refused","reason":"\\u0000"}',
        Reason.NUL_CHARACTER,
        "/reason",
    ),
    Refused(
        "NaN where an ack has no readings",
        ACK,
        b"{" + ACKED + b',"result":"applied","readings":{"x":NaN}}',
        Reason.NOT_FINITE,
        "/readings",
    ),
    Refused("an unknown state", PRESENCE, b'{"v":1,"boot":3,"state":"away"}', Reason.INVALID_FIELD, "/state"),
    Refused("presence without boot", PRESENCE, b'{"v":1,"state":"online"}', Reason.INVALID_FIELD, "/boot"),
    Refused("conn twice", PRESENCE, b"{" + HERE + b',"conn":1,"conn":1}', Reason.DUPLICATE_KEY, "/conn"),
]

DEEP = b"[" * 150 + b"]" * 150
HEARTBEATS = [
    Kept(
        "the example of the contract",
        EXAMPLE,
        {
            "v": 1,
            "life": 2891336453,
            "boot": 3,
            "seq": 1042,
            "ts": 1795310000,
            "ts_absurd": False,
            "mode": Mode.ENABLED,
            "epoch": 12,
            "output": True,
            "next_s": 900,
            "fw": "2.4.1",
            "readings": {
                "battery_v": 12.81,
                "battery_a": 1.23,
                "panel_v": 18.2,
                "panel_a": 2.1,
                "load_a": 0.4,
                "soc_pct": 88.0,
                "temp_c": 31.5,
                "rssi_dbm": -71.0,
            },
            "backlog": (),
            "extra": {},
        },
    ),
    Kept(
        "what is absent",
        beat(),
        {
            "life": 0,
            "ts": None,
            "ts_absurd": False,
            "output": None,
            "next_s": None,
            "fw": None,
            "readings": {},
        },
    ),
    Kept(
        "null is absent",
        beat(b'"life":null,"ts":null,"output":null,"next_s":null,"fw":null,"readings":null,"backlog":null'),
        {"life": 0, "ts": None, "output": None, "next_s": None, "fw": None, "readings": {}, "backlog": ()},
    ),
    Kept("exactly the limit", sized(MAX_BODY), {"seq": 7}),
    Kept("a byte below the limit", sized(MAX_BODY - 1), {"seq": 7}),
    Kept("the smallest counters", beat(b'"life":0'), {"life": 0, "epoch": 0}),
    Kept(
        "the largest counters",
        beat(b'"life":4294967295,"next_s":4294967295'),
        {"life": 4294967295, "next_s": 4294967295},
    ),
    Kept("2^31", but("boot", b"2147483648"), {"boot": 2**31}),
    Kept("a clock in milliseconds", beat(b'"ts":1795310000000'), {"ts": 1795310000000, "ts_absurd": True}),
    Kept("a clock before 1970", beat(b'"ts":-1'), {"ts": -1, "ts_absurd": True}),
    Kept("a clock of year 1", beat(b'"ts":-62135596800'), {"ts": -62135596800, "ts_absurd": True}),
    Kept("a clock of 1970", beat(b'"ts":0'), {"ts": 0, "ts_absurd": False}),
    Kept("a clock of 2038", beat(b'"ts":2147483648'), {"ts": 2147483648, "ts_absurd": False}),
    Kept("the last good second", beat(b'"ts":4102444800'), {"ts": 4102444800, "ts_absurd": False}),
    Kept("a second later", beat(b'"ts":4102444801'), {"ts": 4102444801, "ts_absurd": True}),
    Kept("the largest clock", beat(b'"ts":9223372036854775807'), {"ts": 2**63 - 1, "ts_absurd": True}),
    Kept("32 characters of firmware", beat('"fw":"{}"'.format("ü" * 32).encode()), {"fw": "ü" * 32}),
    Kept(
        "odd texts",
        beat(b'"fw":"=cmd()%s<b>\\u001b[1m\\r\\n../\\";--"'),
        {"fw": '=cmd()%s<b>\x1b[1m\r\n../";--'},
    ),
    Kept("colons in a text", beat(b'"fw":"a:b::c"'), {"fw": "a:b::c"}),
    Kept(
        "unknown fields",
        beat(
            b'"x":null,"imei":"000000000000000","extra":[1,{"a":2.5}],"model_copy":true,"__dict__":"y","":0'
        ),
        {
            "extra": {
                "x": None,
                "imei": "000000000000000",
                "extra": [1, {"a": 2.5}],
                "model_copy": True,
                "__dict__": "y",
                "": 0,
            }
        },
    ),
    Kept("a large unknown integer", beat(b'"x":' + b"9" * 4300), {"extra": {"x": 10**4300 - 1}}),
    Kept("a deep unknown field", beat(b'"x":' + DEEP), {"seq": 7}),
    Kept("a colon by escape", beat(b'"x":"\\u003a","y":{"z":1}'), {"extra": {"x": ":", "y": {"z": 1}}}),
    Kept(
        "readings of every kind",
        beat(
            b'"readings":{"tamper":true,"lvd":false,"energy_wh":-0,"soc_pct":null,"door_2":true,"x":1e3,"y":null}'
        ),
        {"readings": {"tamper": True, "lvd": False, "energy_wh": 0.0, "door_2": True, "x": 1000.0}},
    ),
    *(
        Kept(
            f"a reading that is {value.decode()[:20]}",
            beat(b'"readings":{"temp_c":%s,"x":%s,"load_a":0.5}' % (value, value)),
            {"readings": {"load_a": 0.5}, "seq": 7},
            ((reason, "/readings/temp_c", piece), (reason, "/readings/x", piece)),
        )
        for value, reason, piece in [
            (b"NaN", Reason.NOT_FINITE, "nan"),
            (b"Infinity", Reason.NOT_FINITE, "inf"),
            (b"-Infinity", Reason.NOT_FINITE, "-inf"),
            (b"1e999", Reason.NOT_FINITE, "inf"),
            (b"9" * 5000, Reason.NOT_FINITE, "inf"),
            (b"1" + b"0" * 400, Reason.NOT_FINITE, 10**400),
            (b'"7"', Reason.INVALID_READING, "7"),
            (b"[1]", Reason.INVALID_READING, [1]),
            (b"{}", Reason.INVALID_READING, {}),
            (b'"\\u0000"', Reason.NUL_CHARACTER, "\\u0000"),
            (b'{"a":{"b":[NaN,1,1,true]}}', Reason.INVALID_READING, {"a": {"b": ["nan", 1, 1, True]}}),
        ]
    ),
    Kept(
        "digits inside a string are no number",
        beat(b'"readings":{"x":%s},"note":"%s\\""' % (b"9" * 5000, b"9" * 5000)),
        {"readings": {}, "extra": {"note": "9" * 5000 + '"'}},
        ((Reason.NOT_FINITE, "/readings/x", "inf"),),
    ),
    Kept(
        "a switch that is a number, a number that is a switch",
        beat(b'"readings":{"tamper":1,"battery_v":true,"x":2}'),
        {"readings": {"x": 2.0}},
        (
            (Reason.INVALID_READING, "/readings/battery_v", True),
            (Reason.INVALID_READING, "/readings/tamper", 1),
        ),
    ),
    Kept(
        "misnamed readings",
        beat(b'"readings":{"A":1,"":2,"%s":3,"a/~b":null,"\\u0000":5,"\xc3\xa4":6,"ok":7}' % (b"x" * 33)),
        {"readings": {"ok": 7.0}},
        (
            (Reason.INVALID_READING, "/readings/A", 1),
            (Reason.INVALID_READING, "/readings/", 2),
            (Reason.INVALID_READING, "/readings/" + "x" * 33, 3),
            (Reason.INVALID_READING, "/readings/a~1~0b", None),
            (Reason.NUL_CHARACTER, "/readings/\\u0000", 5),
            (Reason.INVALID_READING, "/readings/ä", 6),
        ),
    ),
    Kept(
        "a reading given three times",
        beat(b'"readings":{"x":1,"y":2,"x":3,"x":NaN}'),
        {"readings": {"y": 2.0}},
        ((Reason.DUPLICATE_KEY, "/readings/x", [1, 3, "nan"]),),
    ),
    Kept(
        "the name of every good length",
        beat(b'"readings":{"x":1,"%s":2}' % (b"z" * 32)),
        {"readings": {"x": 1.0, "z" * 32: 2.0}},
    ),
]

BACKLOGS = [
    Kept("an empty backlog", backlog(), {"backlog": ()}),
    Kept("500 entries", backlog(*[b"{%s}" % ENTRY] * 500), {"seqs": [6] * 500}),
    Kept(
        "a full entry",
        backlog(b'{%s,"ts":5,"output":false,"readings":{"x":1},"boot":2,"note":{"a":1}}' % ENTRY),
        {
            "seqs": [6],
            "entry": {
                "seq": 6,
                "mode": "disabled",
                "epoch": 0,
                "ts": 5,
                "output": False,
                "readings": {"x": 1.0},
                "boot": 2,
                "note": {"a": 1},
            },
        },
    ),
    Kept(
        "entries that are not even objects",
        backlog(b"null", b"{%s}" % ENTRY, b"7", b"[NaN]", b'"x"'),
        {"seqs": [6]},
        (
            (Reason.INVALID_BACKLOG_ENTRY, "/backlog/0", None),
            (Reason.INVALID_BACKLOG_ENTRY, "/backlog/2", 7),
            (Reason.INVALID_BACKLOG_ENTRY, "/backlog/3", ["nan"]),
            (Reason.INVALID_BACKLOG_ENTRY, "/backlog/4", "x"),
        ),
    ),
    Kept(
        "each kind of loss in an entry",
        backlog(
            b'{"seq":1,"mode":"enabled","epoch":0}',
            b'{"seq":2,"mode":"enabled"}',
            b'{"seq":3,"mode":"enabled","epoch":0,"x":"\\u0000"}',
            b'{"seq":4,"mode":"enabled","epoch":0,"seq":4}',
            b'{"seq":5,"mode":"enabled","epoch":0,"readings":[]}',
            b'{"seq":6,"mode":"enabled","epoch":0,"readings":{"x":NaN,"y":1}}',
            b'{"seq":7,"mode":"enabled","epoch":0,"readings":{"x":1,"x":1}}',
            b'{"seq":8,"mode":"on","epoch":0,"readings":{"x":NaN}}',
            b'{"seq":9,"mode":"enabled","epoch":0,"x":{"y":1e999}}',
        ),
        {"seqs": [1, 6, 7]},
        (
            (Reason.INVALID_BACKLOG_ENTRY, "/backlog/1", {"seq": 2, "mode": "enabled"}),
            (Reason.NUL_CHARACTER, "/backlog/2", {"seq": 3, "mode": "enabled", "epoch": 0, "x": "\\u0000"}),
            (Reason.DUPLICATE_KEY, "/backlog/3", {"seq": [4, 4], "mode": "enabled", "epoch": 0}),
            (
                Reason.INVALID_BACKLOG_ENTRY,
                "/backlog/4",
                {"seq": 5, "mode": "enabled", "epoch": 0, "readings": []},
            ),
            (Reason.NOT_FINITE, "/backlog/5/readings/x", "nan"),
            (Reason.DUPLICATE_KEY, "/backlog/6/readings/x", [1, 1]),
            (
                Reason.INVALID_BACKLOG_ENTRY,
                "/backlog/7",
                {"seq": 8, "mode": "on", "epoch": 0, "readings": {"x": "nan"}},
            ),
            (Reason.NOT_FINITE, "/backlog/8", {"seq": 9, "mode": "enabled", "epoch": 0, "x": {"y": "inf"}}),
        ),
    ),
    Kept(
        "a loss found only on the second look keeps its own place",
        backlog(b"7", b'{%s,"readings":{"Bad":1}}' % ENTRY),
        {"seqs": [6]},
        (
            (Reason.INVALID_BACKLOG_ENTRY, "/backlog/0", 7),
            (Reason.INVALID_READING, "/backlog/1/readings/Bad", 1),
        ),
    ),
]


def ids(case: Refused | Kept) -> str:
    return case.name


def told(decoded: Decoded) -> tuple[tuple[Reason, str, Any], ...]:
    return tuple((fault.reason, fault.path, fault.piece) for fault in decoded.faults)


@pytest.mark.parametrize("case", [*TOPICS, *BODIES, *FIELDS], ids=ids)
def test_a_bad_message_is_refused_with_its_reason_and_place(case: Refused) -> None:
    with pytest.raises(Unreadable) as caught:
        decode(case.topic, case.body)

    error = caught.value
    assert (error.reason, error.path, error.imei) == (case.reason, case.path, case.imei)
    assert 0 < len(error.message) <= 200
    assert "\0" not in str(error)


@pytest.mark.parametrize("case", [*HEARTBEATS, *BACKLOGS], ids=ids)
def test_a_good_heartbeat_is_kept_and_loses_only_its_bad_pieces(case: Kept) -> None:
    decoded = decode(HEARTBEAT, case.body)

    message = decoded.message
    assert isinstance(message, Heartbeat)
    says = {
        "seqs": [entry.seq for entry in message.backlog],
        "entry": message.backlog[0].model_dump(mode="json") if message.backlog else None,
    }
    for name, value in case.says.items():
        assert says.get(name, getattr(message, name, None)) == value, name
    assert told(decoded) == case.faults
    json.dumps([message.extra, *(fault.piece for fault in decoded.faults)], allow_nan=False)


def test_a_fault_says_what_was_wrong() -> None:
    decoded = decode(HEARTBEAT, backlog(b'{"seq":0,"mode":"enabled","epoch":0}', b"7"))

    details = [fault.detail for fault in decoded.faults]
    assert details[0] == "seq: Input should be greater than or equal to 1"
    assert details[1].startswith("Input should be a valid dictionary")


def test_an_ack_is_read() -> None:
    body = b"{" + ACKED + b',"result":"refused","reason":"stale_epoch","attempt":2,"boot":3,"ts":-5,"x":1}'

    ack = decode(ACK, body).message

    assert isinstance(ack, Ack)
    assert str(ack.command_id) == "0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a"
    assert (ack.result, ack.reason, ack.attempt) == (AckResult.REFUSED, "stale_epoch", 2)
    assert (ack.epoch, ack.mode, ack.life, ack.boot, ack.ts) == (13, Mode.DISABLED, 0, 3, -5)
    assert ack.extra == {"x": 1}


@pytest.mark.parametrize("state", PresenceState)
def test_presence_is_read(state: PresenceState) -> None:
    presence = decode(PRESENCE, b'{"v":1,"state":"%s","life":9,"boot":3,"conn":17}' % state.encode()).message

    assert isinstance(presence, Presence)
    assert (presence.state, presence.life, presence.boot, presence.conn) == (state, 9, 3, 17)


def test_an_empty_presence_says_that_it_was_cleared() -> None:
    assert decode(PRESENCE, b"").message == Cleared()
