"""Ends the session of a gateway that will not come back: the broker then forgets what waits for it."""

from __future__ import annotations

import asyncio

import mqtt5

from gateway.session import CONNECT_S, BrokerGone, dial, introduction
from gateway.tenure import lock_name
from runtime.errors import Conflict, Invalid
from runtime.settings import Broker, Database, Gateway
from storage import dedicated


class StillServing(Conflict):
    """A gateway of this name is at work."""


class Unconfirmed(Invalid):
    """What cannot be undone was not confirmed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"This ends the session of {name} at the broker for good. Every message that waits in it is "
            "lost, although its unit was told that the broker has it; how many there are the broker does not "
            "tell. Confirm with --yes.",
            gateway=name,
        )


async def retire(name: str, broker: Broker, gateway: Gateway, database: Database) -> bool:
    """End the session of that name, while nobody can begin to serve under it; tells whether there was one."""
    async with dedicated.connection(database) as conn:
        if not await dedicated.try_lock(conn, lock_name(name)):
            raise StillServing(f"A gateway called {name} is at work; stop it first.", gateway=name)
        there = await _visit(introduction(name, gateway), broker)
        await _visit(introduction(name, gateway, last=True), broker)
        return there


async def _visit(hello: mqtt5.ConnectPacket, broker: Broker) -> bool:
    """Connect, take nothing and leave; tells whether the broker had a session."""
    session = await dial(broker, hello, lambda _: False)
    try:
        async with asyncio.timeout(CONNECT_S):
            welcome = await session.accepted
            session.close()
            await session.ended
    except TimeoutError:
        raise BrokerGone("The broker did not answer in time.", seconds=CONNECT_S) from None
    finally:
        session.close()
    return welcome.session_present
