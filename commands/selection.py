"""Which units a plan means, and which of them it leaves out and why.

A selection is taken bit by bit, so that a million lines need no more memory than a thousand: from a
list that people give (`Listing`), from what all units have in common (`Matching`), or from what
another plan has done (`Reversal`).
"""

from __future__ import annotations

import csv
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from commands import policy
from commands.ledger import CODES
from commands.policy import NotEnabled, UnitInRepair, UnitTerminated, Wish
from protocol.identity import Imei, SerialNumber
from protocol.messages import CommandKind, Mode
from registry.lifecycle import Lifecycle
from registry.permissions import Scope, listed
from runtime.errors import Invalid
from storage.arrays import int4s, texts
from storage.sql import Connection, execute, load, rows, tuples

CHUNK = 2_000
"""Units taken and judged at a time."""

GIVEN_CHARS = 60
"""So much of a line that names nothing is told again."""

HEADINGS = {
    "imei": (Imei,),
    "serial_number": (SerialNumber,),
    "serial": (SerialNumber,),
    "unit": (Imei, SerialNumber),
}
"""A first line with one of these names the column and what stands in it; else the first column is meant.

A serial number may be all digits: what is left of an IMEI that lost one could be another unit's.
"""

BYTE_ORDER_MARK = "\ufeff"

SQL = load(__file__)


class Exclusion(StrEnum):
    """Why a plan leaves a line or a unit out."""

    NOT_A_NAME = "not_a_name"
    """The line holds neither an IMEI nor a serial number, or not the one that its column is for."""

    UNKNOWN = "unknown"
    """No unit within the plan's scope has this name; when its turn came: it is there no longer."""

    TWICE = "twice"
    """An earlier line names the same unit."""

    TERMINATED = "terminated"
    IN_REPAIR = "in_repair"
    ALREADY_PENDING = "already_pending"
    """The same is on its way already."""

    ALREADY_SO = "already_so"
    """The unit reports it, and nothing else is wanted of it."""

    SUSPECTED_CLONE = "suspected_clone"
    """Two units seem to speak under this IMEI: which one would be switched off nobody knows."""

    NOT_ENABLED = "not_enabled"
    """Only an enabled unit can be offline-disabled."""

    ENABLED_SINCE = "enabled_since"
    """Somebody wanted it to be enabled after the plan was made."""

    CHANGED_HANDS = "changed_hands"
    """It came to another entity after the plan had found it: it may be another home by now."""

    EPOCHS_EXHAUSTED = "epochs_exhausted"


class NoUnitsChosen(Invalid):
    """A selection must say which units it means."""


class Listed(NamedTuple):
    """A line of a selection: its place, what was given, and the unit; a flaw where there is none."""

    place: int
    given: str | None
    unit_id: int | None
    flaw: Exclusion | None = None


class Name(NamedTuple):
    """What a line names a unit by: both where the column does not tell, neither where it is no name."""

    place: int
    given: str
    imei: Imei | None
    serial: SerialNumber | None


