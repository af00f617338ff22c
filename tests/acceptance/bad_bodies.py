"""Bad inputs 1 to 8, 12 to 15 and 29: what is wrong stands in the body."""

from __future__ import annotations

import gzip
import json
import time

from protocol.reasons import Reason
from tests.acceptance.bad_inputs import (
    ACK,
    PRESENCE,
    Fate,
    Letter,
    Row,
    Said,
    beat,
    but,
    dead,
    readings,
    sized,
    stored,
    told,
)

NOW = int(time.time())
LIMIT = 65_536  # bytes of a body
PACKET = 1_048_576  # bytes of a packet, of the local stack's broker
ACKED = (
    b'"v":1,"command_id":"0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a","epoch":1,"mode":"enabled","result":"refused"'
)
HERE = b'"v":1,"boot":1,"state":"online"'

TEXTS = {
    "SQL": "'; DROP TABLE heartbeat; --",
    "HTML": "<script>alert(1)</script>",
    "shell": "$(reboot) `id` | rm -rf ~",
    "format": "%s %(name)s {0} {imei}",
    "path": "../../etc/passwd",
    "line breaks": "one\r\ntwo\nthree",
    "terminal": "\x1b[2J\x1b]0;owned\x07",
    "formula": '=cmd|" /C calc"!A0',
    "directions": "\u202eabc\u2066",
    "emoji": "\U0001f600e\u0301",
}
"""Number 12: text that means something to somebody else."""


def lost(written: bytes, reason: Reason, piece: object) -> Row:
    """Say that a reading written so is lost alone, under a known name and under an unknown one."""
    shown = written[:12].decode()
    letters = [Letter(reason, f"/readings/{name}", piece) for name in ("energy_wh", "zz")]
    body = readings(b'"energy_wh":%s,"zz":%s,"load_a":0.5' % (written, written))
    number = 1 if reason is Reason.NOT_FINITE else 5
    return stored(number, f"a reading of {shown}", body, *letters, readings={"load_a": 0.5})


def several(number: int, name: str, *said: Said, newest: tuple[int, int] = (1, 3)) -> Row:
    """Say several things."""
    return Row(number=number, name=name, said=said, newest=newest)


def leapt(boot: int, seq: int, field: str) -> Said:
    """Give a heartbeat whose counter goes further than a unit can count."""
    return Said(
        body=beat(seq=seq, boot=boot),
        fate=Fate.DEAD_LETTER,
        letters=(Letter(Reason.COUNTER_JUMP, f"/{field}"),),
    )


def heard(boot: int, seq: int, fate: Fate = Fate.STORED) -> Said:
    """Say a good heartbeat of these counters."""
    return Said(body=beat(boot=boot, seq=seq), fate=fate, beats=((boot, seq),) if fate is Fate.STORED else ())


