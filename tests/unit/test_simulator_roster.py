"""Fleets of any size whose units are told apart and come out the same from the same seed."""

from __future__ import annotations

from csv import DictReader

import pytest

from protocol.identity import Imei, SerialNumber
from simulator.roster import FleetTooLarge, imeis, product_type, serial_number, table


def test_a_seed_names_the_same_units_every_time_and_another_seed_names_others() -> None:
    assert imeis(50, 7) == imeis(50, 7)
    assert imeis(50, 7) != imeis(50, 8)


def test_a_larger_fleet_begins_with_the_smaller_one() -> None:
    assert imeis(300, 7)[:20] == imeis(20, 7)


def test_every_unit_has_an_imei_and_a_serial_number_of_its_own() -> None:
    fleet = imeis(20_000, 3)

    assert len(set(fleet)) == len(fleet)
    assert len({serial_number(imei) for imei in fleet}) == len(fleet)
    assert all(isinstance(imei, Imei) and imei.startswith("35209900") for imei in fleet)


def test_the_units_lie_evenly_in_all_partitions() -> None:
    found = [imei.partition for imei in imeis(10_000, 1)]

    assert {found.count(f"{partition:02}") for partition in range(100)} <= set(range(60, 141))


def test_a_fleet_beyond_the_numbers_of_its_type_is_refused() -> None:
    with pytest.raises(FleetTooLarge):
        imeis(1_000_001, 1)


@pytest.mark.parametrize("entity_id", [None, 12])
def test_the_roster_is_a_csv_that_names_interval_and_entity(entity_id: int | None) -> None:
    rows = list(DictReader(table(3, 5, interval_s=60, entity_id=entity_id).splitlines()))

    assert [row["imei"] for row in rows] == imeis(3, 5)
    assert all(row["serial_number"] == serial_number(Imei(row["imei"])) for row in rows)
    assert all(row["product_type"] == product_type(Imei(row["imei"])) for row in rows)
    assert {row["expected_interval_s"] for row in rows} == {"60"}
    assert {row.get("entity_id") for row in rows} == {None if entity_id is None else "12"}


def test_a_serial_number_looks_like_the_printed_ones() -> None:
    assert serial_number(Imei("352099001761481")) == SerialNumber("HB000501-176148-R")
