"""R14: whatever happens to a command in whatever state, the ledger does what the model says, and no more.

First every state that each kind of command can be in meets every event; then Hypothesis makes up
stories of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from commands.dispatcher import Dispatcher
from commands.states import MOVES, State
from registry import enrolment, units
from registry.units import Unit
from runtime import clock
from runtime.errors import HeliographError
from storage.pool import Pool, open_pool
from telemetry.partitions import Days
from tests.builders import a_deed, a_newcomer, an_imei, keys
from tests.nemesis.ground import entered, laid
from tests.nemesis.real_ledger import DEADLINES, RealLedger, Silent
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.story import EVENTS, Pair, Story
from tests.nemesis.verdict import Trial
from tests.nemesis.wishes import Model

STORIES = {Size.SHORT: 10, Size.FULL: 400}
STEPS = {Size.SHORT: 25, Size.FULL: 50}
LANES = 6
"""Pairs that are tried at once; each lane has partitions of its own."""

ENROLLED_AT_ONCE = 300

SENT = ["claim", "published"]
QUIET = frozenset({"claim", "published", "wait over"})
"""On the way to a state it is enough to look at these once, when they are what is tried."""

ORDERS = {
    "offline-disable": "order offline-disable",
    "enable": "order enable",
    "ping": "order ping",
}
WAYS: Sequence[Sequence[str]] = (
    [],
    [*SENT, "wait over"],
    ["claim"],
    SENT,
    [*SENT, "report as told"],
    [*SENT, "ack hardware"],
    [*SENT, "cancel"],
    [*SENT, "life over"],
)
"""Into each state that every kind can be in."""

FURTHER: Sequence[Sequence[str]] = (
    [*SENT, "wait over", "claim"],
    [*SENT, "ack stale_epoch"],
    ["cancel"],
    ["life over"],
)
LIKELY = [*EVENTS, *(4 * ["claim", "published", "report as told", *ORDERS.values()])]
"""What Hypothesis chooses from: most stories are to get somewhere."""

SUSPECTED = "order offline-disable of a suspected clone"
PROVEN = [*SENT, "report as told"]

REACHABLE: Mapping[str, frozenset[State]] = {
    "offline-disable": frozenset(State),
    # while an enable is under way nobody can order the opposite
    "enable": frozenset(State) - {State.AWAITING_APPROVAL, State.SUPERSEDED},
    "ping": frozenset(State) - {State.AWAITING_APPROVAL, State.SUPERSEDED, State.ACKNOWLEDGED},
}


def paths(size: Size) -> Iterator[tuple[list[str], int]]:
    """Give ways into each state of each kind of command, and which command of the unit it then is."""
    off, on, ping = ORDERS.values()
    further = FURTHER if size is Size.FULL else ()
    for order, way in product((off, on, ping), (*WAYS, *further)):
        yield [order, *(_pings(one) if order == ping else one for one in way)], 0
    yield from (([order, *SENT, "ack applied"], 0) for order in (off, on))
    yield [off, *SENT, on], 0
    yield [SUSPECTED], 0
    yield from (([order, *SENT, "ack stale_epoch"], 1) for order in (off, on))
    if size is Size.FULL:
        yield from (([order, *SENT, "ack applied", "wait over"], 0) for order in (off, on))
        yield from (([off, *way, on], 0) for way in ([], [*SENT, "ack applied"]))
        for way in (["cancel"], ["life over"], [on], ["approve"], ["approve", *SENT]):
            yield [SUSPECTED, *way], 0
        yield [off, *PROVEN, "report of nothing applied"], 1
        yield [on, *PROVEN, "report of the epoch, contradicting"], 1


def _pings(event: str) -> str:
    """Give what proves a ping, which no report does."""
    return "ack applied" if event == "report as told" else event


@dataclass
class Rig:
    """A ledger with as many units as are asked for, in lanes that do not claim one another's commands."""

    pool: Pool
    pairs: Counter[Pair] = field(default_factory=Counter)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    _enrolled: int = 0
    _idle: dict[int, list[Unit]] = field(default_factory=lambda: {lane: [] for lane in range(LANES)})
    _others: dict[int, Unit] = field(default_factory=dict)
    _reaping: asyncio.Lock = field(default_factory=asyncio.Lock)
    _enrolling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def story(self, lane: int = 0) -> Story:
        """Begin a story of a unit that nobody knows yet."""
        if lane not in self._others:
            self._others[lane] = await self._unit(lane)
        unit, other = await self._unit(lane), self._others[lane]
        partition = int(unit.imei.partition)
        dispatcher = Dispatcher(
            "gateway", range(partition, partition + 1), Silent(), self.pool, keys(), DEADLINES
        )
        real = RealLedger(self.pool, unit, other, dispatcher, self._reaping)
        await real.begin()
        return Story(Model(), real, self.pairs, self.moves)

    async def _unit(self, lane: int) -> Unit:
        async with self._enrolling:
            while not self._idle[lane]:
                numbers = range(self._enrolled + 1, self._enrolled + 1 + ENROLLED_AT_ONCE)
                self._enrolled = numbers[-1]
                async with self.pool.transaction() as conn:
                    await enrolment.enrol_all(conn, [a_newcomer(one) for one in numbers], keys(), a_deed())
                    found = [await units.by_imei(conn, an_imei(number)) for number in numbers]
                for unit in found:
                    assert unit is not None
                    self._idle[int(unit.imei.partition) % LANES].append(unit)
            return self._idle[lane].pop()


