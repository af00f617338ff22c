"""What an unread message still tells: read as far as it goes, judged by the rules of today, never raising."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import MAX_BODY
from protocol.inspection import inspect
from protocol.reasons import Reason
from tests.builders import an_imei

IMEI = an_imei(1)
TOPIC = f"scu/v1/{IMEI.partition}/{IMEI}/heartbeat"
SOUND = '{"v":1,"boot":1,"seq":1,"mode":"enabled","epoch":0'

PATHS = st.sampled_from(
    ["", "/seq", "/readings/x", "/backlog/0", "/backlog/0/readings/~1~0", "/a/b", "/", "//"]
)
TOPICS = st.sampled_from([TOPIC, TOPIC.replace("heartbeat", "ack"), "", "a/\0/b", "scu/v1/00/x/heartbeat"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BODIES = (
    st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.text().map(lambda rest: (SOUND + rest).encode("utf-8", "surrogatepass"))
)


def found(body: bytes, path: str = "") -> list[tuple[Reason, str]]:
    return [(finding.reason, finding.path) for finding in inspect(TOPIC, body, path).findings]


def test_a_sound_message_has_nothing_wrong_with_it() -> None:
    seen = inspect(TOPIC, (SOUND + "}").encode())

    assert (seen.readable, seen.complete, seen.findings) == (True, True, ())
    assert seen.document == json.loads(SOUND + "}")
    assert seen.levels == ("scu", "v1", IMEI.partition, IMEI, "heartbeat")


def test_a_message_that_breaks_off_is_shown_as_far_as_it_goes() -> None:
    seen = inspect(TOPIC, (SOUND + ',"fw":"2.4').encode())

    assert (seen.readable, seen.complete) == (False, False)
    assert seen.document == json.loads(SOUND + "}")
    assert [one.reason for one in seen.findings] == [Reason.NOT_JSON]


def test_a_message_that_would_be_read_less_some_pieces_names_them() -> None:
    body = SOUND + ',"readings":{"panel_v":"high","soc_pct":88},"backlog":[{"seq":2}]}'

    seen = inspect(TOPIC, body.encode())

    assert seen.readable
    assert found(body.encode()) == [
        (Reason.INVALID_READING, "/readings/panel_v"),
        (Reason.INVALID_BACKLOG_ENTRY, "/backlog/0"),
    ]


@pytest.mark.parametrize(
    ("path", "piece", "readable"),
    [
        ("/readings/panel_v", "12.5", True),
        ("/readings/panel_v", '"high"', False),
        ("/readings/PANEL", "12.5", False),
        ("/backlog/7", '{"seq":1,"mode":"enabled","epoch":0}', True),
        ("/backlog/7", '{"seq":1,"mode":"on","epoch":0}', False),
        ("/backlog/7/readings/panel_v", "true", False),
        ("/backlog/7/readings/tamper", "true", True),
    ],
)
def test_a_piece_is_judged_where_it_stood(path: str, piece: str, *, readable: bool) -> None:
    seen = inspect(TOPIC, piece.encode(), path)

    assert seen.readable is readable
    assert {finding.path for finding in seen.findings} == (set() if readable else {path})


def test_a_whole_message_that_stands_for_its_rest_is_not_taken_for_a_piece() -> None:
    """Beyond a hundred pieces the last dead letter of a message holds all of it."""
    pieces = ",".join(f'"BAD{number}":1' for number in range(150))

    seen = inspect(TOPIC, f'{SOUND},"readings":{{{pieces}}}}}'.encode(), "/readings/BAD100")

    assert seen.readable
    assert (len(seen.findings), seen.unshown) == (100, 50)


def test_a_body_of_which_only_the_beginning_was_kept_is_still_too_large() -> None:
    body = (SOUND + ',"x":"' + "a" * MAX_BODY).encode()[: MAX_BODY + 1]

    seen = inspect(TOPIC, body)

    assert found(body) == [(Reason.TOO_LARGE, "")]
    assert (seen.complete, seen.document["mode"]) == (False, "enabled")


@given(TOPICS, BODIES, PATHS)
def test_whatever_came_is_told_and_can_be_told_on(topic: str, body: bytes, path: str) -> None:
    seen = inspect(topic, body, path)

    assert seen.readable or seen.findings
    written: Any = json.loads(json.dumps(seen.document, allow_nan=False))
    assert written == seen.document
    assert all("\0" not in one.path + one.detail for one in seen.findings)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 10_000,
        b"[" * 60_000,
        b'{"a":' * 150 + b"1" + b"}" * 150,
        SOUND.encode() + b',"x":' + b"9" * 5_000 + b"}",
        SOUND.encode() + b',"x":' + b"9" * 4_000 + b"}",
        SOUND.encode() + b',"x":-1e999}',
        SOUND.encode() + b',"x":"\\ud800"}',
        b"\x1f\x8b\x08",
        b"\xef\xbb\xbf{}",
        b"\xff" * 70_000,
        b"",
    ],
)
def test_odd_bodies_are_told_too(body: bytes) -> None:
    json.dumps(inspect(TOPIC, body).document, allow_nan=False)
