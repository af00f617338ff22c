"""One unit's messages of a batch, judged in the order of their arrival; all that this needs was looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from protocol.reasons import Reason
from telemetry.alerts import Finding, Kind
from telemetry.counters import Counters, Flaw
from telemetry.doubts import NEEDED, TURNS, Doubt, Held, Order, settled, weigh
from telemetry.heartbeats import Heartbeat, say_the_same
from telemetry.lives import MOST, Life


class Refusal(NamedTuple):
    """What is not taken: the arrival at that place, or of its backlog only the entry that is given.

    `field` of the message or entry is at fault.
    """

    place: int
    reason: Reason
    field: str
    detail: str
    entry: int | None = None


class Known(NamedTuple):
    """What is known of a live heartbeat that is older than the newest: heard before, stored and the same."""

    heard: bool
    copied: bool


NEW = Known(heard=False, copied=False)
"""What was known before this batch of a heartbeat of a life that has begun in it."""


class Beginning(NamedTuple):
    """A later life of the same number: its ordinal, and the heartbeats that showed it, but for the last."""

    life: Life
    ordinal: int
    shown_by: Sequence[Held]


@dataclass(slots=True, kw_only=True)
class Course:
    """What a unit counts, message by message.

    `newest` is its newest report so far, None before the first; `lives` how many it has had;
    `suspected` that it may be two. `known` is told of live heartbeats, by the place of their arrival: what
    was known before this batch.
    """

    unit_id: int
    newest: Order | None
    counters: Counters
    known: Mapping[int, Known]
    lives: int
    suspected: bool
    doubt: Doubt | None
    weighed: bool = False
    refusals: list[Refusal] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    beginnings: list[Beginning] = field(default_factory=list)
    _later: dict[int, int] = field(default_factory=dict)
    _taken: dict[Order, Heartbeat] = field(default_factory=dict)

    def hear(self, place: int, life: int, beats: Sequence[Heartbeat]) -> list[Heartbeat]:
        """Judge a message of a life as the unit calls it; give what of it counts, the message's own first."""
        beats = self._relived(beats)
        flaw = self.counters.flaw(beats[0])
        if (known := self._speaks_against(place, beats[0])) and not _leaps(flaw):
            self._weigh(life, Held(beats[0], stored=flaw is None and not known.heard))
            beats = self._relived(beats)
            flaw = self.counters.flaw(beats[0])
        if flaw:
            self._refuse(place, beats[0], flaw)
            return []
        own, *entries = beats
        self._take(own)
        self.newest = own.order if self.newest is None else max(self.newest, own.order)
        return [own, *(entry for index, entry in enumerate(entries) if self._takes(place, index, entry))]

    def _relived(self, beats: Sequence[Heartbeat]) -> Sequence[Heartbeat]:
        """Give heartbeats under the life that has begun meanwhile, if one has."""
        life = beats[0].life
        while life in self._later:
            life = self._later[life]
        return beats if life == beats[0].life else [beat._replace(life=life) for beat in beats]

    def _speaks_against(self, place: int, own: Heartbeat) -> Known | None:
        """Tell what is known of a heartbeat of now that is older than the newest; None for others.

        In the boot of the newest, one that was not heard before is merely late.
        """
        if place not in self.known or self.newest is None or own.order > self.newest:
            return None
        known = self._known(place, own)
        late = own.order[:2] == self.newest[:2] and not known.heard
        return None if known.copied or late else known

    def _known(self, place: int, own: Heartbeat) -> Known:
        """Tell what is known of it, by this very batch too: there a copy may follow its original."""
        before = NEW if own.life in self._later.values() else self.known[place]
        taken = self._taken.get(own.order)
        if taken is None:
            return before
        return Known(heard=True, copied=before.copied or say_the_same(taken, own))

    def _weigh(self, life: int, held: Held) -> None:
        assert self.newest is not None  # noqa: S101 - something is older than it
        turns = self.doubt.turns if self.doubt else 0
        self.doubt = weigh(self.doubt, held, self.newest)
        self.weighed = True
        if self.doubt.turns > turns and self.doubt.turns >= TURNS:
            self.suspected = True
            self._find(Kind.TWO_UNITS, newest=_told(self.newest), older=_told(held.beat.order))
        if len(self.doubt.held) >= NEEDED and not self.suspected:
            self._begin(Life(self.unit_id, life), held.beat)

    def _begin(self, life: Life, last: Heartbeat) -> None:
        """Let what bears this number be of a later life from here on, if the unit may have one more."""
        assert self.newest is not None  # noqa: S101 - what shows a new life is older than it
        assert self.doubt is not None  # noqa: S101 - it is what has shown it
        if self.lives >= MOST:
            self._find(Kind.TOO_MANY_LIVES, life=life.life)
            return
        self.lives += 1
        shown_by = self.doubt.held
        self._find(
            Kind.MEMORY_LOST,
            life=life.life,
            newest=_told(self.newest),
            shown_by=[_told(held.beat.order) for held in shown_by],
            begun=self.lives,
        )
        self._later[last.life] = self.lives
        for held in shown_by[:-1]:  # what comes next is measured by them
            self.counters.take(self.lives, held.beat.boot, held.beat.seq)
        self.beginnings.append(Beginning(life, self.lives, shown_by[:-1]))
        self.doubt = settled(self.doubt, (self.lives, last.boot, last.seq))

    def _takes(self, place: int, index: int, entry: Heartbeat) -> bool:
        flaw = self.counters.flaw(entry)
        if flaw:
            self._refuse(place, entry, flaw, index)
            return False
        self._take(entry)
        return True

    def _take(self, beat: Heartbeat) -> None:
        self.counters.take(*beat.order)
        self._taken.setdefault(beat.order, beat)

    def _refuse(self, place: int, beat: Heartbeat, flaw: Flaw, entry: int | None = None) -> None:
        self.refusals.append(Refusal(place, flaw.reason, flaw.field, flaw.detail, entry))
        if _leaps(flaw):
            self._find(Kind.COUNTER_JUMP, heartbeat=_told(beat.order), detail=flaw.detail)

    def _find(self, kind: Kind, **evidence: Any) -> None:
        self.findings.append(Finding(self.unit_id, kind, evidence))


def _leaps(flaw: Flaw | None) -> bool:
    return flaw is not None and flaw.reason is Reason.COUNTER_JUMP


def _told(order: Order) -> dict[str, int]:
    """Write down how new a heartbeat is; a life by its ordinal, for its number may stand for several."""
    return dict(zip(("ordinal", "boot", "seq"), order, strict=True))
