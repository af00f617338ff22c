"""What an unread message or a lost piece still tells, and whether it would be read today.

Nothing here raises: what cannot be told is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from json import dumps
from typing import Any, Final

from pydantic_core import from_json

from protocol.codec import MAX_BODY, decode
from protocol.flaws import storable
from protocol.reasons import Reason, Unreadable

_SHOWN: Final = 100  # faults of one message
_NESTED: Final = 100  # levels that are shown of a document
_LARGEST: Final = 2**63  # integers beyond it are shown as text: not every reader of JSON has them
_SOUND: Final[dict[str, Any]] = {"v": 1, "boot": 1, "seq": 1, "mode": "enabled", "epoch": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong today; `path` (JSON pointer) is "" for the whole."""

    reason: Reason
    path: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A message as far as it can be read.

    `levels` are the topic's. `document` is the JSON as far as it can be parsed; `complete` when that
    is all of the body. `readable` when it would be read today, less the pieces that `findings` name;
    `unshown` findings are not listed.
    """

    levels: tuple[str, ...]
    document: Any
    complete: bool
    readable: bool
    findings: tuple[Finding, ...]
    unshown: int


def inspect(topic: str, body: bytes, path: str = "") -> Inspection:
    """Look at a body again; `path` is where it stood if it is a piece of a message."""
    document, complete = _parsed(body)
    piece = _steps(path) if complete and _is_piece(document, path) else ()
    readable, findings = _judged(topic, _carried(piece, document) if piece else body)
    if piece:
        findings = [replace(one, path=path) for one in findings]
    return Inspection(
        levels=tuple(topic.split("/")),
        document=_shown(storable(document)),
        complete=complete,
        readable=readable and not (piece and findings),
        findings=tuple(findings[:_SHOWN]),
        unshown=max(0, len(findings) - _SHOWN),
    )


def _judged(topic: str, body: bytes) -> tuple[bool, list[Finding]]:
    try:
        decoded = decode(topic, body)
    except Unreadable as error:
        return False, [Finding(reason=error.reason, path=error.path, detail=error.message)]
    return True, [Finding(reason=one.reason, path=one.path, detail=one.detail) for one in decoded.faults]


def _parsed(body: bytes) -> tuple[Any, bool]:
    """Parse a body, or its beginning as far as that is JSON; tell whether it is all of it."""
    for partial in (False, True):
        try:
            return from_json(body[:MAX_BODY], allow_partial=partial), not partial and len(body) <= MAX_BODY
        except ValueError:
            continue
    return None, False


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _is_piece(document: Any, path: str) -> bool:
    """Whether a document is what a path of two steps or more leads to, and not the message around it."""
    steps = _steps(path)
    return len(steps) > 1 and not (isinstance(document, dict) and steps[0] in document)


def _carried(steps: Sequence[str], piece: Any) -> bytes:
    """Give a sound heartbeat that carries a piece where it stood, backlog entries as the only one."""
    carrier: dict[str, Any]
    match steps:
        case ("readings", name, *_):
            carrier = {"readings": {name: piece}}
        case (_, _, "readings", name, *_):
            entry = {name: value for name, value in _SOUND.items() if name not in {"v", "boot"}}
            carrier = {"backlog": [entry | {"readings": {name: piece}}]}
        case _:
            carrier = {"backlog": [piece]}
    return dumps(_SOUND | carrier).encode()


def _shown(value: Any, depth: int = 0) -> Any:
    """Cut what is nested too deeply to be told on, and write out integers that few can read."""
    match value:
        case dict() | list() if depth == _NESTED:
            return "…"
        case dict():
            return {key: _shown(each, depth + 1) for key, each in value.items()}
        case list():
            return [_shown(each, depth + 1) for each in value]
        case int() if abs(value) >= _LARGEST:
            return hex(value)
    return value