class Facts(NamedTuple):
    """What is known of a unit that is to be judged; `pending` is its open mode command."""

    unit_id: int
    serial_number: str
    entity_id: int
    lifecycle: Lifecycle
    reported: Mode | None
    heard_epoch: int
    contact_at: datetime | None
    given_epoch: int
    desired: Mode | None
    desired_after_s: int
    floor: int
    """Below this epoch a report does not tell how the unit will stay."""

    pending: Mode | None
    pending_after_s: int
    awaited: bool
    """Whether a mode command waits for a second person."""

    suspected_clone: bool
    held_since: datetime

    @property
    def enable_status(self) -> str:
        """The status as people see it."""
        return policy.enable_status(reported=self.reported, pending=self.pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What the units of a plan have in common; contact is the newest, and who never spoke is silent."""

    entity_id: int | None = None
    product_type: str | None = None
    lifecycle: Lifecycle | None = None
    serial_prefix: str | None = None
    enable_status: str | None = None
    silent_s: int | None = None
    """No contact for so many seconds."""

    heard_s: int | None = None
    """Some contact within so many seconds."""

    @property
    def given(self) -> dict[str, Any]:
        """What narrows."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Source(Protocol):
    """Where the lines of a selection come from."""

    @property
    def told(self) -> dict[str, Any]:
        """What the plan keeps of where its units come from."""

    async def take(self, conn: Connection, scope: Scope, /) -> list[Listed] | None:
        """Give the next lines, in the order of their places; None at the end."""


class Matching:
    """All units that fit a filter, in the order in which they were enrolled."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._after = 0
        self._places = 0

    @property
    def told(self) -> dict[str, Any]:
        """The filter."""
        return {"filter": self._wanted.given}

    async def take(self, conn: Connection, scope: Scope, /) -> list[Listed] | None:
        """Give those of the next units that fit."""
        status = self._wanted.enable_status
        narrowing = {name: value for name, value in asdict(self._wanted).items() if name != "enable_status"}
        found = await tuples(
            conn, SQL.matching, scope=listed(scope), after=self._after, limit=CHUNK, **narrowing
        )
        if not found:
            return None
        ids = [unit_id for (unit_id,) in found]
        self._after = ids[-1]
        if status is not None:
            known = await facts(conn, ids, scope)
            ids = [unit_id for unit_id, unit in sorted(known.items()) if unit.enable_status == status]
        first, self._places = self._places + 1, self._places + len(ids)
        return [Listed(place, None, unit_id) for place, unit_id in enumerate(ids, first)]


class Reversal:
    """All units that a plan ordered something of, in its own order."""

    def __init__(self, plan_id: UUID) -> None:
        self._plan_id = plan_id
        self._after = 0

    @property
    def told(self) -> dict[str, Any]:
        """The plan that is undone."""
        return {"undo_of": str(self._plan_id)}

    async def take(self, conn: Connection, _scope: Scope, /) -> list[Listed] | None:
        """Give the next units, whether or not they are in scope by now: judging tells."""
        found = await tuples(conn, SQL.ordered_by, plan_id=self._plan_id, after=self._after, limit=CHUNK)
        if not found:
            return None
        self._after = found[-1][0]
        return [Listed(place, None, unit_id) for place, unit_id in found]


class Listing:
    """Units that people name line by line in a CSV, by IMEI or serial number; the row is the place."""

    def __init__(self, lines: Iterable[str], digest: str) -> None:
        self._names = named(lines)
        self._digest = digest

    @property
    def told(self) -> dict[str, Any]:
        """The list, by the SHA-256 of its bytes."""
        return {"list_sha256": self._digest}

    async def take(self, conn: Connection, scope: Scope, /) -> list[Listed] | None:
        """Read the next lines and find the units that they name."""
        names = list(islice(self._names, CHUNK))
        if not names:
            return None
        found = await rows(
            conn,
            lambda row: (row["place"], row["unit_id"]),
            SQL.by_names,
            places=int4s([name.place for name in names]),
            imeis=texts([name.imei for name in names]),
            serials=texts([name.serial for name in names]),
            scope=listed(scope),
        )
        ids = dict(found)
        return [
            Listed(name.place, _shown(name.given), ids.get(name.place), _flaw(name, ids)) for name in names
        ]


def named(lines: Iterable[str]) -> Iterator[Name]:
    """Give what each line of a CSV that is not empty names.

    Each line is read by itself: a quotation mark that is never closed spoils its own line only.
    """
    column, heading = 0, "unit"
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if number == 1:
            text = text.removeprefix(BYTE_ORDER_MARK)
            headings = [cell.strip().lower() for cell in _cells(text)]
            found = next((name for name in HEADINGS if name in headings), None)
            if found:
                column, heading = headings.index(found), found
                continue
        if text.strip():
            cells = _cells(text)
            given = cells[column].strip() if column < len(cells) else ""
            yield Name(number, given, *names_of(given, heading))


def names_of(text: str, heading: str = "unit") -> tuple[Imei | None, SerialNumber | None]:
    """Read a text as what its heading says; spreadsheets protect digits by `="…"`, people by `'`."""
    bare = text.removeprefix('="').removesuffix('"') if text.startswith('="') else text.removeprefix("'")
    imei: Imei | None = None
    serial: SerialNumber | None = None
    if Imei in HEADINGS[heading]:
        with suppress(Invalid):
            imei = Imei(bare)
    if SerialNumber in HEADINGS[heading]:
        with suppress(Invalid):
            serial = SerialNumber(bare)
    return imei, serial


def chosen(wanted: Filter, *, everything: bool) -> Filter:
    """Give the filter if it narrows, or if every unit is asked for in so many words; never both."""
    if bool(wanted.given) == everything:
        raise NoUnitsChosen(
            "Give at least one thing that the units have in common, or say that all are meant."
        )
    return wanted


async def one_by_one(conn: Connection) -> None:
    """Let the statements of this transaction look up each unit by itself, whatever the planner believes."""
    await execute(conn, SQL.one_by_one)


async def facts(conn: Connection, unit_ids: Sequence[int], scope: Scope) -> dict[int, Facts]:
    """Gather what is known of units within a scope."""
    found = await tuples(conn, SQL.facts, unit_ids=int4s(unit_ids), scope=listed(scope))
    return {one[0]: _facts(one) for one in found}


def judge(wish: Wish, unit: Facts) -> Exclusion | None:
    """Tell why this unit is not to be told so, if it is not: in a dry run, and when its turn comes."""
    try:
        policy.check_unit(wish, unit)
        if _on_its_way(wish, unit):
            return Exclusion.ALREADY_PENDING
        if unit.pending is None and unit.reported is wish.mode and _stays_so(wish, unit):
            return Exclusion.ALREADY_SO
        policy.check_status(wish, unit, reported=unit.reported, pending=unit.pending)
    except UnitTerminated:
        return Exclusion.TERMINATED
    except UnitInRepair:
        return Exclusion.IN_REPAIR
    except NotEnabled:
        return Exclusion.NOT_ENABLED
    return Exclusion.SUSPECTED_CLONE if wish.disables and unit.suspected_clone else None


def _on_its_way(wish: Wish, unit: Facts) -> bool:
    """Whether the same is pending; an enable goes once more, to take the place of what waits for approval."""
    same = unit.pending is not None and wish == wish_of(unit.pending, unit.pending_after_s)
    return same and (wish.disables or not unit.awaited)


def _stays_so(wish: Wish, unit: Facts) -> bool:
    """Whether nothing that was ever sent to a unit can take it away from the mode that it reports."""
    wanted = unit.desired is None or wish == wish_of(unit.desired, unit.desired_after_s)
    return wanted and not unit.awaited and unit.heard_epoch >= unit.floor


def wish_of(mode: Mode, after_s: int = 0) -> Wish:
    """Give the wish of a plan: a mode."""
    return Wish(kind=CommandKind.SET_MODE, mode=mode, after_s=after_s)


def _cells(line: str) -> list[str]:
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return [line]


def _shown(text: str) -> str:
    """Give a text as it can be stored and shown: cut, and without characters that cannot."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:GIVEN_CHARS])


def _flaw(name: Name, found: Container[int]) -> Exclusion | None:
    if name.place in found:
        return None
    return Exclusion.NOT_A_NAME if name.imei is None and name.serial is None else Exclusion.UNKNOWN


def _facts(found: tuple[Any, ...]) -> Facts:
    """Build from a row of `:facts`, whose columns stand in the order of the fields."""
    told = Facts._make(found)
    return told._replace(
        lifecycle=Lifecycle(told.lifecycle),
        reported=None if told.reported is None else CODES[told.reported],
        heard_epoch=told.heard_epoch or 0,
        given_epoch=told.given_epoch or 0,
        desired=None if told.desired is None else Mode(told.desired),
        desired_after_s=told.desired_after_s or 0,
        floor=told.floor or 0,
        pending=None if told.pending is None else Mode(told.pending),
        pending_after_s=told.pending_after_s or 0,
    )
