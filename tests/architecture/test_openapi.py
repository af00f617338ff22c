"""The committed OpenAPI document is what the application says of itself, and says enough."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.wiring import bare

COMMITTED = Path(__file__).parents[2] / "api" / "openapi.json"
OPEN = {"/healthz", "/readyz", "/problems/{slug}"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give path, method and operation of every route."""
    for path, methods in bare().openapi()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_committed_document_is_the_application_s() -> None:
    """`python -m api openapi > api/openapi.json` makes it so."""
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == bare().openapi()


def test_every_route_says_who_may_call_and_what_can_go_wrong() -> None:
    for path, method, operation in operations():
        promised = set(operation["responses"])
        if path not in OPEN:
            assert operation["security"] == [{"bearer": []}], path
            assert {"401", "422", "503"} <= promised, path
        if method == "post":
            assert {"400", "409", "413", "415"} <= promised, path
        if "{" in path:
            assert "404" in promised, path
        assert operation["description"], path


def test_problems_are_the_only_failures_described() -> None:
    document = bare().openapi()

    for path, _, operation in operations():
        for status, answer in operation["responses"].items():
            if status >= "400":
                [(media_type, content)] = answer["content"].items()
                assert media_type == "application/problem+json", (path, status)
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["Problem"]["required"]


def test_nothing_in_a_request_or_an_answer_is_unknown_and_answers_have_no_defaults() -> None:
    shapes = bare().openapi()["components"]["schemas"]
    open_shapes = {name for name, shape in shapes.items() if shape.get("additionalProperties") is not False}
    requests = {"NewCommand", "NewPlan", "PlanFilter", "NewToken", "NewEntity", "Choice"}
    with_defaults = {
        name
        for name, shape in shapes.items()
        if name not in requests and any("default" in part for part in shape.get("properties", {}).values())
    }

    assert {name for name in open_shapes if shapes[name]["type"] == "object"} == {"Problem"}
    assert with_defaults == set()


def test_a_creating_request_needs_an_idempotency_key() -> None:
    for path, method, operation in operations():
        if method == "post":
            [key] = [one for one in operation["parameters"] if one["in"] == "header"]
            assert (key["name"], key["required"]) == ("Idempotency-Key", True), path


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]

    assert len(names) == len(set(names))
