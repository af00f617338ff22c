"""Free text: one printable line of bounded length."""

from __future__ import annotations

import pytest

from registry.wording import BadText, line, reason


def test_white_space_is_made_single() -> None:
    assert line("  sent\tto\r\nGoma ", "reason", 20) == "sent to Goma"


@pytest.mark.parametrize("text", ["", "  \n", "a" * 501, "a\0b", "a\x1b[31mb", "a\udcffb", "a\u202eb"])
def test_what_is_empty_or_long_or_not_printable_is_refused(text: str) -> None:
    with pytest.raises(BadText) as refused:
        reason(text)

    assert refused.value.facts["field"] == "reason"


def test_names_of_every_script_are_printable() -> None:
    assert line("Énergie du Kivu — ኢትዮጵያ", "name", 50) == "Énergie du Kivu — ኢትዮጵያ"
