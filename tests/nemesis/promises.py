"""Every promise that is tried, by its number in docs/reliability.md; a part of one has a name behind it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.nemesis import (
    books,
    crashes,
    dispatchers,
    endings,
    forgeries,
    gateway_kills,
    intents,
    intruder,
    leaks,
    memory,
    moves,
    old_news,
    orders,
    outages,
    poison,
    returns,
    subscriptions,
    zombies,
)
from tests.nemesis.rows import Promise

PROMISES: Mapping[str, Promise] = {
    "R1": gateway_kills.at_random,
    "R1.points": gateway_kills.at_points,
    "R2": gateway_kills.said_again,
    "R3": old_news.never_overwrites,
    "R4": books.add_up,
    "R5": poison.in_every_place,
    "R6": memory.stays_flat,
    "R7": outages.heal,
    **subscriptions.PROMISES,
    **zombies.PROMISES,
    "R10": leaks.seen,
    "R11": orders.at_random,
    "R11.points": orders.at_points,
    "R12": endings.named,
    "R13": intents.outlive,
    "R14": moves.of_every_kind,
    "R15": dispatchers.sleep_through_leases,
    "R16": forgeries.directly,
    "R16.wire": intruder.at_the_broker,
    "R21": crashes.of_the_server,
    "R21.data": crashes.data_full,
    "R21.wal": crashes.journal_full,
    "R22": outages.waits,
    **returns.PROMISES,
}