NUMBERS = [
    lost(b"NaN", Reason.NOT_FINITE, "nan"),
    lost(b"Infinity", Reason.NOT_FINITE, "inf"),
    lost(b"-Infinity", Reason.NOT_FINITE, "-inf"),
    lost(b"1e999", Reason.NOT_FINITE, "inf"),
    lost(b"9" * 5000, Reason.NOT_FINITE, "inf"),
    stored(
        1,
        "the largest and the smallest numbers there are",
        readings(b'"battery_v":1e308,"battery_a":5e-324,"energy_wh":-1.7976931348623157e308,"zz":1e-320'),
        readings={
            "battery_v": 1e308,
            "battery_a": 5e-324,
            "energy_wh": -1.7976931348623157e308,
            "zz": 1e-320,
        },
    ),
    several(
        1,
        "two that have no sum",
        Said(
            body=readings(b'"energy_wh":1.7e308'), beats=((1, 2),), keeps={"readings": {"energy_wh": 1.7e308}}
        ),
        Said(body=beat(b'"readings":{"energy_wh":1.7e308}', seq=4), beats=((1, 4),)),
        newest=(1, 4),
    ),
    dead(1, "NaN in an unknown field", beat(b'"note":[{"x":NaN}]'), Reason.NOT_FINITE, "/note"),
    dead(1, "an infinite counter", but(boot=b"1e999"), Reason.NOT_FINITE, "/boot"),
    stored(
        1,
        "NaN in the backlog",
        beat(b'"backlog":[{"seq":9,"mode":"enabled","epoch":0,"boot":0,"x":NaN}]'),
        Letter(
            Reason.NOT_FINITE, "/backlog/0", {"seq": 9, "mode": "enabled", "epoch": 0, "boot": 0, "x": "nan"}
        ),
    ),
    *(
        dead(3, f"{name} is {shown}", but(**{name: value}), Reason.INVALID_FIELD, f"/{name}")
        for name in ("boot", "seq", "epoch", "life", "next_s")
        for shown, value in {
            "2^32": b"4294967296",
            "2^63-1": b"9223372036854775807",
            "2^63": b"9223372036854775808",
            "-1": b"-1",
            "10^400": b"1" + b"0" * 400,
        }.items()
    ),
    dead(3, "a clock of 2^63", beat(b'"ts":9223372036854775808'), Reason.INVALID_FIELD, "/ts"),
    dead(3, "a clock of 10^400", beat(b'"ts":1%s' % (b"0" * 400)), Reason.INVALID_FIELD, "/ts"),
    dead(3, "seq is 0", but(seq=b"0"), Reason.INVALID_FIELD, "/seq"),
    stored(
        3,
        "an unknown integer of 4,300 digits",
        beat(b'"note":' + b"7" * 4300),
        fields={"note": int("7" * 4300)},
    ),
    dead(3, "an unknown integer of 4,301 digits", beat(b'"note":' + b"7" * 4301), Reason.NOT_FINITE, "/note"),
    several(3, "2^31", leapt(2**31, 2**31, "boot")),
    several(3, "2^32-1", leapt(2**32 - 1, 2**32 - 1, "boot")),
    several(
        3,
        "a life and a plan of 2^32-1",
        Said(body=beat('"life":4294967295,"next_s":4294967295'), beats=((1, 2),)),
        newest=(1, 2),
    ),
    several(4, "seq goes back", heard(1, 9), heard(1, 8), heard(1, 7), newest=(1, 9)),
    several(4, "seq stands still", heard(1, 2), *[heard(1, 2, Fate.DUPLICATE)] * 3),
    several(4, "seq jumps", leapt(1, 2**31, "seq")),
    several(
        4,
        "seq wraps",
        leapt(1, 2**32 - 1, "seq"),
        Said(body=beat(seq=0), fate=Fate.DEAD_LETTER, letters=(Letter(Reason.INVALID_FIELD, "/seq"),)),
        heard(1, 2),
    ),
    several(4, "boot goes back", heard(7, 1), heard(6, 5), newest=(7, 1)),
    several(4, "boot goes back to nothing", heard(0, 5)),
    *(
        dead(5, f"{name} is {value.decode()}", but(**{name: value}), Reason.INVALID_FIELD, f"/{name}")
        for name in ("v", "boot", "seq", "epoch", "life", "next_s", "ts")
        for value in (b"true", b'"1"', b"1.0", b"1e0", b"[1]", b"{}")
    ),
    dead(5, "a switch for a text", but(fw=b"true"), Reason.INVALID_FIELD, "/fw"),
    dead(5, "a number for a switch", but(output=b"1"), Reason.INVALID_FIELD, "/output"),
    dead(5, "a list for the readings", but(readings=b"[]"), Reason.INVALID_FIELD, "/readings"),
    dead(5, "an object for the backlog", but(backlog=b"{}"), Reason.INVALID_FIELD, "/backlog"),
    lost(b'"7"', Reason.INVALID_READING, "7"),
    lost(b"[1]", Reason.INVALID_READING, [1]),
    stored(
        5,
        "a switch for a number and a number for a switch",
        readings(b'"battery_v":true,"tamper":1,"load_a":0.5'),
        Letter(Reason.INVALID_READING, "/readings/battery_v", piece=True),
        Letter(Reason.INVALID_READING, "/readings/tamper", 1),
        readings={"load_a": 0.5},
    ),
]

