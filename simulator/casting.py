"""Who plays in a scenario: units of a roster that nothing is wrong with, as the backend heard them last."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.identity import Imei
from protocol.messages import Mode
from runtime.errors import Conflict
from simulator.backend import Backend, Json, Refused
from simulator.memory import Memories, Memory, new_life

NOT_FOUND = 404
ROSTER_SEED, ROSTER_UNITS = 77, 50
"""Whom scenarios are played with when no roster is named: never the units of `make demo`."""


class Unplayable(Conflict):
    """A scenario cannot be played here now."""


class Remembered(Memories):
    """The memories of units that go on where the backend heard them last."""

    def __init__(self, memories: list[Memory]) -> None:
        super().__init__(None)
        self._given = memories

    def start(self, _imeis: object) -> list[Memory]:
        """Give them as they are."""
        return self._given


async def at_rest(backend: Backend, roster: Sequence[Imei], wanted: int) -> list[Memory]:
    """Take units of the roster that nothing is wrong with, as the backend heard them last."""
    found: list[Memory] = []
    others: list[str] = []
    for imei in roster:
        if len(found) == wanted:
            break
        try:
            shown = await backend.unit(imei)
        except Refused as refused:
            if refused.status != NOT_FOUND:
                raise
            others.append(f"{imei} is not enrolled")
            continue
        if trouble := _trouble(shown) or _contradiction(await backend.drifts(imei)):
            others.append(f"{imei} {trouble}")
        else:
            found.append(_memory(imei, shown["reported"]))
    if len(found) < wanted:
        raise Unplayable(
            f"{wanted} units at rest are needed, and the roster has {len(found)}: {'; '.join(others[:3])}, …"
            " Enrol further ones: python -m simulator roster --units 50 --seed 77 --interval 1 > roster.csv;"
            " python -m registry import roster.csv; then --roster roster.csv."
        )
    return found


def _trouble(shown: Json) -> str | None:
    """Tell what speaks against a unit for a scenario."""
    if shown["presence"]["reason"] == "session_open":
        return "is connected: somebody else plays it"
    if shown["lifecycle"] == "TERMINATED":
        return "is terminated"
    if shown["alerts"]:
        return f"has open alerts ({', '.join(shown['alerts'])})"
    if shown["pending_command"]:
        return "has a command under way"
    return None


def _contradiction(drifts: list[Json]) -> str | None:
    """Tell what a unit still contradicts."""
    still = [drift["cause"] for drift in drifts if drift["closed_at"] is None]
    return f"has open drifts ({', '.join(still)})" if still else None


def _memory(imei: Imei, reported: Json | None) -> Memory:
    """Go on where the unit was heard last, in a new life: the API does not tell the number of the old one."""
    if reported is None:
        return Memory(imei=imei, life=new_life(), boot=1)
    mode = Mode(reported["mode"])
    return Memory(
        imei=imei,
        life=new_life(),
        boot=reported["boot"] + 1,
        epoch=reported["epoch"],
        mode=mode,
        power=mode is Mode.ENABLED,
    )
