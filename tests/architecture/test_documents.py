"""What the documents name exists: links, paths, commands, settings, figures; what they copy is up to date."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from commands import plans
from commands.belief import Ground, Power
from commands.forecast import Outlook, WaitsFor
from commands.selection import Exclusion
from commands.states import State
from commands.waves import Hold
from deploy import documents
from protocol.reasons import Reason
from telemetry.rhythm import Basis
from tests.architecture.test_floors import ROOMS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
README_LINES = 120

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
COMMAND = re.compile(r"python -m ([\w.]+)((?: [a-z][a-z-]*(?![\w.@/]))*)([^`\n]*)")
OPTION = re.compile(r"--[a-z][a-z-]*")
MAKE_WORD = re.compile(r"`make ([a-z-]+)")
MAKE_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
SETTING = re.compile(r"HELIOGRAPH_[A-Z_]*[A-Z]")
FIGURE = re.compile(r"\bheliograph_[a-z_]+[a-z]\b")
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|work|Users|mnt)/\w")
REGISTRY = re.compile(
    r"(?:(?<!emit-)index-url|find-links|pypi\.org|pythonhosted\.org|--trusted-host|\[\[tool\.uv\.index)"
)
TEXT = {".py", ".sql", ".md", ".toml", ".txt", ".json", ".yaml", ".yml", ".sh", ".cfg", ""}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(document: Path) -> None:
    text = document.read_text(encoding="utf-8")

    assert documents.renewed(text) == text, "type `make documents`"


def test_every_generated_part_stands_somewhere() -> None:
    placed = re.findall(r"^<!-- generated: (\w+) -->$", "".join(map(_text, DOCUMENTS)), re.MULTILINE)

    assert sorted(placed) == sorted(documents.PARTS)


def test_the_readme_is_short() -> None:
    assert len(_text(ROOT / "README.md").splitlines()) < README_LINES


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert "## [Unreleased]" in _text(ROOT / "CHANGELOG.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    assert [link for link in LINK.findall(_text(document)) if not _leads(document, link)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != ".heliograph"}
    named = {code for code in CODE.findall(_text(document)) if re.fullmatch(r"[\w.-]+/[\w./-]*", code)}

    assert [path for path in named if path.split("/")[0] in tops and not (ROOT / path).exists()] == []


def test_every_command_that_is_named_answers_and_has_the_options_that_are_named() -> None:
    named = [found for document in DOCUMENTS for found in COMMAND.findall(_text(document))]
    ours = {found for found in named if (ROOT / found[0].replace(".", "/")).is_dir()}

    lacking = {
        f"{module}{words}": lacks for module, words, rest in ours if (lacks := _lacking(module, words, rest))
    }

    assert {module for module, _, _ in ours} >= ROOMS - {"protocol", "telemetry", "commands"}
    assert lacking == {}


def test_every_make_word_that_is_named_is_one() -> None:
    targets = set(MAKE_TARGET.findall(_text(ROOT / "Makefile")))

    assert {word for document in DOCUMENTS for word in MAKE_WORD.findall(_text(document))} - targets == set()


@pytest.mark.parametrize("named", [SETTING, FIGURE])
def test_every_setting_and_every_figure_that_is_named_is_in_the_code(named: re.Pattern[str]) -> None:
    code = "".join(_text(path) for path in _sources() if path.suffix in {".py", ".sql"})
    code += documents.settings_table()  # names that the code puts together

    found = {name for document in DOCUMENTS for name in named.findall(_text(document))}

    assert [name for name in sorted(found) if name.removesuffix("_total") not in code] == []


def test_every_word_of_a_plan_is_explained() -> None:
    text = _text(ROOT / "docs/plans.md")

    words = [*plans.State, *Exclusion, *Hold]
    assert [word for word in words if f"`{word}`" not in text] == []


def test_every_state_of_a_command_is_explained() -> None:
    text = _text(ROOT / "docs/commands.md")

    assert [state for state in State if f"| `{state}` |" not in text] == []


@pytest.mark.parametrize("words", [Power, Ground, WaitsFor, Outlook, Basis])
def test_every_word_of_a_belief_and_of_a_forecast_is_explained(words: Iterable[str]) -> None:
    text = _text(ROOT / "docs/commands.md")

    assert [word for word in words if f"`{word}`" not in text] == []


def test_reasons_that_are_never_given_are_told_as_such() -> None:
    code = "".join(_text(path) for room in sorted(ROOMS) for path in (ROOT / room).rglob("*.py"))
    never = {str(reason) for reason in Reason if f"Reason.{reason.name}" not in code}
    told = re.findall(r"^Never given by this release: (.*)$", _text(ROOT / "docs/protocol.md"), re.MULTILINE)

    assert {code for line in told for code in CODE.findall(line)} == never


def test_no_file_names_a_folder_of_one_machine() -> None:
    assert _naming(MACHINE, _sources()) == []


def test_no_file_names_a_package_registry() -> None:
    assert _naming(REGISTRY, [path for path in _sources() if path != Path(__file__)]) == []
    assert _naming(re.compile("https?://"), ROOT.glob("requirements*.txt")) == []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _leads(document: Path, link: str) -> bool:
    """Tell whether a link is to the web, or to a file of ours and a heading that it has."""
    if link.startswith(("http://", "https://")):
        return True
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(document: Path) -> set[str]:
    """Give the anchors of a document's headings as forges make them."""
    headings = HEADING.findall(re.sub(r"^```.*?^```", "", _text(document), flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _lacking(module: str, words: str, rest: str) -> set[str]:
    """Ask a command for help and tell which options, of those that a document gives it, it does not know."""
    app = import_module(f"{module}.__main__").app
    if CliRunner().invoke(app, [*words.split(), "--help"]).exit_code:
        return {"--help"}
    command: Any = get_command(app)
    for word in words.split():
        command = command.commands[word]
    return {*OPTION.findall(rest)} - {name for param in command.params for name in param.opts}


def _sources() -> Iterator[Path]:
    """Give every text file of the repository."""
    for top in ROOT.iterdir():
        if top.is_file():
            yield from [top] if top.suffix in TEXT else []
        elif top.name == ".ci" or (not top.name.startswith(".") and top.name != "out"):
            yield from (path for path in top.rglob("*") if path.is_file() and path.suffix in TEXT)


def _naming(pattern: re.Pattern[str], files: Iterable[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {found[0]}" for path in files if (found := pattern.search(_text(path)))
    ]
