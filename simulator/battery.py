"""A unit's battery and panel through the day: what charges it, what drains it, what the meters show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from simulator.weather import Sky

_CAPACITY_WH = 230.0
_PANEL_W = 50.0
_ELECTRONICS_W = 0.6  # the unit itself, always on
_FULL = 0.95  # from here on the charge controller throttles
_LOW, _RECOVERED = 0.12, 0.30  # low-voltage disconnect, and where the load comes back
_STEP = timedelta(minutes=30)


@dataclass(slots=True, kw_only=True)
class Battery:
    """Charge, lifetime energy and currents; moved on by `live_until`."""

    sky: Sky
    charge: float  # 0 empty, 1 full
    energy_wh: float = 0.0  # given to the home since the unit was made
    lvd: bool = False
    _at: datetime | None = None
    _panel_w: float = 0.0
    _load_w: float = 0.0

    def live_until(self, now: datetime, *, switched_on: bool) -> None:
        """Pass the time since the last call, or only look around if this is the first."""
        at = self._at or now
        self._look(at, switched_on=switched_on)
        while at < now:
            step = min(_STEP, now - at)
            self._look(at + step / 2, switched_on=switched_on)
            self._flow(step / timedelta(hours=1))
            at += step
        self._at = now

    def readings(self, at: datetime) -> dict[str, float | bool]:
        """Read every meter."""
        battery_a = self._net_w() / 12.8
        battery_v = 11.6 + 1.5 * self.charge + 0.08 * battery_a
        panel_v = 16.5 + 2.5 * self._panel_w / _PANEL_W if self._panel_w else 0.0
        return {
            "battery_v": round(battery_v, 2),
            "battery_a": round(battery_a, 2),
            "panel_v": round(panel_v, 2),
            "panel_a": round(self._panel_w / panel_v, 2) if panel_v else 0.0,
            "load_a": round(self._load_w / battery_v, 2),
            "energy_wh": round(self.energy_wh, 1),
            "soc_pct": round(100 * self.charge, 1),
            "temp_c": round(self.sky.warmth(at), 1),
            "rssi_dbm": float(self.sky.signal(at)),
            "tamper": False,
            "lvd": self.lvd,
        }

    def _look(self, at: datetime, *, switched_on: bool) -> None:
        if self.charge < _LOW:
            self.lvd = True
        elif self.charge > _RECOVERED:
            self.lvd = False
        taken = min(1.0, (1.0 - self.charge) / (1.0 - _FULL))
        self._panel_w = _PANEL_W * self.sky.sun(at) * taken
        self._load_w = self.sky.wanted_w(at) if switched_on and not self.lvd else 0.0

    def _flow(self, hours: float) -> None:
        self.charge = min(1.0, max(0.0, self.charge + self._net_w() * hours / _CAPACITY_WH))
        self.energy_wh += self._load_w * hours

    def _net_w(self) -> float:
        return self._panel_w - self._load_w - _ELECTRONICS_W
