"""R3: old news never overwrites new.

Whatever order a unit's messages come in, and however they are cut into batches, its status and its
bits end the same; a model of a few lines says how.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.messages import BacklogEntry, Heartbeat, Mode, Presence, PresenceState
from registry import enrolment, units
from runtime.errors import HeliographError
from runtime.settings import Database
from storage.pool import Pool, open_pool
from telemetry import alerts, sequence
from telemetry.arrivals import Arrival
from telemetry.partitions import Days
from telemetry.record import record
from tests.builders import NOON, a_deed, a_newcomer, an_imei, keys
from tests.nemesis.ground import entered, laid
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial

EXAMPLES = {Size.SHORT: 60, Size.FULL: 1500}
"""How often each of the two is tried."""

ENROLLED_AT_ONCE = 300

LIVES = (11, 7, 900)
"""As the unit calls them, in the order in which they are first heard; the numbers have no order."""

Name = tuple[int, int, int]
Message = Heartbeat | Presence
Heard = tuple[Message, bool]
"""A message, and whether it came live."""


@dataclass
class Ward:
    """A database with a fresh unit for each example; `examples` and `messages` are counted."""

    pool: Pool
    examples: int = 0
    messages: int = 0
    _enrolled: int = 0
    _idle: list[int] = field(default_factory=list)

    async def newcomer(self) -> int:
        """Give a unit that nobody heard yet."""
        if not self._idle:
            more = range(self._enrolled + 1, self._enrolled + 1 + ENROLLED_AT_ONCE)
            async with self.pool.transaction() as conn:
                await enrolment.enrol_all(conn, [a_newcomer(one) for one in more], keys(), a_deed())
                found = await units.ids_by_imei(conn, [an_imei(one) for one in more])
            self._enrolled = more[-1]
            self._idle += found.values()
        self.examples += 1
        return self._idle.pop()


@dataclass(frozen=True)
class End:
    """What is known of a unit in the end; lives by their ordinals."""

    report: tuple[int, int, int, Mode, int] | None
    presence: tuple[int, int, int, str] | None
    heard: frozenset[Name]
    stored: int


@asynccontextmanager
async def ward(database: Database) -> AsyncIterator[Ward]:
    """Open an empty database for examples."""
    async with open_pool(database) as pool:
        await Days(pool).ensure([NOON])
        yield Ward(pool)


def mode(seq: int) -> Mode:
    """Give the mode that the heartbeat of a number reports: a name always says the same."""
    return list(Mode)[seq % 3]


def heartbeat(life: int, boot: int, seq: int, backlog: Sequence[tuple[int, int]] = ()) -> Heartbeat:
    return Heartbeat(
        life=life,
        boot=boot,
        seq=seq,
        mode=mode(seq),
        epoch=seq,
        readings={"battery_v": 12.0 + seq % 7},
        backlog=tuple(BacklogEntry(boot=b, seq=s, mode=mode(s), epoch=s) for b, s in backlog),
    )


def presence(life: int, boot: int, conn: int) -> Presence:
    return Presence(state=list(PresenceState)[conn % 2], life=life, boot=boot, conn=conn)


boots = st.integers(0, 4)
seqs = st.integers(1, 12) | st.integers(1020, 1028)
backlogs = st.lists(st.tuples(boots, seqs), max_size=4)
heartbeats = st.builds(
    lambda life, own, entries: heartbeat(life, own[0], own[1], [one for one in entries if one < own]),
    st.sampled_from(LIVES),
    st.tuples(boots, seqs),
    backlogs,
)
"""Of what a message carries its own is the newest: the rest are earlier ones."""

presences = st.builds(presence, st.sampled_from(LIVES), boots, st.integers(0, 3))
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=8)


@st.composite
def shuffled(draw: st.DrawFn) -> list[Message]:
    """Draw messages of a few lives, some of them twice and more, in any order."""
    messages: list[Message] = draw(st.lists(heartbeats | presences, min_size=6, max_size=30))
    again = draw(st.lists(st.sampled_from(messages), max_size=10))
    return draw(st.permutations(messages + again))


@st.composite
def lived(draw: st.DrawFn) -> list[Heard]:
    """Draw what a unit says in its lives, live and in order, amid copies of what it said before."""
    said: list[Message] = []
    for life in LIVES[: draw(st.integers(1, 3))]:
        for boot in range(draw(st.integers(1, 3))):
            said += [heartbeat(life, boot, seq) for seq in range(1, draw(st.integers(2, 7)))]
    heard: list[Heard] = []
    for place, message in enumerate(said):
        if place == 0 or draw(st.integers(0, 9)):
            heard.append((message, True))
        for earlier, live in draw(st.lists(st.tuples(st.integers(0, place), st.booleans()), max_size=3)):
            copy = said[earlier]
            if (copy, True) in heard or not (live or _overtaken(copy, heard)):
                heard.append((copy, live))
    return heard


def _overtaken(message: Message, heard: Sequence[Heard]) -> bool:
    """Whether it is the first word of its life that is heard, and a later life was heard before it.

    The order of lives is then another than the unit's, as the contract has it (ADR 15).
    """
    lives = [LIVES.index(one.life) for one, _ in heard]
    life = LIVES.index(message.life)
    return life not in lives and life < max(lives)


def never_overwrites(seed: int, size: Size, tell: Tell) -> Row:
    """Let Hypothesis make up what units say, and in which order it comes."""
    trial = Trial("R3", "a unit's messages in any order, again and again, cut into any batches", seed)
    with (
        laid(0) as ground,
        asyncio.Runner() as runner,
        entered(runner, ward(ground.settings)) as ours,
    ):

        @given(shuffled(), cuts)
        def any_order(messages: list[Message], sizes: list[int]) -> None:
            runner.run(any_order_ends_the_same(ours, messages, sizes))

        @given(lived(), cuts)
        def amid_copies(heard: list[Heard], sizes: list[int]) -> None:
            runner.run(copies_change_and_raise_nothing(ours, heard, sizes))

        told = settings(
            max_examples=EXAMPLES[size], deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        for tried in (any_order, amid_copies):
            try:
                hypothesis.seed(seed)(told(tried))()
            except (AssertionError, HeliographError) as wrong:
                trial.broken.append("\n".join([str(wrong), *getattr(wrong, "__notes__", [])]))
            tell(f"{ours.examples:,} units have said {ours.messages:,} messages")
        trial.figures["messages"] = ours.messages
        return trial.row(n=ours.examples)


async def any_order_ends_the_same(ward: Ward, messages: list[Message], sizes: list[int]) -> None:
    """Let a unit say messages of its lives in any order; the first of each life tells which came first."""
    unit_id = await ward.newcomer()
    first: list[Message] = [heartbeat(life, 0, 1) for life in LIVES]

    await deliver(ward, unit_id, [(message, False) for message in [*first, *messages]], sizes)

    assert_equal(await end(ward, unit_id), model([*first, *messages]))


async def copies_change_and_raise_nothing(ward: Ward, heard: list[Heard], sizes: list[int]) -> None:
    """Let a healthy unit speak amid copies of what it said before."""
    unit_id = await ward.newcomer()

    await deliver(ward, unit_id, heard, sizes)

    assert_equal(await end(ward, unit_id), model([message for message, _ in heard]))
    async with ward.pool.transaction() as conn:
        assert_equal(await alerts.of_unit(conn, unit_id, limit=9), [])


def assert_equal(found: object, expected: object) -> None:
    """Demand it, and say both: outside a test nobody else does."""
    assert found == expected, f"found {found}, expected {expected}"


async def deliver(ward: Ward, unit_id: int, messages: list[Heard], sizes: list[int]) -> None:
    """Record messages in batches of these sizes, over and over."""
    ward.messages += len(messages)
    arrivals = [
        Arrival(unit_id=unit_id, message=message, received_at=NOON + timedelta(milliseconds=place), live=live)
        for place, (message, live) in enumerate(messages)
    ]
    place = 0
    for turn in count():
        if place >= len(arrivals):
            return
        size = sizes[turn % len(sizes)]
        async with ward.pool.transaction() as conn:
            await record(conn, arrivals[place : place + size], now=NOON)
        place += size


def model(messages: list[Message]) -> End:
    """Say how it ends: the greatest wins, and everything was heard."""
    ordinals: dict[int, int] = {}
    for message in messages:
        ordinals.setdefault(message.life, len(ordinals) + 1)
    own = [
        (ordinals[message.life], message.boot, message.seq, message.mode, message.epoch)
        for message in messages
        if isinstance(message, Heartbeat)
    ]
    heard = {name[:3] for name in own} | {
        (ordinals[message.life], entry.boot or 0, entry.seq)
        for message in messages
        if isinstance(message, Heartbeat)
        for entry in message.backlog
    }
    present = [
        (ordinals[message.life], message.boot, message.conn or 0, str(message.state))
        for message in messages
        if isinstance(message, Presence)
    ]
    return End(
        report=max(own, default=None),
        presence=max(present, default=None),
        heard=frozenset(heard),
        stored=len(heard),
    )


async def end(ward: Ward, unit_id: int) -> End:
    """Read what the tables say, run and bits alike."""
    async with ward.pool.transaction() as conn:
        [row] = await (
            await conn.execute("SELECT * FROM unit_status WHERE unit_id = %s", [unit_id])
        ).fetchall()
        blocks = await (
            await conn.execute("SELECT * FROM unit_sequence WHERE unit_id = %s", [unit_id])
        ).fetchall()
        [kept] = await (
            await conn.execute("SELECT count(*) AS n FROM heartbeat WHERE unit_id = %s", [unit_id])
        ).fetchall()
    return End(
        report=row["life"] and (row["life"], row["boot"], row["seq"], mode(row["seq"]), row["epoch"]),
        presence=row["presence_life"]
        and (row["presence_life"], row["presence_boot"], row["presence_conn"], row["presence"]),
        heard=frozenset([*_run(row), *_bits(blocks)]),
        stored=kept["n"],
    )


def _run(row: dict[str, Any]) -> Iterator[Name]:
    if row["run_life"] is not None:
        for seq in range(row["run_first"], row["run_last"] + 1):
            yield row["run_life"], row["run_boot"], seq


def _bits(blocks: list[dict[str, Any]]) -> Iterator[Name]:
    for row in blocks:
        bits = int.from_bytes(row["heard"], "little")
        for bit in range(sequence.BLOCK_BITS):
            if bits >> bit & 1:
                yield row["life"], row["boot"], row["block"] * sequence.BLOCK_BITS + bit
