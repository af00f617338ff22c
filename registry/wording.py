"""Free text that people give: one printable line of bounded length."""

from __future__ import annotations

from runtime.errors import Invalid

REASON_LIMIT = 500


class BadText(Invalid):
    """A text is empty, too long, or holds what cannot be printed."""


def line(text: str, field: str, limit: int) -> str:
    """Give the text with white space made single; `BadText` names the field."""
    joined = " ".join(text.split())
    if not joined:
        raise BadText(f"{field} is missing; write at least a word.", field=field)
    if len(joined) > limit:
        raise BadText(f"{field} is longer than {limit} characters.", field=field, limit=limit)
    if not joined.isprintable():
        raise BadText(f"{field} holds characters that cannot be printed.", field=field)
    return joined


def reason(text: str) -> str:
    """Give the reason that every change in the field must state."""
    return line(text, "reason", REASON_LIMIT)
