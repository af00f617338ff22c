"""`python -m runtime settings`: every variable with default, meaning and where it is used."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.table import Table

from runtime.entry import enter
from runtime.settings import CONCERNS, PREFIX

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def door() -> None:
    """Tell about the ground that every process stands on."""


@app.command()
def settings(*, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List every variable that Heliograph reads."""
    found = variables()
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table("variable", "default", "meaning", title=None)
    for entry in found:
        table.add_row(entry["name"], entry["default"], entry["meaning"])
    Console().print(table)


def variables() -> list[dict[str, Any]]:
    """Describe every setting: name, concern, default (text) and meaning."""
    return [
        {
            "name": PREFIX + name.upper(),
            "concern": concern.__name__,
            "default": "required" if field.default is PydanticUndefined else _told(field.default),
            "meaning": field.description or "",
        }
        for concern in CONCERNS
        for name, field in concern.model_fields.items()
    ]


def _told(default: object) -> str:
    return "none" if default is None else str(default)


if __name__ == "__main__":
    enter(app)
