"""`python -m tests.nemesis.prompt_gateway`: a gateway that soon takes what it hears for what is so now.

What comes in the first 30 s of a connection may have waited at the broker. A trial that kills
gateways every few seconds would never see a live report; here those seconds are few.
"""

from __future__ import annotations

import asyncio

from gateway import __main__ as gateway
from gateway import ingest
from runtime import logs

QUEUED_S = 2.0

if __name__ == "__main__":
    vars(ingest)["QUEUED_S"] = QUEUED_S
    logs.configure("gateway")
    asyncio.run(gateway.serve("gateway-0-99", range(100)))
