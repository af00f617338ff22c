"""Numbers that a command line takes: its ranges let `nan` through, and some of them `inf`."""

from __future__ import annotations

from math import isfinite

import typer


def finite(given: float | None) -> float | None:
    """Refuse what no clock and no die can go by."""
    if given is not None and not isfinite(given):
        raise typer.BadParameter(f"{given} is no number to go by; write one with digits.")
    return given
