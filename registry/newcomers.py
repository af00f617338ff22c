"""Units that a maker announces: one, or a CSV of many, each line checked before it is let in.

The columns are named by the header, in any order; a byte-order mark and CRLF are taken as they
come. A line that fails is told with its number, its field and the reason; the others go on. No cell
holds a line end, so each line is read by itself: a quote that is left open costs its own line only.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protocol.identity import Imei, SerialNumber
from registry import entities, intervals, product_types, wording
from runtime.errors import HeliographError, Invalid

BYTE_ORDER_MARK = "\ufeff"
LINE_MAX = 65_536  # bytes
DIGITS_LIMIT = 18  # every number of so many digits fits into 64 bits

REQUIRED = ("imei", "serial_number")
OPTIONAL = ("entity_id", "product_type", "expected_interval_s")


class BadNumber(Invalid):
    """This is not a number."""


class BadLine(Invalid):
    """A line of a CSV is not as it must be."""


class BadHeader(Invalid):
    """The first line does not name the columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A unit to be enrolled."""

    imei: Imei
    serial_number: SerialNumber
    entity_id: int = entities.UNKNOWN
    product_type: str | None = None
    expected_interval_s: int | None = None
    """Of this unit alone; None leaves it to its product type."""

    def __post_init__(self) -> None:
        if self.product_type is not None:
            object.__setattr__(
                self,
                "product_type",
                wording.line(self.product_type, "product_type", product_types.NAME_LIMIT),
            )
        if self.expected_interval_s is not None:
            intervals.require_sane(self.expected_interval_s)


class Outcome(StrEnum):
    """What became of a line."""

    ENROLLED = "enrolled"
    ALREADY_ENROLLED = "already_enrolled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one line, and why."""

    line: int
    outcome: Outcome
    field: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """A line that reads well."""

    line: int
    newcomer: Newcomer


def refusal(line: int, error: HeliographError) -> Verdict:
    """Tell why a line was refused; the error's facts name the field."""
    field = error.facts.get("field")
    return Verdict(
        line=line,
        outcome=Outcome.REFUSED,
        field=None if field is None else str(field),
        reason=error.message,
    )


def read(lines: Iterable[str]) -> Iterator[Announced | Verdict]:
    """Read a CSV line by line; `BadHeader` comes before the first."""
    numbered = enumerate(lines, 1)
    _, first = next(numbered, (1, ""))
    columns = _header(first.removeprefix(BYTE_ORDER_MARK))
    for line, text in numbered:
        try:
            if len(text) > LINE_MAX:
                raise BadLine(f"The line is longer than {LINE_MAX} bytes, its end included.")
            if cells := _cells(text):
                yield Announced(line=line, newcomer=_newcomer(columns, cells))
        except csv.Error as error:
            yield refusal(line, BadLine(f"The line is not well-formed CSV: {error}."))
        except Invalid as error:
            yield refusal(line, error)


def _cells(line: str) -> list[str]:
    return next(csv.reader([line], strict=True), [])


def _header(line: str) -> list[str]:
    try:
        columns = [name.strip().lower() for name in _cells(line)]
    except csv.Error as error:
        raise BadHeader(f"The first line is not well-formed CSV: {error}.") from None
    known = {*REQUIRED, *OPTIONAL}
    if not set(REQUIRED) <= set(columns) <= known or len(set(columns)) < len(columns):
        raise BadHeader(
            f"The first line must name the columns {', '.join(REQUIRED)} and may name {', '.join(OPTIONAL)}, "
            "each once, separated by commas.",
            missing=[name for name in REQUIRED if name not in columns],
            unknown=[ascii(name) for name in columns if name not in known],
        )
    return columns


def _newcomer(columns: list[str], cells: list[str]) -> Newcomer:
    if len(cells) != len(columns):
        raise BadLine(f"The line has {len(cells)} cells; the header names {len(columns)}.")
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    return Newcomer(
        **{
            name: _cell(name, kind, given[name])
            for name, kind in _KINDS.items()
            if name in REQUIRED or given.get(name)
        }
    )


def _cell(field: str, kind: Callable[[str], Any], text: str) -> Any:
    try:
        return kind(text)
    except Invalid as error:
        raise BadLine(error.message, field=field) from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_LIMIT):
        raise BadNumber("A number is written with the digits 0 to 9 alone.")
    return int(text)


_KINDS: Mapping[str, Callable[[str], Any]] = {
    "imei": Imei,
    "serial_number": SerialNumber,
    "entity_id": _number,
    "product_type": str,
    "expected_interval_s": _number,
}