CLOCKS = [
    *(
        stored(6, name, beat(b'"ts":%d' % ts), unit_ts=ts, at=None)
        for name, ts in {
            "a clock in milliseconds": NOW * 1000,
            "a clock of year 1": -62135596800,
            "a clock of 1970": 0,
            "a clock of 2038": 2**31,
            "a clock of 9999": 253402300799,
            "a clock beyond all years": 2**63 - 1,
            "a clock before all years": -(2**63),
            "a clock of 46 days ago": NOW - 46 * 86_400,
        }.items()
    ),
    dead(6, "a naive clock", beat('"ts":"2026-06-01T12:00:00"'), Reason.INVALID_FIELD, "/ts"),
    dead(6, "a clock with a fraction", beat('"ts":1795310000.5'), Reason.INVALID_FIELD, "/ts"),
    stored(6, "no clock", beat('"ts":null'), unit_ts=None, at=None),
    stored(6, "a clock of 44 days ago", beat(f'"ts":{NOW - 44 * 86_400}'), at=NOW - 44 * 86_400),
    several(
        7,
        "a future clock, then right ones",
        Said(body=beat(f'"ts":{NOW + 86_400}'), beats=((1, 2),), keeps={"unit_ts": NOW + 86_400, "at": None}),
        Said(body=beat(f'"ts":{NOW}', seq=4), beats=((1, 4),)),
        Said(body=beat(f'"ts":{NOW + 1}', seq=5), beats=((1, 5),)),
        newest=(1, 5),
    ),
]

TWICE = [
    dead(8, "seq twice", beat(b'"seq":4'), Reason.DUPLICATE_KEY, "/seq"),
    dead(8, "seq twice, once by escape", beat(b'"\\u0073eq":4'), Reason.DUPLICATE_KEY, "/seq"),
    dead(8, "the same twice", beat(b'"seq":2'), Reason.DUPLICATE_KEY, "/seq"),
    dead(8, "an unknown field twice", beat(b'"x":1,"x":2'), Reason.DUPLICATE_KEY, "/x"),
    dead(
        8, "twice, deep in an unknown field", beat(b'"x":[{"a":{"b":1,"b":2}}]'), Reason.DUPLICATE_KEY, "/x"
    ),
    dead(8, "the readings twice", beat(b'"readings":{},"readings":{}'), Reason.DUPLICATE_KEY, "/readings"),
    stored(
        8,
        "a reading twice",
        readings(b'"load_a":1,"load_a":2,"panel_a":0.5'),
        Letter(Reason.DUPLICATE_KEY, "/readings/load_a", [1, 2]),
        readings={"panel_a": 0.5},
    ),
    dead(8, "conn twice", b'{%s,"conn":1,"conn":2}' % HERE, Reason.DUPLICATE_KEY, "/conn", topic=PRESENCE),
]

NULS = [
    dead(2, "NUL in fw", beat(b'"fw":"2\\u0000"'), Reason.NUL_CHARACTER, "/fw"),
    dead(2, "NUL in mode", but(mode=b'"enabled\\u0000"'), Reason.NUL_CHARACTER, "/mode"),
    dead(2, "NUL in an unknown text", beat(b'"x":[{"y":"\\u0000"}]'), Reason.NUL_CHARACTER, "/x"),
    dead(2, "NUL in an unknown name", beat(b'"a\\u0000b":1'), Reason.NUL_CHARACTER, "/a\\u0000b"),
    dead(2, "NUL in a deep unknown name", beat(b'"x":{"\\u0000":1}'), Reason.NUL_CHARACTER, "/x"),
    dead(2, "a naked NUL", beat(b'"x":"\0"'), Reason.NOT_JSON),
    stored(
        2,
        "NUL in a reading's name",
        readings(b'"\\u0000":1,"load_a":0.5'),
        Letter(Reason.NUL_CHARACTER, "/readings/\\u0000", 1),
        readings={"load_a": 0.5},
    ),
    dead(
        2,
        "NUL in an ack's reason",
        b'{%s,"reason":"\\u0000"}' % ACKED,
        Reason.NUL_CHARACTER,
        "/reason",
        topic=ACK,
    ),
    dead(2, "NUL in a presence", b'{%s,"x":"\\u0000"}' % HERE, Reason.NUL_CHARACTER, "/x", topic=PRESENCE),
]

