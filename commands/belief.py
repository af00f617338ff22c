"""What is believed of a unit's output now, by what it said and by what it may have been told since.

`mode` is what a unit was told to be, not what its output does; and what it said last is no news
of now. So `on` and `off` need a fresh live report that tells of the output; everything else is
probable at best. Every command that was sent since and is not proven makes one more case of what
may be true, and only what all cases agree in is believed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from psycopg.rows import DictRow

from protocol.messages import Mode
from storage.sql import Connection, load, rows

GUESS_FOR = timedelta(days=30)
"""For so long after its word is no longer fresh a guess is made about a unit that nothing keeps off."""

COMMANDS_MAX = 100
"""Of so many of a unit's newest commands it is asked what they may have done."""

SQL = load(__file__)


class Power(StrEnum):
    """What is believed of a unit's output."""

    ON = "on"
    OFF = "off"
    PROBABLY_ON = "probably_on"
    PROBABLY_OFF = "probably_off"
    UNKNOWN = "unknown"


class Ground(StrEnum):
    """What a belief rests on."""

    REPORTED_OUTPUT = "reported_output"
    """A fresh live report tells what the output does."""

    LAST_OUTPUT = "last_output"
    """So it was at the newest report, which is old or had waited in the broker's queue."""

    REPORTED_MODE = "reported_mode"
    """The newest report's mode decides: it keeps the output off until a newer enable, network or not, or
    lets power through while nothing is told of the output."""

    LOCKED_ITSELF = "locked_itself"
    """It was armed to switch off after so long without contact, and there was none for longer."""

    LOCK_UNKNOWN = "lock_unknown"
    """It reports offline_disabled under an epoch that the ledger does not know: off, or only armed."""

    ACKNOWLEDGED = "acknowledged"
    """It said that it applied a command; no report has come since."""

    UNPROVEN = "unproven"
    """A command was sent since its newest report, and whether it obeyed makes the difference."""

    SILENT_TOO_LONG = "silent_too_long"
    """What it said last is too old to guess from."""

    NEVER_REPORTED = "never_reported"
    TWO_UNITS = "two_units"
    """Two units seem to speak under this IMEI: what one says is not true of the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A unit's newest report; `at` is when it was made at the latest, `live` unless it had waited."""

    mode: Mode
    epoch: int
    output: bool | None
    at: datetime
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was heard of a unit: its newest report, and when its newest contact was.

    A report speaks of now for as long as `fresh_for`, if it was live.
    """

    report: Report | None
    contact_at: datetime | None
    fresh_for: timedelta
    two_units: bool


class _Word(NamedTuple):
    """What a unit was told to be, by its report or by a command that it may have applied.

    `after_s` is None when the unit reports offline_disabled, and how is not known.
    """

    mode: Mode
    after_s: int | None
    at: datetime
    ground: Ground
    output: bool | None = None
    live: bool = False


class Sent(NamedTuple):
    """A mode command that was sent: under which epoch, and when it was last sent or answered.

    `applied` when the unit itself said so.
    """

    mode: Mode
    after_s: int
    epoch: int
    at: datetime
    applied: bool

    @classmethod
    def from_row(cls, row: DictRow) -> Sent:
        """Build from a row of `command`."""
        return cls(Mode(row["mode"]), row["after_s"], row["epoch"], row["at"], row["applied"])

    @property
    def word(self) -> _Word:
        """What the unit was told, if it applied this."""
        return _Word(self.mode, self.after_s, self.at, Ground.ACKNOWLEDGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What is believed, why, and of which moment the evidence is; None when there is none.

    `locks_at` is when an armed unit switches itself off unless it makes contact, or has done so.
    """

    power: Power
    ground: Ground
    since: datetime | None
    age_s: int | None
    locks_at: datetime | None


class _Case(NamedTuple):
    """What may be true of a unit, why, and by what of which moment."""

    power: Power
    ground: Ground
    at: datetime | None
    locks_at: datetime | None = None

    @property
    def side(self) -> Power:
        """What it comes down to: a certainty agrees with what is only probable."""
        certain = {Power.ON: Power.PROBABLY_ON, Power.OFF: Power.PROBABLY_OFF}
        return certain.get(self.power, self.power)


