"""The durable subscription of one gateway: made anew on every connect, never emptied."""

from __future__ import annotations

import asyncio
import time

import mqtt5
import structlog

from gateway import metrics
from gateway.ingest import Ingest
from gateway.session import REFUSED, BrokerGone, BrokerRefuses, Session, dial, introduction
from protocol.topics import Channel, filters
from runtime.retry import until_stopped
from runtime.settings import Broker, Gateway

EVERY_PARTITION = range(100)
CUT_OFF_S = 10.0
CUT_OFF_TIMES = 4
"""Who is cut off so often in a row, each time so soon (seconds) after it was let in, and let in again at
once, is warned of: a network does that, or another process under this name; Mosquitto does not say which."""

CUT_OFF_HINT = (
    "the network cuts, or another process uses this login: with another database each would store a part"
)

UPLINK = (Channel.HEARTBEAT, Channel.ACK, Channel.PRESENCE)

log = structlog.get_logger()


class Uplink:
    """Everything that units of some partitions say, from the broker into the ingest."""

    def __init__(
        self,
        name: str,
        partitions: range,
        broker: Broker,
        gateway: Gateway,
        ingest: Ingest,
    ) -> None:
        self._name = name
        self._partitions = partitions
        self._broker = broker
        self._gateway = gateway
        self._ingest = ingest
        self._cut_off = 0
        self.subscribed = False

    async def serve(self, stop: asyncio.Event) -> None:
        """Stay subscribed until stopped."""
        await until_stopped("uplink", self._run, stop)

    async def _run(self, stop: asyncio.Event) -> None:
        """Run one session, from connect to its end."""
        try:
            session = await self._open()
        except BrokerGone:
            self._cut_off = 0
            raise
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(session.keep_alive(self._gateway.gateway_keepalive_s)),
                    group.create_task(session.fail_when_ended()),
                    group.create_task(self._begin(session)),
                ]
                await stop.wait()
                await self._ingest.finished.wait()
                for task in tasks:
                    task.cancel()
        finally:
            self._tell(subscribed=False)
            self._count(session, time.monotonic() - began)
            session.close()

    def _count(self, session: Session, lasted_s: float) -> None:
        """Note how a session ended; warn when it is for the same reason again and again."""
        if lasted_s >= CUT_OFF_S:
            self._cut_off = 0
        elif session.cut_off:
            self._cut_off += 1
            if self._cut_off % CUT_OFF_TIMES == 0:
                log.warning("broker_cuts_off", gateway=self._name, times=self._cut_off, hint=CUT_OFF_HINT)

    async def _open(self) -> Session:
        session = await dial(self._broker, introduction(self._name, self._gateway), self._ingest.take)
        self._ingest.connected(session)
        return session

    async def _begin(self, session: Session) -> None:
        """Wait to be let in, and subscribe.

        The answer to a subscription stands behind all that waited for this session, which is taken
        in as fast as the database admits: no time limit would be right. A dead broker is the
        session's to notice.
        """
        welcome = await session.admitted()
        log.info("broker_connected", gateway=self._name, session_present=welcome.session_present)
        if not welcome.session_present:
            self._ingest.nothing_queued()
        await self._subscribe(session)
        self._tell(subscribed=True)

    async def _subscribe(self, session: Session) -> None:
        """Subscribe to what is served, whatever the broker remembers, and to nothing else."""
        wanted = {
            pattern: _topic_filter(pattern, channel)
            for channel in UPLINK
            for pattern in filters(channel, self._partitions)
        }
        codes = await session.subscribe(wanted.values())
        refused = [pattern for pattern, code in zip(wanted, codes, strict=True) if code >= REFUSED]
        if refused:
            raise BrokerRefuses("The broker refused a subscription.", filters=refused[:3], gateway=self._name)
        await session.unsubscribe(sorted(_all_patterns() - wanted.keys()))

    def _tell(self, *, subscribed: bool) -> None:
        if subscribed != self.subscribed:
            log.info("uplink_subscribed" if subscribed else "uplink_ended", gateway=self._name)
        self.subscribed = subscribed
        metrics.CONNECTED.set(subscribed)


def _topic_filter(pattern: str, channel: Channel) -> mqtt5.TopicFilter:
    """Subscribe so that only presence is replayed, and only when the broker had forgotten us.

    Retained as published is off: so the flag tells what was replayed from what was just said.
    """
    replay = channel is Channel.PRESENCE
    return mqtt5.TopicFilter(
        pattern,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain_as_published=False,
        retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
        if replay
        else mqtt5.RetainHandling.SEND_NEVER,
    )


def _all_patterns() -> set[str]:
    """Give every filter that a gateway of any range may have left in its session."""
    ranges = (EVERY_PARTITION, *(range(partition, partition + 1) for partition in EVERY_PARTITION))
    return {
        pattern for channel in UPLINK for partitions in ranges for pattern in filters(channel, partitions)
    }
