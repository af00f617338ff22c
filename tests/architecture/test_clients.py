"""The independent client proves the wire contract only as long as it shares no line with us."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "tests" / "acceptance" / "independent_client.py"


def test_the_independent_client_imports_nothing_of_ours() -> None:
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()} | {CLIENT.parent.name}

    assert set(imported(ast.parse(CLIENT.read_text(encoding="utf-8")))) & ours == set()


def imported(module: ast.Module) -> Iterator[str]:
    """Name the top of everything imported; what is relative or found at run time counts as ours."""
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                yield from (name.name.partition(".")[0] for name in names)
            case ast.ImportFrom(level=0, module=str(name)):
                yield name.partition(".")[0]
            case ast.ImportFrom() | ast.Name(id="__import__" | "importlib"):
                yield CLIENT.parent.name
