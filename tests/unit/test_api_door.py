"""What every request meets, whatever it asks."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from api.door import HEADERS
from api.wiring import Api, bare
from runtime.errors import HeliographError
from tests.calling import JSON, caller, problem


@pytest.fixture
def app() -> Api:
    """Give an application with two routes that break."""
    app = bare()

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("the secret is hush")

    @app.get("/stray")
    async def stray() -> None:
        raise HeliographError("the secret is hush")

    @app.post("/echo")
    async def echo(body: dict[str, Any]) -> dict[str, Any]:
        return body

    return app


@pytest.mark.parametrize("path", ["/bug", "/stray"])
async def test_what_nobody_foresaw_is_told_without_inner_text_and_logged_in_full(app: Api, path: str) -> None:
    async with caller(app) as http:
        with capture_logs() as lines:
            answer = await http.get(path)

    assert problem(answer) == (500, "unexpected")
    assert "hush" not in answer.text
    [failed, answered] = lines
    assert (failed["event"], failed["exc_info"]) == ("request_failed", True)
    assert (answered["event"], answered["status"], answered["path"]) == ("request_answered", 500, path)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nowhere", (404, "path-not-found")),
        ("GET", "/v1/units/", (404, "path-not-found")),
        ("GET", "/docs", (404, "path-not-found")),
        ("PUT", "/v1/units", (405, "method-not-allowed")),
        ("BREW", "/v1/units", (405, "method-not-allowed")),
        ("OPTIONS", "/v1/units", (405, "method-not-allowed")),
    ],
)
async def test_the_framework_s_errors_wear_the_same_clothes(
    app: Api, method: str, path: str, expected: tuple[int, str]
) -> None:
    async with caller(app) as http:
        answer = await http.request(method, path)

    assert problem(answer) == expected
    assert ("allow" in answer.headers) == (expected[0] == 405)


async def test_a_body_is_json_and_bounded(app: Api) -> None:
    async with caller(app) as http:

        async def send(content: bytes, media_type: str = JSON) -> tuple[int, str]:
            return problem(await http.post("/echo", content=content, headers={"Content-Type": media_type}))

        assert await send(b"{") == (400, "malformed-json")
        assert await send(b"") == (422, "fields-not-valid")
        assert await send(b"{}", "text/plain") == (415, "not-json")
        assert await send(b" " * (2**20 + 1)) == (413, "body-too-large")
        accepted = await http.post(
            "/echo", content=b"{}" + b" " * (2**20 - 2), headers={"Content-Type": JSON}
        )
        charset = await http.post("/echo", content=b"{}", headers={"Content-Type": f"{JSON}; charset=utf-8"})

    assert (accepted.status_code, charset.status_code) == (200, 200)


async def test_every_answer_is_guarded_and_numbered(app: Api) -> None:
    async with caller(app) as http:
        answers = [await http.get(path) for path in ("/healthz", "/nowhere", "/bug", "/openapi.json")]

    for answer in answers:
        assert HEADERS.items() <= {name.title(): value for name, value in answer.headers.items()}.items()
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4


async def test_the_access_line_names_the_route_and_holds_no_query_and_no_header(app: Api) -> None:
    async with caller(app) as http:
        with capture_logs() as lines:
            await http.get("/problems/invalid?token=hush", headers={"Authorization": "Bearer hush"})

    [line] = lines
    assert (line["method"], line["path"], line["status"]) == ("GET", "/problems/{slug}", 200)
    assert line["account"] is None
    assert "hush" not in str(line)


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.8.8.8", {}, 200),
        ("::1", {}, 200),
        ("10.0.0.7", {}, 404),
        ("testclient", {}, 404),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 404),
        ("127.0.0.1", {"Forwarded": "for=10.0.0.7"}, 404),
    ],
)
async def test_figures_are_for_this_machine_alone(
    app: Api, host: str, headers: dict[str, str], status: int
) -> None:
    async with caller(app, host) as http:
        await http.get("/healthz")
        answer = await http.get("/metrics", headers=headers)

    assert answer.status_code == status
    assert ("heliograph_http_seconds_count" in answer.text) == (status == 200)