WORDS = [
    *(
        stored(
            12,
            f"{name} in every text",
            beat(
                f'"fw":{json.dumps(word)},"note":{json.dumps(word)},{json.dumps(word)}:[{json.dumps(word)}]'
            ),
            fw=word,
            fields={"note": word, word: [word]},
        )
        for name, word in TEXTS.items()
    ),
    *(
        stored(
            12,
            f"{name} for a reading's name",
            readings(json.dumps(word).encode() + b":1"),
            Letter(Reason.INVALID_READING, "/readings/" + word.replace("~", "~0").replace("/", "~1"), 1),
            readings={},
        )
        for name, word in TEXTS.items()
    ),
    dead(12, "HTML for a mode", but(mode=b'"<b>"'), Reason.INVALID_FIELD, "/mode"),
]

BYTES = [
    dead(13, "invalid UTF-8", beat(b'"x":"\xff"'), Reason.NOT_UTF8),
    dead(13, "an overlong slash", beat(b'"x":"\xc0\xaf"'), Reason.NOT_UTF8),
    dead(13, "an encoded surrogate", beat(b'"x":"\xed\xa0\x80"'), Reason.NOT_UTF8),
    dead(13, "a lone surrogate", beat(b'"x":"\\ud800"'), Reason.NOT_JSON),
    dead(13, "a lone surrogate in a name", beat(b'"\\udc00":1'), Reason.NOT_JSON),
    stored(13, "a pair of surrogates", beat(b'"x":"\\ud83d\\ude00"'), fields={"x": "\U0001f600"}),
    dead(13, "a byte order mark", b"\xef\xbb\xbf" + beat(), Reason.UNSUPPORTED_ENCODING),
    dead(13, "UTF-16", beat().decode().encode("utf-16"), Reason.UNSUPPORTED_ENCODING),
    dead(13, "gzip", gzip.compress(beat(), mtime=0), Reason.UNSUPPORTED_ENCODING),
    dead(13, "nothing", b"", Reason.UNSUPPORTED_ENCODING),
    dead(13, "an empty ack", b"", Reason.UNSUPPORTED_ENCODING, topic=ACK),
    dead(13, "one byte", b"\0", Reason.UNSUPPORTED_ENCODING),
    dead(13, "one brace", b"{", Reason.NOT_JSON),
    dead(13, "half a message", beat()[:-9], Reason.NOT_JSON),
    dead(13, "two messages in one", beat() * 2, Reason.NOT_JSON),
    dead(13, "an empty object", b"{}", Reason.INVALID_FIELD, "/seq"),
    dead(13, "an array of messages", b"[" + beat() + b"]", Reason.UNSUPPORTED_ENCODING),
    told(13, "a presence of nothing", Fate.DUPLICATE, body=b"", topic=PRESENCE),
]

