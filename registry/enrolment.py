"""How a unit comes in: its row, its first holder, its broker login, all at once or not at all.

Password and key are derived from a master secret and shown once; what is kept is the broker's hash
and the generation of the master secret.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from operator import attrgetter

from psycopg.rows import DictRow

from protocol.identity import Imei
from protocol.signing import password, unit_key
from registry import audit, entities, newcomers
from registry.audit import Deed
from registry.logins import broker_hash
from registry.newcomers import Announced, Newcomer, Outcome, Verdict, refusal
from registry.units import Unit
from runtime.errors import Conflict, HeliographError
from runtime.settings import Keys
from storage.sql import Connection, execute, load, rows

SQL = load(__file__)

BATCH = 1000
"""Lines of a CSV in one transaction; about 0.3 s of work, most of it hashing."""

Begin = Callable[[], AbstractAsyncContextManager[Connection]]


class AlreadyEnrolled(Conflict):
    """This unit is enrolled already, under the same IMEI and serial number."""


class ImeiTaken(Conflict):
    """Another unit carries this IMEI."""


class SerialNumberTaken(Conflict):
    """Another unit carries this serial number."""


class NamedTwice(Conflict):
    """An earlier line of the same file names this unit."""


class NoNewerKey(Conflict):
    """The unit's key is of the newest generation already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a unit must know to speak and to obey; never kept, shown once."""

    login: Imei
    password: str = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    """A unit that has a name already."""

    imei: str
    serial_number: str
    enrolled_at: datetime


async def enrol(conn: Connection, newcomer: Newcomer, keys: Keys, deed: Deed) -> Credentials:
    """Enrol one unit, STORED.

    Raises `EntityNotFound`, `AlreadyEnrolled`, `ImeiTaken`, `SerialNumberTaken`.
    """
    [objection] = await enrol_all(conn, [newcomer], keys, deed)
    if objection is not None:
        raise objection
    return _credentials(newcomer.imei, keys)


async def enrol_all(
    conn: Connection, wanted: Sequence[Newcomer], keys: Keys, deed: Deed
) -> list[HeliographError | None]:
    """Enrol what can be enrolled; for each in order None, or why not."""
    there = await entities.known(conn, {unit.entity_id for unit in wanted}, scope=deed.by.scope)
    fit = [unit for unit in wanted if unit.entity_id in there]
    enrolled = set(await rows(conn, _names, SQL.enrol, **_columns(fit, keys, deed)))
    holders = await _holders(conn, fit) if len(enrolled) < len(fit) else []
    by_imei = {holder.imei: holder for holder in holders}
    by_serial = {holder.serial_number: holder for holder in holders}

    def verdict(unit: Newcomer) -> HeliographError | None:
        names = (unit.imei, unit.serial_number)
        if unit.entity_id not in there:
            return entities.not_found(unit.entity_id)
        if names in enrolled:
            enrolled.remove(names)  # the same names once more will find their holder
            return None
        return _objection(unit, by_imei.get(unit.imei) or by_serial[unit.serial_number])

    return [verdict(unit) for unit in wanted]


async def import_csv(
    begin: Begin, lines: Iterable[str], keys: Keys, deed: Deed
) -> AsyncIterator[list[Verdict]]:
    """Enrol the units of a CSV, a transaction per batch, and tell what became of each line.

    `BadHeader` comes before anything is enrolled.
    """
    announced = newcomers.read(lines)
    while batch := list(islice(announced, BATCH)):
        async with begin() as conn:
            verdicts = await _enrol_lines(conn, batch, keys, deed)
        yield verdicts


