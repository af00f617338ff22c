"""Tables as CSV (RFC 4180), sent while they are read, and harmless in a spreadsheet.

A sheet that breaks off is cut: it comes in chunks, and the last one is missing. No caller takes a
part for the whole.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO

from starlette.responses import StreamingResponse

Row = Sequence[object]

FORMULA = re.compile(r"\A(?=[=+\-@\t\r\n])|(?<=[;\t])(?=[=+\-@])")
"""Where a text would be computed by a spreadsheet, not shown: at its beginning, and behind a semicolon or
a tab, which part columns in many of them, quotation marks or not."""

FORMULA_IN_JSON = re.compile(r"(?<=;)[=+\-@]")
"""Likewise in JSON, where tabs are written out and a character may be told by its number."""


class Csv(StreamingResponse):
    """A CSV file."""

    media_type = "text/csv"


def sheet(name: str, columns: Sequence[str], batches: AsyncIterable[Iterable[Row]]) -> Csv:
    """Give a file under a name, made of batches of rows."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Csv(
        _parts(columns, batches), headers=headers, media_type="text/csv; charset=utf-8; header=present"
    )


async def _parts(columns: Sequence[str], batches: AsyncIterable[Iterable[Row]]) -> AsyncIterator[str]:
    yield written([columns])
    async for batch in batches:
        yield written(batch)


def written(rows: Iterable[Row]) -> str:
    """Write rows down."""
    text = StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _inert(text: str) -> str:
    return FORMULA_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _cell(value: object) -> object:
    """Write one value: times in UTC, an object as JSON, nothing as nothing; numbers stay what they are."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return FORMULA.sub("'", value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Mapping():
            return _inert(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) if value else None
        case _:
            return value
