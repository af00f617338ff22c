"""Every error of every room has a title, a status and an address; what is wrong on our side stays inside."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api import problems
from api.wiring import bare
from commands.policy import NotEnabled
from protocol.identity import NotAnImei, NotASerialNumber
from runtime.errors import Conflict, Forbidden, HeliographError, Invalid, NotFound, Unavailable
from tests.calling import caller, problem

ROOT = Path(__file__).parents[2]


class LampBroken(Unavailable):
    """The lamp is broken."""


def ours() -> Iterator[type[HeliographError]]:
    """Give every error of every room."""
    rooms = {init.parent.name for init in ROOT.glob("*/__init__.py")} - {"tests", "deploy", "bench"}
    for room in rooms:
        for module in pkgutil.walk_packages([str(ROOT / room)], f"{room}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return (kind for kind in problems.kinds() if kind.__module__.partition(".")[0] in rooms)


def test_every_error_has_a_title_a_status_and_a_name_of_its_own() -> None:
    kinds = list(ours())

    untitled = [
        kind for kind in kinds if "__doc__" not in vars(kind) or not problems.title(kind).endswith(".")
    ]
    homeless = [
        kind
        for kind in kinds
        if problems.status_of(kind) == 500 and HeliographError not in (kind, *kind.__bases__)
    ]
    names = Counter(problems.slug(kind) for kind in set(kinds))
    assert len(kinds) > 40
    assert untitled == []
    assert homeless == []
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Invalid, 422),
        (NotFound, 404),
        (Conflict, 409),
        (Forbidden, 403),
        (Unavailable, 503),
        (problems.Unauthenticated, 401),
        (problems.MalformedJson, 400),
        (NotEnabled, 409),
        (HeliographError, 500),
    ],
)
def test_a_kind_has_its_status(kind: type[HeliographError], status: int) -> None:
    assert problems.status_of(kind) == status


def test_names_are_kebab_case() -> None:
    assert [problems.slug(kind) for kind in (NotAnImei, NotASerialNumber)] == [
        "not-an-imei",
        "not-a-serial-number",
    ]


def test_facts_become_members_and_cannot_pose_as_the_problem() -> None:
    at = datetime(2026, 6, 1, tzinfo=UTC)
    error = NotEnabled("Not now.", status="mine", type="mine", at=at, ids={1}, text="\ud800\x1b")

    answer = problems.told(error, "r1")

    assert json.loads(bytes(answer.body)) == {
        "type": "/problems/not-enabled",
        "title": "Only an enabled unit can be offline-disabled.",
        "status": 409,
        "detail": "Not now.",
        "request_id": "r1",
        "at": "2026-06-01T00:00:00+00:00",
        "ids": "{1}",
        "text": "\ud800\x1b",
    }


def test_what_is_wrong_on_our_side_is_told_by_its_kind_alone() -> None:
    answer = problems.told(LampBroken("connection to 10.0.0.7 refused", why="password"), "r1")

    told = json.loads(bytes(answer.body))
    assert (answer.status_code, told["detail"]) == (503, "The lamp is broken.")
    assert b"10.0.0.7" not in answer.body
    assert b"password" not in answer.body
    assert answer.headers["retry-after"] == "5"


async def test_a_problem_is_explained_at_its_own_address() -> None:
    async with caller(bare()) as http:
        explained = await http.get("/problems/not-enabled")
        missing = await http.get("/problems/no-such-thing")

    assert explained.json()["status"] == 409
    assert explained.json()["title"] == "Only an enabled unit can be offline-disabled."
    assert problem(missing) == (404, "problem-not-found")
