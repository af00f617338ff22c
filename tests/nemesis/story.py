"""Everything that can happen to a command, to the model and to the real ledger alike, and compared (R14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tests.nemesis.real_ledger import RealLedger, Stand
from tests.nemesis.wishes import BELIEVED, OFF, ON, PING, Model, Told

Pair = tuple[str, str, bool, str]
"""The kind of a command, its state, whether it was ever sent, and what happened to it."""


@dataclass
class Story:
    """A unit in the model and in the ledger; `pairs` counts what met what, `moves` who went where."""

    model: Model
    real: RealLedger
    pairs: Counter[Pair]
    moves: Counter[tuple[str, str]]

    @property
    def commands(self) -> list[Told]:
        """The commands so far, as the model has them."""
        return self.model.commands

    async def happens(self, event: str, place: int = 0, *, compare: bool = True) -> None:
        """Let it happen to both, and compare; where not, nothing new may come of it."""
        subject = self.commands[place] if self.commands else None
        before = [one.state for one in self.commands]
        pair = subject and (_kind(subject), subject.state, subject.attempt > 0, event)
        expected, found = await EVENTS[event](self, place)
        assert found == expected, f"{event}: the ledger says {found}, the model {expected}"
        if compare:
            stand, wanted = await self.real.look(), _stand(self.model)
            assert stand == wanted, f"after {event}: the ledger has\n{stand}, the model\n{wanted}"
        if pair:
            self.pairs[pair] += 1
        for was, one in zip(before, self.commands, strict=False):
            if was != one.state:
                self.moves[was, one.state] += 1


Event = Callable[[Story, int], Awaitable[tuple[str, str]]]


def _order(mode: str | None, *, suspected: bool = False) -> Event:
    async def event(story: Story, _place: int) -> tuple[str, str]:
        return (
            story.model.order(mode, suspected=suspected),
            await story.real.order(mode, suspected=suspected),
        )

    return event


def _ack(reason: str | None = None) -> Event:
    async def event(story: Story, place: int) -> tuple[str, str]:
        return story.model.ack(story.commands[place], reason), await story.real.ack(place, reason)

    return event


def _settle(outcome: str, *, late: bool = False) -> Event:
    async def event(story: Story, place: int) -> tuple[str, str]:
        expected = story.model.settle(story.commands[place], outcome, late=late)
        return expected, await story.real.settle(place, outcome, late=late)

    return event


def _report(
    what: Callable[[Model, Told], tuple[str, int]], *, live: bool = True, reboot: bool = False
) -> Event:
    async def event(story: Story, place: int) -> tuple[str, str]:
        mode, epoch = what(story.model, story.commands[place])
        expected = story.model.report(mode, epoch, live=live)
        return expected, await story.real.report(mode, epoch, live=live, reboot=reboot)

    return event


async def _cancel(story: Story, place: int) -> tuple[str, str]:
    return story.model.cancel(story.commands[place]), await story.real.cancel(place)


async def _approve(story: Story, place: int) -> tuple[str, str]:
    return story.model.approve(story.commands[place]), await story.real.approve(place)


async def _approve_own(story: Story, place: int) -> tuple[str, str]:
    expected = story.model.approve(story.commands[place], themselves=True)
    return expected, await story.real.approve(place, themselves=True)


async def _dismiss(story: Story, _place: int) -> tuple[str, str]:
    return story.model.dismiss(), await story.real.dismiss()


async def _claim(story: Story, _place: int) -> tuple[str, str]:
    return story.model.claim(), await story.real.claim()


async def _lapse(story: Story, place: int) -> tuple[str, str]:
    return story.model.lapse(story.commands[place]), await story.real.lapse(place)


async def _expire(story: Story, place: int) -> tuple[str, str]:
    return story.model.expire(story.commands[place]), await story.real.expire(place)


async def _ack_foreign(story: Story, place: int) -> tuple[str, str]:
    return "foreign", await story.real.ack(place, foreign=True)


async def _ack_unknown(story: Story, _place: int) -> tuple[str, str]:
    return "unknown", await story.real.ack_unknown()


def _other(mode: str | None) -> str:
    return OFF if mode == ON else ON


EVENTS: Mapping[str, Event] = {
    "order enable": _order(ON),
    "order offline-disable": _order(OFF),
    "order offline-disable of a suspected clone": _order(OFF, suspected=True),
    "order ping": _order(PING),
    "cancel": _cancel,
    "approve": _approve,
    "approve one's own": _approve_own,
    "drifts dismissed": _dismiss,
    "claim": _claim,
    "published": _settle("taken"),
    "nobody listened": _settle("unheard"),
    "publish failed": _settle("failed"),
    "published by who overslept": _settle("taken", late=True),
    "wait over": _lapse,
    "life over": _expire,
    "ack applied": _ack(),
    "ack hardware": _ack("hardware"),
    "ack bad_mac": _ack("bad_mac"),
    "ack stale_epoch": _ack("stale_epoch"),
    "ack expired": _ack("expired"),
    "ack of another unit": _ack_foreign,
    "ack of nothing known": _ack_unknown,
    "report as told": _report(lambda _model, one: (one.mode or ON, one.epoch)),
    "report as told, late": _report(lambda _model, one: (one.mode or ON, one.epoch), live=False),
    "report of the epoch before": _report(lambda _model, one: (_other(one.mode), max(one.epoch - 1, 0))),
    "report of the epoch, contradicting": _report(lambda _model, one: (_other(one.mode), one.epoch)),
    "report ahead": _report(lambda model, one: (one.mode or ON, model.given + 3)),
    "report ahead, contradicting": _report(lambda model, one: (_other(one.mode), model.given + 3)),
    "report absurd": _report(lambda _model, one: (one.mode or ON, BELIEVED + 7)),
    "report of nothing applied": _report(lambda _model, _one: (ON, 0)),
    "reboot": _report(lambda model, _one: (model.mode, model.epoch), reboot=True),
}


def _kind(one: Told) -> str:
    return {ON: "enable", OFF: "offline-disable", PING: "ping"}[one.mode]


def _stand(model: Model) -> Stand:
    return Stand(
        commands=[
            (one.mode, one.state, one.epoch, one.attempt, one.refusal, one.by) for one in model.commands
        ],
        intent=(model.given, model.desired, model.proven, model.floor),
        drifts={cause: (drift.open, drift.sendings, drift.given_up) for cause, drift in model.drifts.items()},
    )
