"""`python -m tests.nemesis.restless_gateway`: a gateway whose threads take turns at almost every step.

What two threads may do to each other then happens within seconds, not once a year.
"""

from __future__ import annotations

import asyncio
import sys

from gateway import __main__ as gateway
from runtime import logs

SWITCH_S = 1e-6

if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_S)
    logs.configure("gateway")
    asyncio.run(gateway.serve("gateway-0-99", range(100)))