def of_every_kind(seed: int, size: Size, tell: Tell) -> Row:
    """Let everything happen to everything, and then anything to anything."""
    trial = Trial("R14", "every event in every state of every kind of command, then stories made up", seed)
    with (
        laid(0) as ground,
        asyncio.Runner() as runner,
        entered(runner, open_pool(ground.settings)) as pool,
    ):
        now = clock.now()
        runner.run(Days(pool).ensure([now, now + timedelta(days=1)]))
        rig = Rig(pool)
        everything = list(product(paths(size), EVENTS))
        trial.dice.shuffle(everything)
        runner.run(_meet_all(trial, rig, everything))
        tell(f"{len(rig.pairs)} pairs are tried, {len(trial.broken)} go wrong")
        _demand_all(trial, rig)
        told = _told_stories(rig, runner, seed, size)
        if told:
            trial.broken.append(told)
        trial.figures |= {"pairs": len(rig.pairs), "moves": len(rig.moves), "steps": sum(rig.pairs.values())}
        return trial.row(n=len(everything) + STORIES[size])


async def _meet_all(trial: Trial, rig: Rig, everything: Sequence[tuple[tuple[list[str], int], str]]) -> None:
    """Try every pair, in several lanes at once."""
    left = iter(everything)

    async def work(lane: int) -> None:
        for (path, place), event in left:
            story = await rig.story(lane)
            try:
                for step in path:
                    await story.happens(step, compare=step not in QUIET)
                await story.happens(event, place)
            except (AssertionError, HeliographError) as wrong:
                trial.broken.append(f"{' → '.join([*path, event])}: {wrong}")
            await story.real.end()

    await asyncio.gather(*(work(lane) for lane in range(LANES)))


def _demand_all(trial: Trial, rig: Rig) -> None:
    """Demand that every state met every event, and that every move of the table was made."""
    tried = {(kind, state, event) for kind, state, _, event in rig.pairs}
    for kind, states in REACHABLE.items():
        for state, event in product(states, EVENTS):
            trial.demand((kind, str(state), event) in tried, f"{kind}, {state}: {event} was never tried")
    table = {(str(here), str(there)) for here, reached in MOVES.items() for there in reached}
    for here, there in sorted(table - rig.moves.keys()):
        trial.broken.append(f"nothing moves a command from {here} to {there}, as the table allows")


def _told_stories(rig: Rig, runner: asyncio.Runner, seed: int, size: Size) -> str | None:
    """Let Hypothesis make up stories; gives the shortest one that goes wrong."""

    class Stories(RuleBasedStateMachine):
        """Anything happens to one of the newest commands of a unit."""

        def __init__(self) -> None:
            super().__init__()
            self.story = runner.run(rig.story())

        @initialize(event=st.sampled_from([*ORDERS.values(), SUSPECTED]))
        def begins(self, event: str) -> None:
            runner.run(self.story.happens(event))

        @rule(event=st.sampled_from(LIKELY), back=st.integers(0, 3))
        def goes_on(self, event: str, back: int) -> None:
            runner.run(self.story.happens(event, max(0, len(self.story.commands) - 1 - back)))

        def teardown(self) -> None:
            runner.run(self.story.real.end())

    told = settings(
        max_examples=STORIES[size],
        stateful_step_count=STEPS[size],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(hypothesis.seed(seed)(Stories), settings=told)
    except (AssertionError, HeliographError) as wrong:
        return "\n".join([str(wrong), *getattr(wrong, "__notes__", [])])
    return None
