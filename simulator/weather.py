"""The sky over each unit: sun, cloud, warmth and radio signal, the same for the same seed, unit and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import pi, sin

from simulator.dice import chance

_HOUR = 3600.0
_EAST = 2 * _HOUR  # the simulated homes lie where the sun is two hours ahead of UTC
_SUNRISE, _SUNSET = 6.0, 18.0  # hours by the sun, near the equator all year
_EVENING = 22.0


@dataclass(frozen=True, slots=True)
class Sky:
    """What one unit's roof sees and its antenna hears."""

    seed: int
    unit: str

    def sun(self, at: datetime) -> float:
        """Give the sunlight on the panel, 0 at night to 1 at a clear noon."""
        hour = _solar_hour(at)
        if not _SUNRISE < hour < _SUNSET:
            return 0.0
        height = sin(pi * (hour - _SUNRISE) / (_SUNSET - _SUNRISE))
        return height * (1 - 0.85 * self._cloud(at))

    def warmth(self, at: datetime) -> float:
        """Give the temperature inside the box in degrees Celsius, warmest in the afternoon."""
        return 23.0 + 6.0 * sin(pi * (_solar_hour(at) - 9) / 12) + 4.0 * self._drift("warmth", at)

    def signal(self, at: datetime) -> int:
        """Give the radio signal in dBm: the place decides most of it."""
        return round(-105 + 45 * chance(self.seed, self.unit, "place") + 6 * self._drift("signal", at))

    def wanted_w(self, at: datetime) -> float:
        """Give the power that the home would draw: little by day, lamps in the evening."""
        evening = _SUNSET <= _solar_hour(at) < _EVENING
        return 2.0 + (9.0 if evening else 3.0) * self._drift("home", at)

    def _cloud(self, at: datetime) -> float:
        region = chance(self.seed, "cloud", at.date())
        return region * self._drift("cloud", at)

    def _drift(self, what: str, at: datetime) -> float:
        """Move between one draw an hour, without a step."""
        hour, part = divmod(at.timestamp() / _HOUR, 1)
        before = chance(self.seed, self.unit, what, int(hour))
        after = chance(self.seed, self.unit, what, int(hour) + 1)
        return before + (after - before) * part


def _solar_hour(at: datetime) -> float:
    return (at.timestamp() + _EAST) / _HOUR % 24
