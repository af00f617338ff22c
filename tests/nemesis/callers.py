"""People at the API who order one command after the other, each until it is answered, under one key.

Several threads; whoever kills the API may wait meanwhile. A call that breaks off is made again at
once, at any API that answers, with the same key and body.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import uuid4

import httpx

from protocol.identity import Imei
from runtime import clock
from runtime.errors import Unavailable

CALLERS = 8
THINK_S = 0.05
"""Between an answer and the next order: units, one for each order, are not to run out."""

PAUSE_S = 0.02
ANSWER_S = 30.0
ANSWERED_S = 60.0
TRY_AGAIN = frozenset({409, 503})
"""The first call of the key is still at work; the database is away."""

WISHES: Sequence[dict[str, str]] = ({"kind": "ping"}, {"kind": "set_mode", "mode": "enabled"})


class NotAnswered(Unavailable):
    """Orders were not answered in time."""


@dataclass(slots=True)
class Order:
    """One wish for a unit of its own under one key; `asked_at` is when the answered call began."""

    imei: Imei
    wish: dict[str, str]
    key: str = field(default_factory=lambda: str(uuid4()))
    asked_at: datetime = field(default_factory=clock.now)
    status: int = 0
    answer: dict[str, Any] = field(default_factory=dict)


class Callers:
    """Orders for each of these units, from when it is entered until `finish`."""

    def __init__(self, apis: Sequence[str], token: str, imeis: Sequence[Imei], dice: random.Random) -> None:
        self._apis = apis
        self._token = token
        self._units = iter(imeis)
        self._dice = random.Random(dice.random())  # noqa: S311 - seeded, not secret
        self._taking = threading.Lock()
        self._enough, self._over = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(CALLERS)]
        self.orders: list[Order] = []
        self.broken = 0
        """Calls that had reached an API and broke off."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> list[Order]:
        """The orders that have their answer."""
        return [order for order in tuple(self.orders) if order.status]

    @property
    def ended(self) -> bool:
        """Whether there is nobody left to order for."""
        return not any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """Order no more, and wait until everything is answered; raises `NotAnswered`."""
        self._enough.set()
        for thread in self._threads:
            thread.join(ANSWERED_S)
        if not self.ended:
            raise NotAnswered("Orders wait for their answer.", orders=len(self.orders) - len(self.answered))

    def _call(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        with httpx.Client(headers=headers, timeout=ANSWER_S) as client:
            for order in self._orders():
                while not order.status and not self._over.is_set():
                    self._ask(client, order)
                self._enough.wait(THINK_S)

    def _orders(self) -> Iterator[Order]:
        """Give orders until there is enough or no unit is left."""
        while not self._enough.is_set():
            with self._taking:
                imei = next(self._units, None)
                if imei is None:
                    return
                order = Order(imei, self._dice.choice(WISHES))
                self.orders.append(order)
            yield order

    def _ask(self, client: httpx.Client, order: Order) -> None:
        order.asked_at = clock.now()
        try:
            answer = client.post(
                f"{self._dice.choice(self._apis)}/v1/units/{order.imei}/commands",
                json={**order.wish, "reason": order.key},
                headers={"Idempotency-Key": order.key},
            )
        except httpx.ConnectError:
            self._over.wait(PAUSE_S)  # that one is away; another, or itself again
        except httpx.TransportError:
            with self._taking:
                self.broken += 1
        else:
            if answer.status_code in TRY_AGAIN:
                self._over.wait(PAUSE_S)
                return
            with suppress(ValueError):  # what is no JSON is told by its status
                order.answer = answer.json()
            order.status = answer.status_code
