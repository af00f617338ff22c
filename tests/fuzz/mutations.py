"""Messages of units, spoilt on purpose: in their structure, in their bytes, in their topic.

Every choice is asked of `pick(n)`, which gives a number below n: a property test, a seeded generator and a
coverage-guided fuzzer all drive the same mutations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from protocol.codec import MAX_BODY
from protocol.identity import Imei
from protocol.topics import Channel

Pick = Callable[[int], int]
T = TypeVar("T")

COMMAND = UUID("0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a")
REPORT = {
    "seq": 6,
    "ts": 1795310000,
    "mode": "disabled",
    "epoch": 3,
    "output": False,
    "readings": {"temp_c": 9},
}
NAMED = {
    "battery_v": 12.81,
    "battery_a": -1.23,
    "panel_v": 18.2,
    "panel_a": 2.1,
    "load_a": 0.4,
    "energy_wh": 123456.789,
    "soc_pct": 88,
    "temp_c": 31.5,
    "rssi_dbm": -71,
    "tamper": True,
    "lvd": False,
}
SEEDS: dict[Channel, list[dict[str, Any]]] = {
    Channel.HEARTBEAT: [
        {"v": 1, "boot": 3, "seq": 7, "mode": "enabled", "epoch": 0},
        {
            **REPORT,
            "v": 1,
            "life": 2891336453,
            "boot": 3,
            "next_s": 900,
            "fw": "2.4.1",
            "readings": NAMED,
            "backlog": [REPORT, {**REPORT, "seq": 5, "boot": 2, "note": [1, {"a": "b"}]}],
            "gps": {"lat": 1.5, "at": [None, True, "x:y"]},
        },
    ],
    Channel.ACK: [
        {
            "v": 1,
            "command_id": str(COMMAND),
            "attempt": 1,
            "epoch": 13,
            "result": "refused",
            "reason": "hardware",
            "mode": "offline_disabled",
            "life": 7,
            "boot": 3,
            "ts": 1795310000,
            "temperature": 40.5,
        }
    ],
    Channel.PRESENCE: [{"v": 1, "state": "online", "life": 7, "boot": 3, "conn": 17, "cell": {"mcc": 639}}],
}
VALUES = [
    *rb"""
    null true false {} [] "" "x" "a:b" "7" 0 -0 1 -1 1.0 -0.0 1e0 0.1 1e22 1e308 -1e308 1e-320 5e-324 3.5e38
    1e-39 NaN Infinity -Infinity 1e999 -1e999 1E400 1e-999
    2147483648 4294967295 4294967296 9223372036854775807 -9223372036854775809
    "\u0000" "\ud800" "\ud83d\ude00" "\uffff" "\u001b[2J" "\\u0000"
    {"a":1,"a":2} [{"b":{"c":NaN}}] {"\u0000":1} {"x":[1,{"\u0000":"\u0000"}]}
    "enabled" "offline_disabled" "applied" "offline" "2026-06-01T12:00:00"
    """.split(),
    *(b"9" * 400, b"9" * 4300, b"9" * 4301, b"-" + b"8" * 5000, b"1" * 5000 + b"e-4999", b"0." + b"3" * 999),
    *(b'"\xff"', b'"\0"', b'"\xed\xa0\x80"', b'"\xc3\xa4\xf0\x9f\x98\x80"', b'"%s"' % (b"x" * 4000)),
    *(b"[" * 150 + b"]" * 150, b'{"a":' * 150 + b"1" + b"}" * 150, b"[" * 300 + b"]" * 300, b"[" * 9999),
]
KEYS = [
    *rb"""
    "v" "life" "boot" "seq" "ts" "mode" "epoch" "output" "next_s" "fw" "readings" "backlog" "state" "conn"
    "command_id" "result" "reason" "attempt" "battery_v" "energy_wh" "tamper" "zz" "BAD" "" "a/b~c" "a:b"
    "\u0000" "\u0073eq" "__dict__" "model_config"
    """.split(),
    *(b'"%s"' % (b"k" * 999), b'"%s"' % (b"r" * 32), b'"\xf0\x9f"'),
]
TOPICS = ["scu/v1/{pp}/{imei}/{channel}"] * 60 + [
    "scu/v1/00/{imei}/{channel}",
    "scu/v1/{pp}/{imei}/command",
    "scu/v1/{pp}/{imei}0/{channel}",
    "scu/v1/{pp}/352099001761482/{channel}",
    "scu/v1/{pp}/٣٥٢٠٩٩٠٠١٧٦١٤٨١/{channel}",
    "scu/v1/{pp}/{imei}\0/{channel}",
    "/scu/v1/{pp}/{imei}/{channel}",
    "",
]
SMALL = 150
"""What is shorter (bytes) may be repeated many times."""

JUNK = [*rb'\u \ " { } [ ] , : e9 //'.split(), b"\0", b"\xff", b"9" * 4400, b"\xef\xbb\xbf"]


@dataclass
class Fields:
    """A JSON object as it is written: keys in any spelling, in any order, any number of times."""

    pairs: list[tuple[bytes, Tree]]


Tree = bytes | list["Tree"] | Fields
Container = list[Tree] | Fields


def message(pick: Pick, imeis: Sequence[Imei]) -> tuple[str, bytes]:
    """Make a topic and a body of one of these units: good ones, spoilt here and there."""
    channel, imei = one(pick, [*SEEDS, Channel.HEARTBEAT]), one(pick, imeis)
    seed = one(pick, SEEDS[channel])
    tree = grown(seed | {"seq": 1 + pick(10**6)} if channel is Channel.HEARTBEAT else seed)
    body = written(tree)
    for _ in range(pick(6)):
        if len(body) <= MAX_BODY:
            spoil_structure(pick, tree)
            body = written(tree)
    for _ in range(max(0, pick(6) - 3)):
        body = spoil_bytes(pick, body)
    topic = one(pick, TOPICS).format(pp=imei.partition, imei=imei, channel=channel)
    return topic, body


def one(pick: Pick, choices: Sequence[T]) -> T:
    """Choose one."""
    return choices[pick(len(choices))]


def grown(value: Any) -> Tree:
    """Take a value apart, so that it can be written wrongly."""
    match value:
        case dict():
            return Fields([(json.dumps(key).encode(), grown(each)) for key, each in value.items()])
        case list():
            return [grown(each) for each in value]
    return json.dumps(value).encode()


def written(tree: Tree) -> bytes:
    """Write a tree out."""
    match tree:
        case bytes():
            return tree
        case list():
            return b"[" + b",".join(map(written, tree)) + b"]"
    return b"{" + b",".join(key + b":" + written(value) for key, value in tree.pairs) + b"}"


def containers(tree: Tree) -> list[Container]:
    """List all objects and arrays of a tree, itself first."""
    if isinstance(tree, bytes):
        return []
    inner = tree if isinstance(tree, list) else [value for _, value in tree.pairs]
    return [tree, *(found for each in inner for found in containers(each))]


def spoil_structure(pick: Pick, tree: Tree) -> None:
    """Change one object or array somewhere in the tree."""
    place = one(pick, containers(tree))
    if isinstance(place, list):
        _spoil_array(pick, place)
    else:
        _spoil_object(pick, place.pairs)


def _spoil_array(pick: Pick, items: list[Tree]) -> None:
    match pick(3):
        case 0:
            items.insert(pick(len(items) + 1), one(pick, VALUES))
        case 1 if items:
            items[pick(len(items))] = one(pick, VALUES)
        case 2 if items and len(written(last := items[-1])) < SMALL:
            items.extend(deepcopy(last) for _ in range(pick(600)))


def _spoil_object(pick: Pick, pairs: list[tuple[bytes, Tree]]) -> None:
    if not pairs:
        pairs.append((one(pick, KEYS), one(pick, VALUES)))
        return
    at = pick(len(pairs))
    key, value = pairs[at]
    match pick(7):
        case 0 | 1:
            pairs[at] = (key, one(pick, VALUES))
        case 2:
            pairs[at] = (one(pick, KEYS), value)
        case 3:
            pairs.insert(at, (one(pick, KEYS), one(pick, VALUES)))
        case 4:
            pairs.append((key, one(pick, [value, *VALUES])))
        case 5:
            del pairs[at]
        case 6 if len(written(value)) < SMALL:
            letter = one(pick, [b"k", b"K"])
            pairs.extend((b'"%s%d"' % (letter, number), deepcopy(value)) for number in range(pick(1500)))


def spoil_bytes(pick: Pick, body: bytes) -> bytes:
    """Change some bytes, whatever they mean."""
    start = pick(len(body) + 1)
    end = min(len(body), start + pick(9))
    match pick(4):
        case 0:
            return body[:start]
        case 1:
            return body[:start] + body[end:]
        case 2:
            return body[:start] + one(pick, JUNK) + body[start:]
    return body[:start] + bytes([pick(256)]) + body[end:]
