"""Who is in the simulated fleet: the same units for the same seed, as a list that the registry can import."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from stdnum import luhn

from protocol.identity import Imei, NotAnImei, SerialNumber
from runtime.errors import Invalid
from simulator.dice import chance

TYPE_ALLOCATION = "35209900"
LARGEST_FLEET = 1_000_000  # the numbers under one type allocation code
_STRIDE = 618_033  # has no factor in common with the fleet above: every number comes once, far from the last
_PRODUCTS = ("Hub2", "Home2", "Enterprise")
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"


class BadRoster(Invalid):
    """A roster cannot be read."""


class FleetTooLarge(Invalid):
    """The simulated fleet cannot have so many units."""


def imeis(units: int, seed: int) -> list[Imei]:
    """Name the units of a fleet; a larger fleet of the same seed begins with the same units."""
    if not 0 <= units <= LARGEST_FLEET:
        raise FleetTooLarge(f"A fleet has up to {LARGEST_FLEET} units.", given=units)
    first = int(chance(seed, "imei") * LARGEST_FLEET)
    return [_imei((first + index * _STRIDE) % LARGEST_FLEET) for index in range(units)]


def read(path: Path) -> list[Imei]:
    """Read who is in a roster; `BadRoster` names the line that is no unit."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if "imei" not in (rows.fieldnames or ()):
                raise BadRoster(f"{path} has no column imei; `python -m simulator roster` writes one.")
            return [_listed(path, rows.line_num, row["imei"]) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRoster(f"{path} is no CSV in UTF-8; `python -m simulator roster` writes one.") from error


def serial_number(imei: Imei) -> SerialNumber:
    """Name what is printed on the unit's back."""
    return SerialNumber(f"HB000501-{imei[8:14]}-{_LETTERS[int(imei[8:14]) % len(_LETTERS)]}")


def product_type(imei: Imei) -> str:
    """Name the product that the unit is."""
    return _PRODUCTS[int(chance(imei, "product") * len(_PRODUCTS))]


def table(units: int, seed: int, *, interval_s: int, entity_id: int | None = None) -> str:
    """Write the fleet as CSV for the registry's import; without an entity the column is left out."""
    text = StringIO()
    columns = ["imei", "serial_number", "product_type", "expected_interval_s"]
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns if entity_id is None else [*columns, "entity_id"])
    for imei in imeis(units, seed):
        row = [imei, serial_number(imei), product_type(imei), interval_s]
        rows.writerow(row if entity_id is None else [*row, entity_id])
    return text.getvalue()


def _imei(number: int) -> Imei:
    stem = f"{TYPE_ALLOCATION}{number:06}"
    return Imei(stem + luhn.calc_check_digit(stem))


def _listed(path: Path, line: int, imei: str | None) -> Imei:
    try:
        return Imei(imei or "")
    except NotAnImei as error:
        raise BadRoster(f"{path}, line {line}: {error.message}", given=imei) from error
