"""The gateways of the local stack: each has a range of partitions, a name and a health port of its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from deploy.local.folder import Folder
from registry import access_list

PARTITIONS = 100
MOST = 8
"""Gateways of one machine: each may hold as many connections to the database as its pool."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway to be run."""

    partitions: range
    health_port: int

    @property
    def name(self) -> str:
        """Its login and session at the broker."""
        return access_list.gateway(self.partitions)

    @property
    def words(self) -> tuple[str, ...]:
        """What stands behind `python -m`."""
        return ("gateway", "--partitions", f"{self.partitions[0]}-{self.partitions[-1]}")

    def environment(self, folder: Folder) -> dict[str, str]:
        """Give what it needs to know beyond what every process does."""
        return {
            "HELIOGRAPH_BROKER_UPLINK_PASSWORD": folder.secrets.uplink,
            "HELIOGRAPH_BROKER_DOWNLINK_PASSWORD": folder.secrets.downlink,
            "HELIOGRAPH_HEALTH_PORT": str(self.health_port),
        }


def ranges(number: int) -> list[range]:
    """Divide the partitions among so many gateways, as evenly as can be."""
    edges = [PARTITIONS * place // number for place in range(number + 1)]
    return [range(first, end) for first, end in pairwise(edges)]


def gateways(folder: Folder, number: int) -> list[Gateway]:
    """Plan so many gateways that share the partitions."""
    return [
        Gateway(partitions, folder.port(f"health-{access_list.gateway(partitions)}"))
        for partitions in ranges(number)
    ]
