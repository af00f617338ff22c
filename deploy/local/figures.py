"""How the system does, asked from outside: the gateways' metrics and the database."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from deploy.local import web
from deploy.local.comparison import Key
from storage.sql import load

SQL = load(__file__)
RATE_S = 5.0
"""Heartbeats per second are told over so many seconds."""

UNACKNOWLEDGED = "heliograph_gateway_unacknowledged"
NEW = 'heliograph_heartbeats_total{kind="new"}'
REPEATED = 'heliograph_heartbeats_total{kind="repeated"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One look at the running system."""

    units_online: int
    heartbeats_per_s: float
    stored: int
    duplicates: int
    dead_letters: int
    commands: Mapping[str, int]


@dataclass(slots=True)
class Meter:
    """Adds up counters over the gateway's restarts, and tells their rate."""

    totals: dict[str, float] = field(default_factory=dict)
    _seen: dict[str, float] = field(default_factory=dict)
    _past: list[tuple[float, float]] = field(default_factory=list)

    def read(self, samples: Mapping[str, float], now: float) -> None:
        """Take in the counters as they stand; one that is lower than before began anew."""
        for name in (NEW, REPEATED):
            value, before = samples.get(name, 0.0), self._seen.get(name, 0.0)
            self.totals[name] = self.totals.get(name, 0.0) + (value - before if value >= before else value)
            self._seen[name] = value
        self._past = [(at, total) for at, total in self._past if at >= now - RATE_S]
        self._past.append((now, self.totals[NEW]))

    @property
    def rate(self) -> float:
        """Give new heartbeats per second, of late."""
        (then, fewer), (now, more) = self._past[0], self._past[-1]
        return (more - fewer) / (now - then) if now > then else 0.0


class Observer:
    """Looks at one run."""

    def __init__(self, conn: psycopg.Connection[Any], health_ports: Sequence[int], since: datetime) -> None:
        self._conn = conn
        self._meters = {port: Meter() for port in health_ports}
        self._since = since

    def look(self) -> Figures:
        """Tell how the system does now; a gateway that is away leaves its figures as they were."""
        for port, meter in self._meters.items():
            if samples := metrics(port):
                meter.read(samples, time.monotonic())
        heard = [meter for meter in self._meters.values() if meter.totals]
        return Figures(
            units_online=self._value(SQL.units_online),
            heartbeats_per_s=sum(meter.rate for meter in heard),
            stored=round(sum(meter.totals[NEW] for meter in heard)),
            duplicates=round(sum(meter.totals[REPEATED] for meter in heard)),
            dead_letters=self._value(SQL.dead_letters, since=self._since),
            commands=dict(self._conn.execute(SQL.commands, {"since": self._since}).fetchall()),
        )

    def idle(self) -> bool:
        """Whether every gateway answers and holds nothing unacknowledged."""
        return all(metrics(port).get(UNACKNOWLEDGED) == 0 for port in self._meters)

    def received(self) -> list[Key]:
        """Name every heartbeat that was stored in this run, as often as it was."""
        return self._conn.execute(SQL.received, {"since": self._since}).fetchall()

    def stored_among(self, keys: set[Key]) -> set[Key]:
        """Tell which of these heartbeats are stored, in this run or before."""
        imeis, lives, boots, seqs = zip(*keys, strict=True) if keys else ((), (), (), ())
        named = {"imeis": list(imeis), "lives": list(lives), "boots": list(boots), "seqs": list(seqs)}
        return set(self._conn.execute(SQL.stored_among, named).fetchall())

    def first_received(self) -> datetime | None:
        """Tell when the first heartbeat of this run was stored."""
        first: datetime | None = self._value(SQL.first_received, since=self._since)
        return first

    def _value(self, query: Any, **values: object) -> Any:
        found = self._conn.execute(query, values).fetchone()
        return found[0] if found else None


def metrics(port: int) -> dict[str, float]:
    """Read a process's metrics, each under its name and labels; none when it does not answer."""
    answer = web.ask(port, "GET", "/metrics")
    if answer is None or not answer.ok:
        return {}
    return {
        _written(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def _written(name: str, labels: Mapping[str, str]) -> str:
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{told}}}" if told else name
