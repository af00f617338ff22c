"""What goes wrong, told the same way everywhere: problem details (RFC 9457).

`STATUS` is the only place where an error meets an HTTP status; an error is told by its nearest
entry there. Facts become members of the problem. Of what is wrong on our side (5xx) only the kind
is told; the rest is in the log under the same request id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response

from runtime.errors import Conflict, Forbidden, HeliographError, Invalid, NotFound, Unavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

log = structlog.get_logger()


class Unauthenticated(HeliographError):
    """Who calls is not known."""


class MalformedJson(Invalid):
    """The body is not JSON."""


class FieldsNotValid(Invalid):
    """Fields of the request are not valid."""


class BodyTooLarge(Invalid):
    """The body is too large."""


class NotJson(Invalid):
    """The body must be sent as application/json."""


class NotCsv(Invalid):
    """The list must be sent as text/csv."""


class PathNotFound(NotFound):
    """There is nothing at this address."""


class MethodNotAllowed(HeliographError):
    """This address does not answer to this method."""


class Unexpected(HeliographError):
    """Something went wrong on our side."""


STATUS: Mapping[type[HeliographError], HTTPStatus] = {
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Forbidden: HTTPStatus.FORBIDDEN,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    MalformedJson: HTTPStatus.BAD_REQUEST,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotJson: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    NotCsv: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    HeliographError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="heliograph"'},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_AFTER_S)},
}


class Problem(BaseModel):
    """A problem (RFC 9457); further members are the facts of its type."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def status_of(kind: type[HeliographError]) -> HTTPStatus:
    """Give the status of the nearest kind that has one."""
    return next(STATUS[one] for one in kind.__mro__ if one in STATUS)


def slug(kind: type[HeliographError]) -> str:
    """Give a class's name in kebab-case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


def title(kind: type[HeliographError]) -> str:
    """Give the first line of what a class says of itself."""
    return (kind.__doc__ or "").partition("\n")[0]


def kinds(root: type[HeliographError] = HeliographError) -> Iterator[type[HeliographError]]:
    """Give every error that this process knows."""
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def told(error: HeliographError, request_id: str) -> Response:
    """Tell an error as a problem."""
    kind = type(error)
    status = status_of(kind)
    ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    members = {
        **({} if ours else error.facts),
        "type": f"/problems/{slug(kind)}",
        "title": title(kind),
        "status": status,
        "detail": title(kind) if ours else error.message,
        "request_id": request_id,
    }
    # ASCII only: a lone surrogate in what was given has no UTF-8.
    body = json.dumps(members, default=_plain)
    return Response(body, status, HEADERS.get(status), media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Give the problems of a route for its OpenAPI entry."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Dress every error of the application, the framework's own too."""
    app.add_exception_handler(HeliographError, _ours)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _framework)


async def _ours(request: Request, error: Exception) -> Response:
    if not isinstance(error, HeliographError):
        raise error
    if status_of(type(error)) is HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error  # nobody meant a caller to meet it: the door tells it as unexpected
    if isinstance(error, Unavailable):
        log.warning("part_unavailable", kind=type(error).__name__, why=str(error))
    return told(error, request.state.request_id)


async def _not_valid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return told(_flaws(error.errors()), request.state.request_id)


async def _framework(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    meant = {
        HTTPStatus.BAD_REQUEST: MalformedJson("The body could not be read as JSON."),
        HTTPStatus.NOT_FOUND: PathNotFound("There is nothing at this address; /openapi.json lists all."),
        HTTPStatus.METHOD_NOT_ALLOWED: MethodNotAllowed("The method is not one of this address."),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: BodyTooLarge(error.detail),
    }.get(HTTPStatus(error.status_code))
    if meant is None:
        raise error
    answer = told(meant, request.state.request_id)
    answer.headers.update(error.headers or {})
    return answer


def _flaws(errors: Iterable[Mapping[str, Any]]) -> HeliographError:
    """Name each field that is wrong by a JSON pointer into {path, query, header, body}."""
    found = list(errors)
    if any(one["type"] == "json_invalid" for one in found):
        return MalformedJson("The body could not be read as JSON.", at=found[0]["loc"][-1])
    flaws = [{"pointer": _pointer(one["loc"]), "detail": _sentence(one)} for one in found]
    return FieldsNotValid("; ".join(f"{one['pointer']}: {one['detail']}" for one in flaws), errors=flaws)


def _pointer(location: Iterable[str | int]) -> str:
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in location)


def _sentence(error: Mapping[str, Any]) -> str:
    cause = error.get("ctx", {}).get("error")
    return cause.message if isinstance(cause, HeliographError) else error["msg"]


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
