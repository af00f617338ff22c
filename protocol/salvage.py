"""What stays of a message in which a reading or a backlog entry is wrong: everything else.

One path for good and bad alike: the document is validated, the pieces that the errors name are cut out,
and the rest is validated again, until it holds or the message itself is at fault.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from protocol.flaws import flaw, storable
from protocol.messages import MAX_BACKLOG, Message
from protocol.reasons import Fault, Reason, Unreadable

M = TypeVar("M", bound=Message)
Place = tuple[int | str, ...]

_DETAIL = 200  # characters
_STEP = 64  # characters of a key that a path repeats; longer ones name nothing known
_NAMED_BY_ERROR = {reason.value: reason for reason in Reason}


def salvaged(model: type[M], document: dict[str, Any]) -> tuple[M, tuple[Fault, ...]]:
    """Read a message and tell what of it was lost; the document is changed on the way."""
    faults: list[Fault] = []
    origins: Sequence[int] = range(MAX_BACKLOG)  # where each backlog entry stood when it was sent
    while True:
        try:
            return model.__pydantic_validator__.validate_python(document), tuple(faults)
        except ValidationError as error:
            lost = _lost(error)
            faults += [_fault(document, place, details, origins) for place, details in lost.items()]
            origins = _cut(document, lost, origins)


def _lost(error: ValidationError) -> dict[Place, ErrorDetails]:
    """Name the pieces at fault, each with its first error; what is inside a lost entry is lost with it."""
    lost: dict[Place, ErrorDetails] = {}
    for details in error.errors(include_url=False, include_context=False):
        lost.setdefault(_piece(details), details)
    return {place: lost[place] for place in lost if place[:2] == place or place[:2] not in lost}


def _piece(details: ErrorDetails) -> Place:
    """Tell which piece the error costs, or refuse the message."""
    match details["loc"]:
        case ("readings", name, *_):
            return ("readings", name)
        case ("backlog", index, "readings", name, *_):
            return ("backlog", index, "readings", name)
        case ("backlog", index, *_):
            return ("backlog", index)
        case field:
            raise Unreadable(
                details["msg"][:_DETAIL],
                reason=_reason(details, Reason.INVALID_FIELD),
                path=_pointer(field[:1]),
            )


def _fault(document: dict[str, Any], place: Place, details: ErrorDetails, origins: Sequence[int]) -> Fault:
    piece: Any = document
    for step in place:
        piece = piece[step]
    path, detail = place, details["msg"]
    reason = Reason.NOT_FINITE if _is_beyond(piece) else Reason.INVALID_READING
    match place:
        case ("backlog", int() as index, *inner):
            path = ("backlog", origins[index], *inner)
            if not inner:
                reason = Reason.INVALID_BACKLOG_ENTRY
                detail = ": ".join([*map(str, details["loc"][2:3]), detail])
    return Fault(
        reason=_reason(details, reason),
        path=_pointer(path),
        detail=storable(detail)[:_DETAIL],
        piece=storable(piece),
    )


def _cut(document: dict[str, Any], lost: Iterable[Place], origins: Sequence[int]) -> Sequence[int]:
    """Take the lost pieces out of the document; answer where the entries that stay came from."""
    entries: set[int | str] = set()
    for place in lost:
        match place:
            case ("readings", name):
                del document["readings"][name]
            case ("backlog", index, "readings", name):
                del document["backlog"][index]["readings"][name]
            case _:
                entries.add(place[1])
    if not entries:
        return origins
    stay = [index for index in range(len(document["backlog"])) if index not in entries]
    document["backlog"] = [document["backlog"][index] for index in stay]
    return [origins[index] for index in stay]


def _reason(details: ErrorDetails, otherwise: Reason) -> Reason:
    """Name a flaw where the value has one; an object or array is judged by its own error alone."""
    if details["type"] in _NAMED_BY_ERROR:
        return _NAMED_BY_ERROR[details["type"]]
    if isinstance(details["input"], dict | list):
        return otherwise
    return flaw(details["input"]) or otherwise


def _is_beyond(piece: object) -> bool:
    """Whether it is a whole number larger than any that a reading can be, as 1e999 is in another spelling."""
    return isinstance(piece, int) and abs(piece) > sys.float_info.max


def _pointer(place: Place) -> str:
    """Write a JSON pointer (RFC 6901)."""
    steps = (storable(str(step)[:_STEP]).replace("~", "~0").replace("/", "~1") for step in place)
    return "".join(f"/{step}" for step in steps)
