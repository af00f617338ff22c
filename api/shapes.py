"""What requests and answers are made of: frozen shapes without unknown fields, bounded numbers and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from registry import wording
from registry.entities import BIGINT_MAX
from registry.intervals import INTERVAL_MAX_S

CENTURY = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
"""No unit spoke before, and none will after."""

_DAY = re.compile(r"\d{4}-\d\d-\d\d[Tt]", re.ASCII)


class Shape(BaseModel):
    """What every request and answer has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _written_out(text: object) -> object:
    written = isinstance(text, datetime) or (isinstance(text, str) and _DAY.match(text))
    if not written:  # pydantic would take 1700000000 for a time
        raise ValueError("write it as RFC 3339: 2026-06-01T12:00:00Z")
    return text


Count = Annotated[int, Field(ge=0, le=BIGINT_MAX)]
Id = Annotated[int, Field(ge=1, le=BIGINT_MAX)]
BodyId = Annotated[Id, Field(strict=True)]
Interval = Annotated[
    int, Field(strict=True, ge=1, le=INTERVAL_MAX_S, description="Seconds between two contacts.")
]
Reason = Annotated[str, AfterValidator(wording.reason), Field(description="Why; the audit keeps it.")]
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_written_out),
    Field(ge=CENTURY[0], le=CENTURY[1], description="RFC 3339, with its offset from UTC."),
]


class Word(Shape):
    """Why somebody says so."""

    reason: Reason