async def rekey(conn: Connection, unit: Unit, keys: Keys, deed: Deed) -> Credentials:
    """Give a unit the key and login of the newest generation; `NoNewerKey` when it has them."""
    deed.require_reason()
    login = broker_hash(password(keys.master(keys.newest), unit.imei))
    if not await execute(conn, SQL.rekey, unit_id=unit.id, generation=keys.newest, broker_login=login):
        raise NoNewerKey(
            f"{unit.serial_number} has a key of generation {keys.newest}; "
            "add a master secret of a newer generation first.",
            key_generation=keys.newest,
        )
    before, after = {"key_generation": unit.key_generation}, {"key_generation": keys.newest}
    await audit.write(conn, deed, "unit_rekeyed", "unit", unit.id, before=before, after=after)
    return _credentials(unit.imei, keys)


async def _enrol_lines(
    conn: Connection, batch: Sequence[Announced | Verdict], keys: Keys, deed: Deed
) -> list[Verdict]:
    good = [line for line in batch if isinstance(line, Announced)]
    objections = await enrol_all(conn, [line.newcomer for line in good], keys, deed)
    verdicts = [line for line in batch if isinstance(line, Verdict)]
    verdicts += [_verdict(line.line, why, deed) for line, why in zip(good, objections, strict=True)]
    return sorted(verdicts, key=attrgetter("line"))


def _verdict(line: int, why: HeliographError | None, deed: Deed) -> Verdict:
    if why is None:
        return Verdict(line=line, outcome=Outcome.ENROLLED)
    # A file is one deed: what was enrolled at its very moment stands further up in it.
    if why.facts.get("enrolled_at") == deed.now:
        return refusal(
            line, NamedTwice(f"An earlier line of this file came first: {why.message}", **why.facts)
        )
    if isinstance(why, AlreadyEnrolled):
        return Verdict(line=line, outcome=Outcome.ALREADY_ENROLLED)
    return refusal(line, why)


def _objection(unit: Newcomer, holder: _Holder) -> HeliographError:
    if (holder.imei, holder.serial_number) == (unit.imei, unit.serial_number):
        return AlreadyEnrolled(
            f"{unit.imei} is enrolled as {unit.serial_number} already.",
            field="imei",
            enrolled_at=holder.enrolled_at,
        )
    if holder.imei == unit.imei:
        return ImeiTaken(
            f"The IMEI {unit.imei} belongs to the unit {holder.serial_number}.",
            field="imei",
            serial_number=holder.serial_number,
            enrolled_at=holder.enrolled_at,
        )
    return SerialNumberTaken(
        f"The serial number {unit.serial_number} belongs to the unit with the IMEI {holder.imei}.",
        field="serial_number",
        imei=holder.imei,
        enrolled_at=holder.enrolled_at,
    )


async def _holders(conn: Connection, wanted: Sequence[Newcomer]) -> list[_Holder]:
    return await rows(
        conn,
        _holder,
        SQL.holders,
        imeis=[unit.imei for unit in wanted],
        serial_numbers=[unit.serial_number for unit in wanted],
    )


def _columns(wanted: Sequence[Newcomer], keys: Keys, deed: Deed) -> dict[str, object]:
    master = keys.master(keys.newest)
    return {
        "imeis": [unit.imei for unit in wanted],
        "serial_numbers": [unit.serial_number for unit in wanted],
        "entity_ids": [unit.entity_id for unit in wanted],
        "product_types": [unit.product_type for unit in wanted],
        "intervals_s": [unit.expected_interval_s for unit in wanted],
        "broker_logins": [broker_hash(password(master, unit.imei)) for unit in wanted],
        "generation": keys.newest,
        "now": deed.now,
        "by": deed.by.email,
        "origin": deed.by.origin,
        "reason": deed.reason or "enrolled",
    }


def _credentials(imei: Imei, keys: Keys) -> Credentials:
    master = keys.master(keys.newest)
    return Credentials(login=imei, password=password(master, imei), key=unit_key(master, imei))


def _names(found: DictRow) -> tuple[str, str]:
    return found["imei"], found["serial_number"]


def _holder(found: DictRow) -> _Holder:
    return _Holder(**found)
