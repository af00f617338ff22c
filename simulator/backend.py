"""The backend as an operator reaches it: its public API with a token, and nothing else of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from runtime.errors import Conflict, Unavailable
from runtime.settings import Operator

TIMEOUT_S = 15.0
PAGE = 200

Json = dict[str, Any]


class NoAnswer(Unavailable):
    """The API does not answer."""


class Refused(Conflict):
    """The API does not do what was asked."""

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return int(str(self.facts["status"]))


class Backend:
    """One person at the API."""

    def __init__(self, url: str, token: str) -> None:
        place = urlsplit(url)
        self._url = url
        self._kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
        self._netloc = place.netloc
        self._token = token

    @classmethod
    def of(cls, operator: Operator) -> Backend:
        """Go in as whom the settings name."""
        return cls(operator.api_url, operator.api_token.get_secret_value())

    @classmethod
    def second(cls, operator: Operator) -> Backend | None:
        """Go in as the second person, if the settings name one."""
        token = operator.approver_token
        return cls(operator.api_url, token.get_secret_value()) if token else None

    async def unit(self, unit: str) -> Json:
        """Show a unit."""
        shown: Json = await self._ask("GET", f"/v1/units/{unit}")
        return shown

    async def order(self, unit: str, wish: Mapping[str, object], *, reason: str) -> tuple[int, Json]:
        """Order a command; give the status of the answer with it."""
        return await self._exchanged("POST", f"/v1/units/{unit}/commands", {**wish, "reason": reason})

    async def decide(self, verb: str, command_id: str, *, reason: str) -> Json:
        """`approve` or `cancel` a command."""
        moved: Json = await self._ask("POST", f"/v1/commands/{command_id}/{verb}", {"reason": reason})
        return moved

    async def resolve(self, drift: int, decision: str, *, reason: str) -> Json:
        """Settle a contradiction."""
        body = {"decision": decision, "reason": reason}
        settled: Json = await self._ask("POST", f"/v1/drifts/{drift}/resolve", body)
        return settled

    async def command(self, command_id: str) -> Json:
        """Show a command with its events."""
        shown: Json = await self._ask("GET", f"/v1/commands/{command_id}")
        return shown

    async def commands(self, unit: str) -> list[Json]:
        """List the newest commands of a unit, newest first."""
        return await self._items(f"/v1/units/{unit}/commands", limit=PAGE)

    async def drifts(self, unit: str) -> list[Json]:
        """List what a unit's reports say against what it was told, newest first."""
        return await self._items(f"/v1/units/{unit}/drifts", limit=PAGE)

    async def _items(self, path: str, **query: object) -> list[Json]:
        page = await self._ask("GET", f"{path}?{urlencode(query)}")
        return list(page["items"])

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        _, told = await self._exchanged(method, path, body)
        return told

    async def _exchanged(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return await asyncio.to_thread(self._exchange, method, path, body)

    def _exchange(self, method: str, path: str, body: object) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._token}"}
        content = None if body is None else json.dumps(body)
        if content:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": str(uuid4())}
        connection = self._kind(self._netloc, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body=content, headers=headers)
            answer = connection.getresponse()
            told = json.loads(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            raise NoAnswer(
                f"The API does not answer at {self._url}. Start the system, or name it: HELIOGRAPH_API_URL.",
                why=str(error) or type(error).__name__,
            ) from error
        finally:
            connection.close()
        if answer.status >= 400:  # noqa: PLR2004 - HTTP's own border
            raise Refused(
                f"{method} {path} was refused: {'; '.join(_why(told))}", status=answer.status, problem=told
            )
        return answer.status, told


def _why(problem: Json) -> Iterator[str]:
    yield str(problem.get("detail") or problem.get("title"))
    for flaw in problem.get("errors") or ():
        yield str(flaw)
