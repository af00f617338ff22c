"""The demo as an operator: one command of each kind, ordered through the API and followed to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from deploy.local import web
from deploy.local.comparison import KINDS

REASON = "make demo shows one command of each kind"
PATIENCE_S = 10.0
"""A unit that has not confirmed by then is left alone, and another one is asked."""

FINAL = frozenset({"confirmed", "refused", "superseded", "cancelled", "expired"})
PAGE = 200
PAGES = 20
"""For one look: units of an earlier, larger fleet may come first, but the launcher has other things to do."""


class Operator:
    """Orders a ping, an offline-disable, and the enable that takes it back; one after the other."""

    def __init__(self, port: int, token: str, say: Callable[[str], None]) -> None:
        self.confirmed: set[str] = set()
        self._port = port
        self._token = token
        self._say = say
        self._command: str | None = None
        self._unit = ""
        self._ordered = 0.0
        self._disabled: str | None = None
        self._asked_before: set[str] = set()
        self._place = ""

    @property
    def done(self) -> bool:
        """Whether one command of each kind was confirmed."""
        return self.confirmed.issuperset(KINDS)

    def tend(self) -> None:
        """Take the next step, if there is one: order, look, or turn to another unit."""
        kind = next((kind for kind in KINDS if kind not in self.confirmed), None)
        if kind is None:
            return
        if self._command is None:
            self._order(kind)
            return
        state = self._state()
        if state == "confirmed":
            self._close(kind)
        elif state in FINAL or time.monotonic() > self._ordered + PATIENCE_S:
            self._turn_away(kind)

    def _order(self, kind: str) -> None:
        unit = self._disabled if kind == "enabled" else self._willing_unit()
        answer = unit and self._ask("POST", f"/v1/units/{unit}/commands", _wish(kind))
        if unit and answer:
            self._command, self._unit, self._ordered = answer["id"], unit, time.monotonic()

    def _state(self) -> str | None:
        answer = self._ask("GET", f"/v1/commands/{self._command}")
        return str(answer["state"]) if answer else None

    def _close(self, kind: str) -> None:
        self._say(f"{kind} confirmed by {self._unit} after {time.monotonic() - self._ordered:.1f} s")
        self.confirmed.add(kind)
        self._command = None
        if kind == "offline_disabled":
            self._disabled = self._unit

    def _turn_away(self, kind: str) -> None:
        """Give up on a unit; what was to switch it off is taken back, an enable is simply ordered again."""
        self._command = None
        self._asked_before.add(self._unit)
        if kind == "offline_disabled":
            self._ask("POST", f"/v1/units/{self._unit}/commands", _wish("enabled"))

    def _willing_unit(self) -> str | None:
        """Find a unit that is online and enabled, and was not asked in vain."""
        return next(
            (
                unit["serial_number"]
                for page in self._pages()
                for unit in page
                if (unit["presence"]["reason"], unit["enable_status"]) == ("session_open", "enabled")
                and unit["serial_number"] not in self._asked_before
            ),
            None,
        )

    def _pages(self) -> Iterator[list[dict[str, Any]]]:
        """Give some pages of all units, from the last one on that was of use; behind the end begins anew."""
        for _ in range(PAGES):
            page = self._ask("GET", f"/v1/units?limit={PAGE}{self._place}")
            if page is None:
                return
            yield page["items"]
            self._place = f"&cursor={page['next']}" if page["next"] else ""
            if not self._place:
                return

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the API; None when it is away or refuses, for then the next step tries again."""
        headers = {"Authorization": f"Bearer {self._token}", "Idempotency-Key": str(uuid4())}
        answer = web.ask(self._port, method, path, headers=headers, body=body)
        return answer.json() if answer and answer.ok else None


def _wish(kind: str) -> dict[str, str]:
    mode = {} if kind == "ping" else {"mode": kind}
    return {"kind": "set_mode" if mode else "ping", "reason": REASON, **mode}
