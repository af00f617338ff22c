"""What JSON can say and the wire forbids everywhere: a repeated key, a NUL character, a number not finite."""

from __future__ import annotations

from math import isfinite
from typing import Any

from protocol.reasons import Reason


class Repeated:
    """Stands where a key was given more than once: no field accepts it."""

    __slots__ = ("values",)

    def __init__(self, values: list[Any]) -> None:
        self.values = values


def flag_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object of its pairs, with `Repeated` under the keys that occur twice."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    repeated: dict[str, Repeated] = {}
    for key, value in pairs:
        if key in repeated:
            repeated[key].values.append(value)
        elif key in found:
            found[key] = repeated[key] = Repeated([found[key], value])
        else:
            found[key] = value
    return found


def flaw(value: Any) -> Reason | None:
    """Find one flaw in a value, however deep; a loop, because depth is the sender's choice."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case Repeated():
                return Reason.DUPLICATE_KEY
            case str() as text if "\0" in text:
                return Reason.NUL_CHARACTER
            case float() as number if not isfinite(number):
                return Reason.NOT_FINITE
            case dict() as mapping:
                waiting.extend(mapping.keys())
                waiting.extend(mapping.values())
            case list() as items:
                waiting.extend(items)
    return None


def storable(value: Any) -> Any:
    """Rewrite what JSON or the database cannot carry as text that shows it."""
    match value:
        case Repeated():
            return storable(value.values)
        case str():
            return value.replace("\0", "\\u0000")
        case float() if not isfinite(value):
            return str(value)
        case dict():
            return {storable(key): storable(each) for key, each in value.items()}
        case list():
            return [storable(each) for each in value]
    return value
