"""What a simulated fleet is asked to do, what goes wrong in it, and the count of what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulator.dice import chance

LONGEST_INTERVAL_S = 2_592_000
"""What the registry takes for an interval at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities: per heartbeat; `refuse` and `mishandle` per mode command."""

    reboot: float = 0.0  # loses power right after the heartbeat
    away: float = 0.0  # loses its network for some intervals
    duplicate: float = 0.0  # publishes the heartbeat twice
    lose: float = 0.0  # counts the heartbeat and never publishes it
    refuse: float = 0.0  # cannot move its load switch
    mishandle: float = 0.0  # treats it wrongly, in one of the ways of `faults.MISHANDLINGS`


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A fleet's size, rhythm, seed and misfortunes."""

    units: int
    interval_s: float
    seed: int
    faults: Faults = field(default_factory=Faults)
    wake: bool = False  # connect for each report only, instead of staying connected

    def strikes(self, fault: str, *names: object) -> bool:
        """Tell whether a fault meets what is named so."""
        rate: float = getattr(self.faults, fault)
        return rate > 0 and chance(self.seed, fault, *names) < rate


@dataclass(slots=True)
class Tally:
    """What the fleet has done so far; heartbeats here are messages, one for each publish."""

    units: int
    connected: int = 0  # now
    ever_connected: int = 0
    login_refused: int = 0  # units that the broker refused at least once
    connects_failed: int = 0  # attempts that the broker did not answer
    heartbeats_sent: int = 0
    heartbeats_acked: int = 0
    heartbeats_lost: int = 0
    reboots: int = 0
    commands_received: int = 0
    commands_applied: int = 0
    commands_refused: int = 0