async def of_units(conn: Connection, heard: Mapping[int, Heard], now: datetime) -> dict[int, Belief]:
    """Tell what is believed of each unit, by id; `now` is the database's clock."""
    reports = [one.report for one in heard.values()]
    found = await rows(
        conn,
        lambda row: (row["unit_id"], Sent.from_row(row)),
        SQL.sent,
        unit_ids=list(heard),
        epochs=[report.epoch if report else 0 for report in reports],
        ats=[report.at if report else None for report in reports],
        limit=COMMANDS_MAX,
    )
    sent = defaultdict(list)
    for unit_id, one in found:
        sent[unit_id].append(one)
    return {unit_id: judge(one, sent[unit_id], now) for unit_id, one in heard.items()}


def judge(heard: Heard, sent: Sequence[Sent], now: datetime) -> Belief:
    """Judge by what was heard and sent; `sent` in the order of epochs, from that of the report on."""
    if heard.two_units:
        return _believe(_Case(Power.UNKNOWN, Ground.TWO_UNITS, heard.contact_at), now)
    cases = [_reported(heard, sent, now)]
    for command in _since(heard.report, sent):
        case = _case(command.word, heard, now)
        cases = [case] if command.applied else [*cases, case]
    if len({case.side for case in cases}) > 1:
        return _believe(_Case(Power.UNKNOWN, Ground.UNPROVEN, cases[-1].at), now)
    return _believe(cases[0], now)


def _believe(case: _Case, now: datetime) -> Belief:
    age_s = None if case.at is None else max(0, int((now - case.at).total_seconds()))
    return Belief(power=case.power, ground=case.ground, since=case.at, age_s=age_s, locks_at=case.locks_at)


def _since(report: Report | None, sent: Iterable[Sent]) -> list[Sent]:
    """Give the commands that a report says nothing of: newer than what it names, and sent after it."""
    return [one for one in sent if report is None or (one.epoch > report.epoch and one.at > report.at)]


def _reported(heard: Heard, sent: Iterable[Sent], now: datetime) -> _Case:
    """Tell what is true if the unit has applied nothing since its newest report."""
    report = heard.report
    if report is None:
        return _Case(Power.UNKNOWN, Ground.NEVER_REPORTED, heard.contact_at)
    named = (one for one in sent if (one.epoch, one.mode) == (report.epoch, report.mode))
    known = None if report.mode is Mode.OFFLINE_DISABLED else 0
    after_s = next((one.after_s for one in named), known)
    word = _Word(report.mode, after_s, report.at, Ground.REPORTED_MODE, report.output, report.live)
    return _case(word, heard, now)


def _case(word: _Word, heard: Heard, now: datetime) -> _Case:
    """Tell what is true if this is the last that the unit was told: the first rule that holds."""
    locks_at = _locks_at(word, heard)
    fresh_until = word.at + heard.fresh_for
    so_told = Power.PROBABLY_OFF if word.output is False else Power.PROBABLY_ON
    rules = (
        (locks_at is not None and now > locks_at, Power.PROBABLY_OFF, Ground.LOCKED_ITSELF),
        (
            word.live and word.output is not None and now <= fresh_until,
            Power.ON if word.output else Power.OFF,
            Ground.REPORTED_OUTPUT,
        ),
        (
            word.mode is not Mode.ENABLED and word.after_s == 0 and not word.output,
            Power.PROBABLY_OFF,
            word.ground,
        ),
        (word.after_s is None and word.output is not False, Power.UNKNOWN, Ground.LOCK_UNKNOWN),
        (now > fresh_until + GUESS_FOR, Power.UNKNOWN, Ground.SILENT_TOO_LONG),
        (word.output is None, so_told, word.ground),
        (True, so_told, Ground.LAST_OUTPUT),
    )
    power, ground = next((power, ground) for holds, power, ground in rules if holds)
    return _Case(power, ground, word.at, locks_at)


def _locks_at(word: _Word, heard: Heard) -> datetime | None:
    """Tell when an armed unit switches itself off: so long after its last contact."""
    if not word.after_s:
        return None
    return max(word.at, heard.contact_at or word.at) + timedelta(seconds=word.after_s)
