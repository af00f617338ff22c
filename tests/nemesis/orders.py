"""R11: a command that the API accepted exists, once, wherever the API died."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from deploy.local.processes import Child, until
from tests.acceptance.stack import Stack, answers
from tests.nemesis.api_with_points import ACCEPTED, Point
from tests.nemesis.callers import Callers, Order
from tests.nemesis.ground import Ground, laid
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial

UNITS = {Size.SHORT: 4_000, Size.FULL: 60_000}
"""One for each order: that a wish is made twice must show as a second command."""

KILLS = {Size.SHORT: 4, Size.FULL: 100}
ROUNDS = {Size.SHORT: 1, Size.FULL: 10}
LAST_ORDER = 5
"""An API with a point dies at one of its first orders."""

READY_S = 30.0
DIES_S = 30.0
HIT_S = 2.0


class Desk:
    """A port at which an API is served, killed, and served again."""

    def __init__(self, stack: Stack, port: int) -> None:
        self._stack = stack
        self._port = port
        self._child: Child | None = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def start(self, *words: str) -> Child:
        """Start `python -m …` there."""
        self._child = self._stack.start(*words, env={"HELIOGRAPH_HTTP_PORT": str(self._port)})
        return self._child

    def serve(self) -> None:
        """Start the API there, and wait until it answers."""
        child = self.start("api")
        until(lambda: child.ended is not None or answers(f"{self.address}/readyz"), READY_S)
        assert child.ended is None, child.last_words()

    def close(self, how: signal.Signals) -> None:
        """End what is served there."""
        assert self._child is not None
        self._child.end(((how, DIES_S),))


def at_random(seed: int, size: Size, tell: Tell) -> Row:
    """Kill the one or the other of two APIs at random moments while orders come."""
    trial = Trial("R11", "one of two APIs killed (-9) at random moments under orders", seed)
    with ordering(trial, UNITS[size]) as (ground, callers, desks):
        for _ in range(KILLS[size]):
            time.sleep(trial.dice.uniform(0, 1.0))  # the moment of the kill is the experiment
            desk, before = trial.dice.choice(desks), callers.broken
            desk.close(signal.SIGKILL)
            trial.kills += 1
            trial.hits += until(lambda: callers.broken > before, HIT_S)  # noqa: B023 - at once
            desk.serve()
            tell(f"{trial.hits} of {trial.kills} kills hit, {len(callers.answered):,} orders")
        return _row(trial, ground, callers)


def at_points(seed: int, size: Size, tell: Tell) -> Row:
    """Let APIs die at each named point, in a random order, beside one that lives."""
    trial = Trial("R11.points", f"one of two APIs killed (-9) at named points: {', '.join(Point)}", seed)
    points = list(Point) * ROUNDS[size]
    trial.dice.shuffle(points)
    with ordering(trial, UNITS[size]) as (ground, callers, desks):
        desks[0].close(signal.SIGTERM)
        for point in points:
            order = trial.dice.randint(1, LAST_ORDER)
            doomed = desks[0].start("tests.nemesis.api_with_points", point, str(order))
            until(lambda: doomed.ended is not None, DIES_S)  # noqa: B023 - at once
            trial.demand(doomed.ended == -signal.SIGKILL, f"no kill at {point} of order {order}")
            trial.kills += 1
            trial.hits += doomed.ended == -signal.SIGKILL
            tell(f"{point} of order {order}: {len(callers.answered):,} orders")
        return _row(trial, ground, callers)


@contextmanager
def ordering(trial: Trial, units: int) -> Iterator[tuple[Ground, Callers, list[Desk]]]:
    """Run two APIs, and people who order at either."""
    with laid(units) as ground:
        token = ground.stack.token("technical")
        desks = [
            Desk(ground.stack, port) for port in (ground.stack.api_port, ground.stack.folder.port("api-2"))
        ]
        for desk in desks:
            desk.serve()
        with Callers([desk.address for desk in desks], token, ground.imeis, trial.dice) as callers:
            yield ground, callers, desks


def _row(trial: Trial, ground: Ground, callers: Callers) -> Row:
    """Compare what was answered with what is in the ledger."""
    trial.demand(not callers.ended, "there were too few units to order for")
    callers.finish()
    there = ground.stack.query(
        "SELECT u.imei, c.id::text, c.kind, c.mode, c.reason, c.ordered_at,"
        " (SELECT count(*) FROM command_event e WHERE e.command_id = c.id AND e.event = 'ordered'),"
        " (SELECT count(*) FROM audit a"
        " WHERE a.action = 'order_command' AND (a.after->>'new')::boolean"
        " AND a.after->>'command' = c.id::text)"
        " FROM command c JOIN unit u ON u.id = c.unit_id"
    )
    orders = callers.orders
    for order in orders:
        trial.demand(order.status == ACCEPTED, f"an order was answered {order.status}: {order.answer}")
    trial.broken += ["a command is not written down once, or not audited once"] * sum(
        written != 1 or audited != 1 for *_, written, audited in there
    )
    known = {(imei, reason): (kind, mode) for imei, _, kind, mode, reason, *_ in there}
    trial.demand(
        all(known.get(_name(order)) == (order.wish["kind"], order.wish.get("mode")) for order in orders),
        "a command is not what was ordered",
    )
    trial.demand(known.keys() <= {_name(order) for order in orders}, "a command is there that nobody ordered")
    accepted = {str(order.answer.get("id")) for order in orders if order.status == ACCEPTED}
    made_at = {command_id: ordered_at for _, command_id, _, _, _, ordered_at, *_ in there}
    trial.figures |= {
        "calls broken off": callers.broken,
        "answered from an earlier call": sum(_earlier(order, made_at) for order in orders),
    }
    return trial.row(n=len(orders), lost=len(accepted - made_at.keys()), doubled=_doubled(there))


def _name(order: Order) -> tuple[str, str]:
    return str(order.imei), order.key


def _earlier(order: Order, made_at: dict[str, datetime]) -> bool:
    """Whether the command was there before the call that was answered."""
    made = made_at.get(str(order.answer.get("id")))
    return made is not None and made < order.asked_at


def _doubled(there: Sequence[tuple[object, ...]]) -> int:
    """How many commands are more than the one that each key may have."""
    return sum(number - 1 for number in Counter(reason for _, _, _, _, reason, *_ in there).values())
