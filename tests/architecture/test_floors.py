"""The shape of the tree: which rooms there are, what they may import, and how large their parts may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "runtime", "protocol", "storage", "registry", "telemetry", "commands", "gateway", "api", "simulator"
}  # fmt: skip
PLAN = ROOMS | {"deploy", "bench", "tests", "docs"}
NO_NAMES = {"common", "core", "shared", "util", "utils", "helper", "helpers", "manager", "managers"}
DEPTH = 2  # folders
MODULE_LINES = 400
FUNCTION_LINES = 60


def test_an_import_goes_down_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")

    told = subprocess.run(
        [linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert told.returncode == 0, told.stdout + told.stderr


def test_every_room_is_under_the_import_contracts() -> None:
    linted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [layers] = [contract["layers"] for contract in linted["contracts"] if contract["type"] == "layers"]

    assert {room for layer in layers for room in layer.split(" | ")} == ROOMS
    assert set(linted["root_packages"]) >= ROOMS


def test_every_top_level_folder_is_on_the_plan() -> None:
    found = {path.name for path in ROOT.iterdir() if path.is_dir() and not _built(path)}

    assert found <= PLAN
    assert found >= ROOMS


def test_nothing_is_called_by_a_name_that_says_nothing() -> None:
    named = {part for path in modules() for part in (*path.parent.parts, path.stem)}

    assert not named & NO_NAMES


def test_folders_are_two_deep_at_most() -> None:
    assert [str(path) for path in modules() if len(path.parent.parts) > DEPTH] == []


def test_modules_of_rooms_stay_short() -> None:
    long = {
        str(path): lines
        for path in modules()
        if path.parts[0] != "tests"
        and (lines := len((ROOT / path).read_text(encoding="utf-8").splitlines())) > MODULE_LINES
    }

    assert long == {}


def test_functions_stay_short() -> None:
    long = {
        f"{path}:{node.name}": lines
        for path in modules()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    }

    assert long == {}


def test_every_module_says_in_a_sentence_what_it_is_for() -> None:
    silent = [
        str(path)
        for path in modules()
        if parsed(path).body
        and not (ast.get_docstring(parsed(path)) or "").partition("\n")[0].endswith((".", ":"))
    ]

    assert silent == []


def test_no_two_tests_have_the_same_file_name() -> None:
    names = Counter(path.name for path in modules() if path.name.startswith("test_"))

    assert [name for name, times in names.items() if times > 1] == []


def modules() -> Iterator[Path]:
    """Give every module of the tree, relative to its root."""
    for folder in ROOT.iterdir():
        if folder.is_dir() and not _built(folder):
            yield from (path.relative_to(ROOT) for path in folder.rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def _built(folder: Path) -> bool:
    """Whether a folder is made by tools and is no part of the repository."""
    return folder.name.startswith(".") or folder.name in {"__pycache__", "out"}
