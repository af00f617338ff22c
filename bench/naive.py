"""`python -m bench.naive insert|executemany`: the loops that one would write first, as baselines.

Same table, index, codec and durability as the gateway. They are flattered: the units are known
beforehand, nothing is held against what was heard before, no status is kept, and aiomqtt
acknowledges to the broker before the work is done, so that a crash loses what it had taken.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiomqtt
import psycopg
import structlog

from protocol.codec import decode
from protocol.messages import Heartbeat
from protocol.topics import Channel, filters
from runtime import logs
from runtime.clock import now
from runtime.settings import Broker, Database, Gateway, read
from telemetry.heartbeat_rows import SCALE, SHORT_READINGS
from telemetry.heartbeats import CODES, placed_at

NAME = "gateway-0-99"
EVERY_PARTITION = range(100)
BATCH = 500

# In no .sql file: the table is telemetry's, and what a baseline does to it is nobody's rule.
UNITS = "SELECT imei, id FROM unit"
INSERT = """
INSERT INTO heartbeat (at, received_at, unit_ts, unit_id, life, boot, seq, epoch, mode, output, fw,
                       battery_v_x100, battery_a_x100, panel_v_x100, panel_a_x100, load_a_x100, soc_pct_x100,
                       temp_c_x100, rssi_dbm_x100)
VALUES (%(at)s, %(received_at)s, %(unit_ts)s, %(unit_id)s, 1, %(boot)s, %(seq)s, %(epoch)s, %(mode)s,
        %(output)s, %(fw)s, %(battery_v)s, %(battery_a)s, %(panel_v)s, %(panel_a)s, %(load_a)s, %(soc_pct)s,
        %(temp_c)s, %(rssi_dbm)s)
"""

log = structlog.get_logger()


class Table:
    """The table of heartbeats, and who the units are."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], unit_ids: dict[str, int]) -> None:
        self._conn = conn
        self._unit_ids = unit_ids

    def values(self, message: aiomqtt.Message) -> dict[str, object]:
        """Read a message as strictly as the gateway does."""
        decoded = decode(message.topic.value, bytes(message.payload))
        beat, received_at = decoded.message, now()
        if not isinstance(beat, Heartbeat):
            raise TypeError(f"{message.topic} is no heartbeat")
        return {
            "at": placed_at(beat.ts, received_at),
            "received_at": received_at,
            "unit_ts": beat.ts,
            "unit_id": self._unit_ids[decoded.address.imei],
            "boot": beat.boot,
            "seq": beat.seq,
            "epoch": beat.epoch,
            "mode": CODES[beat.mode],
            "output": beat.output,
            "fw": beat.fw,
            **{name: round(beat.readings[name] * SCALE) for name in SHORT_READINGS},
        }

    async def insert(self, messages: aiomqtt.MessagesIterator) -> None:
        """Give every message a transaction of its own."""
        async for message in messages:
            await self._conn.execute(INSERT, self.values(message))

    async def executemany(self, messages: aiomqtt.MessagesIterator) -> None:
        """Give every 500 messages a transaction; the load is a multiple of it, so none waits for ever."""
        batch: list[dict[str, object]] = []
        async for message in messages:
            batch.append(self.values(message))
            if len(batch) == BATCH:
                async with self._conn.transaction(), self._conn.cursor() as cursor:
                    await cursor.executemany(INSERT, batch)
                batch.clear()


async def main(how: str) -> None:
    """Serve until killed."""
    broker, settings, database = read(Broker), read(Gateway), read(Database)
    options = "-c timezone=UTC -c synchronous_commit=on"
    async with (
        await psycopg.AsyncConnection.connect(database.url, autocommit=True, options=options) as conn,
        aiomqtt.Client(
            broker.host,
            broker.port,
            username=NAME,
            password=settings.broker_uplink_password.get_secret_value(),
            identifier=NAME,
        ) as client,
    ):
        table = Table(conn, dict(await (await conn.execute(UNITS)).fetchall()))
        for pattern in filters(Channel.HEARTBEAT, EVERY_PARTITION):
            await client.subscribe(pattern, qos=1)
        log.info("uplink_subscribed", how=how)
        await {"insert": table.insert, "executemany": table.executemany}[how](client.messages)


if __name__ == "__main__":
    logs.configure("naive")
    asyncio.run(main(sys.argv[1]))
