"""People who wish now this and now that of the same units, and what the API accepted of it (R12, R13)."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from uuid import uuid4

import httpx

from protocol.identity import Imei
from runtime.errors import Conflict, Unavailable

ANSWER_S = 30.0
AGAIN_S = 0.1
AT_REST_S = 60.0
ACCEPTED = frozenset({200, 202})
REFUSED = httpx.codes.CONFLICT
"""A unit that is not enabled, or is to be, cannot be disabled."""

ON: dict[str, Any] = {"kind": "set_mode", "mode": "enabled"}
OFF: dict[str, Any] = {"kind": "set_mode", "mode": "offline_disabled"}
PING: dict[str, Any] = {"kind": "ping"}


class NotAtRest(Unavailable):
    """A call under way does not come to its end."""


class OddAnswer(Conflict):
    """The API answered what it should not."""


class Accepted(NamedTuple):
    """What the API answered to a wish: the command that carries it out."""

    imei: Imei
    mode: str | None
    command_id: str


class Operators:
    """So many of them, who order for random units from when it is entered until its end."""

    def __init__(
        self, api: str, tokens: Sequence[str], imeis: Sequence[Imei], dice: random.Random, *, think_s: float
    ) -> None:
        self._api = api
        self._imeis = imeis
        self._dice = random.Random(dice.random())  # noqa: S311 - seeded, not secret
        self._think_s = think_s
        self._over, self._free = threading.Event(), threading.Event()
        self._free.set()
        self._calling = [threading.Lock() for _ in tokens]
        self._threads = [
            threading.Thread(target=self._work, args=(token, calling), daemon=True)
            for token, calling in zip(tokens, self._calling, strict=True)
        ]
        self._failed: BaseException | None = None
        self.accepted: list[Accepted] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._free.set()
        for thread in self._threads:
            thread.join()

    @property
    def commands(self) -> set[str]:
        """The commands that were accepted, each once; raises what an operator stumbled over."""
        if self._failed:
            raise self._failed
        return {one.command_id for one in tuple(self.accepted)}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody call until the block ends; what was under way has its answer. Raises `NotAtRest`."""
        self._free.clear()
        for calling in self._calling:
            if not calling.acquire(timeout=AT_REST_S):
                raise NotAtRest("A call does not come to its end.", seconds=AT_REST_S)
        try:
            yield
        finally:
            for calling in self._calling:
                calling.release()
            self._free.set()

    def _work(self, token: str, calling: threading.Lock) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        try:
            with httpx.Client(base_url=self._api, headers=headers, timeout=ANSWER_S) as http:
                while not self._over.wait(self._think_s):
                    self._free.wait()
                    with calling:
                        self._order(http)
        except BaseException as error:  # noqa: BLE001 - told to whoever asks for the commands
            self._failed = error

    def _order(self, http: httpx.Client) -> None:
        """Order something, and try again under the same key until there is an answer."""
        imei, wish = self._dice.choice(self._imeis), self._dice.choice((ON, ON, OFF, OFF, PING))
        key = {"Idempotency-Key": str(uuid4())}
        while not self._over.is_set():
            answer = http.post(f"/v1/units/{imei}/commands", json=wish | {"reason": "wanted"}, headers=key)
            if answer.status_code in ACCEPTED:
                self.accepted.append(Accepted(imei, wish.get("mode"), answer.json()["id"]))
                return
            if answer.status_code == REFUSED:
                return
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                raise OddAnswer("An order was answered strangely.", answer=answer.text)
            self._over.wait(AGAIN_S)
