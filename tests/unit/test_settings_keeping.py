"""How long heartbeats are kept: what makes no sense is refused at the start, by the name of its setting."""

from __future__ import annotations

import pytest

from runtime.settings import BadSetting, Keeping, read


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"KEEP_HEARTBEATS_DAYS": "59"}, "KEEP_HEARTBEATS_DAYS"),
        ({"KEEP_HEARTBEATS_DAYS": "1000000"}, "KEEP_HEARTBEATS_DAYS"),
        ({"KEEP_HEARTBEATS_DAYS": "for ever"}, "KEEP_HEARTBEATS_DAYS"),
        ({"KEEP_HEARTBEATS_DAYS": "400", "KEEP_HOURS_DAYS": "399"}, "KEEP_HOURS_DAYS"),
        ({"KEEP_HEARTBEATS_DAYS": "4000"}, "KEEP_HOURS_DAYS"),
        ({"KEEP_HOURS_DAYS": "1000000"}, "KEEP_HOURS_DAYS"),
        ({"COMPRESS_AFTER_DAYS": "52"}, "COMPRESS_AFTER_DAYS"),
    ],
)
def test_a_span_that_makes_no_sense_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], named: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"HELIOGRAPH_{name}", value)

    with pytest.raises(BadSetting) as refused:
        read(Keeping)

    assert refused.value.facts == {"setting": f"HELIOGRAPH_{named}"}


def test_hours_may_be_kept_as_long_as_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEP_HEARTBEATS_DAYS", "KEEP_HOURS_DAYS"):
        monkeypatch.setenv(f"HELIOGRAPH_{name}", "60")

    assert read(Keeping).keep_hours_days == read(Keeping).keep_heartbeats_days == 60