SIZES = [
    dead(14, "a depth of 100,000", beat(b'"x":' + b"[" * 100_000), Reason.TOO_LARGE),
    dead(14, "a depth of 60,000", beat(b'"x":' + b"[" * 30_000 + b"]" * 30_000), Reason.NOT_JSON),
    dead(14, "a depth of 60,000 under a reading", readings(b'"x":' + b'{"a":' * 10_000), Reason.NOT_JSON),
    stored(14, "a depth of 190", beat(b'"x":' + b"[" * 190 + b"]" * 190)),
    dead(14, "100,000 keys", beat(b",".join(b'"%d":0' % key for key in range(100_000))), Reason.TOO_LARGE),
    told(14, "a million keys", Fate.CUT, body=beat(b",".join(b'"%d":0' % key for key in range(10**6)))),
    stored(14, "6,000 keys", beat(b",".join(b'"%d":0' % key for key in range(6_000)))),
    stored(14, "30,000 elements", beat(b'"x":[0' + b",0" * 29_999 + b"]"), fields={"x": [0] * 30_000}),
    stored(14, "a name of 60,000", beat(b'"%s":1' % (b"k" * 60_000)), fields={"k" * 60_000: 1}),
    stored(
        14,
        "3,000 misnamed readings",
        readings(b",".join(b'"K%d":1' % name for name in range(3_000))),
        *[Letter(Reason.INVALID_READING, f"/readings/K{name}", 1) for name in range(100)],
        Letter(Reason.INVALID_READING, ""),
        readings={},
    ),
    dead(14, "501 entries", beat(b'"backlog":[' + b"{}," * 500 + b"{}]"), Reason.INVALID_FIELD, "/backlog"),
    stored(15, "a byte below the limit", sized(LIMIT - 1)),
    stored(15, "the limit", sized(LIMIT)),
    dead(15, "a byte above the limit", sized(LIMIT + 1), Reason.TOO_LARGE),
    dead(15, "almost a packet", sized(PACKET - 100), Reason.TOO_LARGE),
    told(15, "a megabyte of body", Fate.CUT, body=sized(PACKET)),
    told(15, "ten megabytes", Fate.CUT, body=sized(10 * PACKET)),
]

FIRMWARE = [
    *(
        dead(29, f"without {name}", but(**{name: b""}), Reason.INVALID_FIELD, f"/{name}")
        for name in ("v", "boot", "seq", "mode", "epoch")
    ),
    *(
        dead(29, f"{name} is null", but(**{name: b"null"}), Reason.INVALID_FIELD, f"/{name}")
        for name in ("v", "boot", "seq", "mode", "epoch")
    ),
    dead(29, "seq renamed", but(seq=b"", sequence=b"2"), Reason.INVALID_FIELD, "/seq"),
    dead(29, "seq in capitals", but(seq=b"", SEQ=b"2"), Reason.INVALID_FIELD, "/seq"),
    dead(29, "a newer version", but(v=b"2"), Reason.INVALID_FIELD, "/v"),
    dead(29, "an older version", but(v=b"0"), Reason.INVALID_FIELD, "/v"),
    dead(29, "a new mode", but(mode=b'"sleeping"'), Reason.INVALID_FIELD, "/mode"),
    dead(
        29,
        "an ack without mode",
        b"{%s}" % ACKED.replace(b'"mode":"enabled",', b""),
        Reason.INVALID_FIELD,
        "/mode",
        topic=ACK,
    ),
    dead(29, "a refusal without reason", b"{%s}" % ACKED, Reason.INVALID_FIELD, "", topic=ACK),
    stored(
        29,
        "new firmware beside old",
        beat(
            b'"fw":"3.0.0","gps":{"lat":1.5,"lon":[2,null]},"readings":{"humidity_pct":40,"door_open":true}'
        ),
        fw="3.0.0",
        fields={"gps": {"lat": 1.5, "lon": [2, None]}},
        readings={"humidity_pct": 40.0, "door_open": True},
    ),
    stored(
        29,
        "every optional field is null",
        beat(b'"life":null,"ts":null,"output":null,"next_s":null,"fw":null,"readings":null,"backlog":null'),
        output=None,
        fw=None,
        readings={},
        fields={},
    ),
    stored(
        29,
        "names that mean something to us",
        beat(b'"__class__":1,"model_config":2,"extra":3,"unit_id":4,"fields":5,"received_at":6'),
        fields={"__class__": 1, "model_config": 2, "extra": 3, "unit_id": 4, "fields": 5, "received_at": 6},
    ),
    Row(
        number=29,
        name="a presence with more in it",
        said=(Said(body=b'{%s,"rsrp":-101,"cell":{"mcc":639}}' % HERE, topic=PRESENCE),),
    ),
]

BODIES = [*NUMBERS, *CLOCKS, *TWICE, *NULS, *WORDS, *BYTES, *SIZES, *FIRMWARE]
