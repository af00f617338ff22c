"""A battery, a panel and a load through a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from protocol.readings import NAMED
from simulator.battery import Battery
from simulator.dice import chance
from simulator.weather import Sky

MIDNIGHT = datetime(2026, 6, 1, 22, 0, tzinfo=UTC)  # by the sun, two hours ahead
SKY = Sky(seed=1, unit="352099001761481")


def _battery(charge: float) -> Battery:
    return Battery(sky=SKY, charge=charge)


def test_a_draw_belongs_to_its_names_and_lies_in_the_unit_interval() -> None:
    draws = [chance("x", number) for number in range(2_000)]

    assert draws == [chance("x", number) for number in range(2_000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert 0.45 < sum(draws) / len(draws) < 0.55


def test_the_sun_shines_by_day_only_and_less_than_on_a_clear_noon() -> None:
    day = [SKY.sun(MIDNIGHT + timedelta(hours=hour)) for hour in range(24)]

    assert not any(day[hour] for hour in (0, 3, 6, 18, 21))
    assert all(0 < day[hour] <= 1 for hour in range(7, 18))


def test_a_day_charges_the_battery_and_a_night_drains_it() -> None:
    battery = _battery(0.5)
    battery.live_until(MIDNIGHT, switched_on=True)

    battery.live_until(MIDNIGHT + timedelta(hours=6), switched_on=True)
    morning = battery.charge
    battery.live_until(MIDNIGHT + timedelta(hours=17), switched_on=True)

    assert morning < 0.5
    assert battery.charge > morning


def test_a_battery_without_sun_runs_low_disconnects_its_load_and_recovers_by_day() -> None:
    battery = _battery(0.13)
    battery.live_until(MIDNIGHT, switched_on=True)

    battery.live_until(MIDNIGHT + timedelta(hours=6), switched_on=True)
    low = battery.readings(MIDNIGHT + timedelta(hours=6))
    battery.live_until(MIDNIGHT + timedelta(hours=16), switched_on=True)

    assert low["lvd"] is True
    assert low["load_a"] == 0.0
    assert battery.lvd is False


def test_energy_is_counted_while_the_output_is_on_and_never_falls() -> None:
    battery = _battery(0.8)
    counted = []
    for hour in range(48):
        battery.live_until(MIDNIGHT + timedelta(hours=hour), switched_on=hour < 12)
        counted.append(battery.energy_wh)

    assert counted == sorted(counted)
    assert counted[11] > 0
    assert counted[47] - counted[12] == 0.0


def test_the_same_seed_unit_and_times_give_the_same_readings() -> None:
    first, second = _battery(0.6), _battery(0.6)
    for hour in (0, 5, 12, 20):
        at = MIDNIGHT + timedelta(hours=hour)
        first.live_until(at, switched_on=True)
        second.live_until(at, switched_on=True)

        assert first.readings(at) == second.readings(at)


def test_every_named_reading_is_given_and_lies_where_a_twelve_volt_system_lives() -> None:
    battery = _battery(0.9)
    for hour in range(72):
        at = MIDNIGHT + timedelta(hours=hour)
        battery.live_until(at, switched_on=True)
        readings = battery.readings(at)

        assert readings.keys() == NAMED.keys()
        assert 11 < readings["battery_v"] < 14.5
        assert 0 <= readings["soc_pct"] <= 100
        assert -120 < readings["rssi_dbm"] < -40
        assert 10 < readings["temp_c"] < 40
