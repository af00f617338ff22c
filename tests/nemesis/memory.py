"""R6: what waits at the broker does not grow the gateway."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from deploy.local.processes import Child, until
from tests.nemesis.ground import DATABASE_URL, Ground, laid
from tests.nemesis.load import Load, numbered
from tests.nemesis.proxy import Proxy, between
from tests.nemesis.rows import Row, Size, Tell
from tests.nemesis.verdict import Trial
from tests.nemesis.watching import verdicts

UNITS = 2_000
PER_SECOND = 20_000
QUEUED = {Size.SHORT: (4_000, 12_000), Size.FULL: (20_000, 100_000)}
"""Messages that wait: as many as the window holds, and many more."""

WINDOW = {Size.SHORT: 3_000, Size.FULL: 20_000}
SLOW_S = 0.02
"""Added to everything that passes between gateway and database, in each direction."""

QUEUED_LIMIT_S = 300.0
GROWTH = 1.15
"""How much larger the gateway may be at its peak with the longer queue: what an allocator's mood is worth."""


def stays_flat(seed: int, size: Size, tell: Tell) -> Row:
    """Compare the peaks of two gateways that find a short and a long queue, before a slow database."""
    fewer, more = QUEUED[size]
    trial = Trial(
        "R6", f"{more:,} messages queued at the broker, database slowed by {SLOW_S:g} s a piece", seed
    )
    with laid(UNITS) as ground, between(ground.port(DATABASE_URL)) as proxy:
        ground.stack.start_gateway().end()
        short, small = _peak(ground, proxy, fewer, 1, size, tell)
        long, large = _peak(ground, proxy, more, 1 + fewer, size, tell)
        ground.stack.start_gateway()
        trial.figures |= {f"peak behind {fewer:,} (MB)": small, f"peak behind {more:,} (MB)": large}
        trial.demand(large <= GROWTH * small, f"{large:.0f} MB at the peak, {small:.0f} MB behind {fewer:,}")
        return trial.of_loads(ground, short, long)


def _peak(
    ground: Ground, proxy: Proxy, number: int, first_seq: int, size: Size, tell: Tell
) -> tuple[Load, float]:
    """Queue so many, let a new gateway take them, and give its largest size in MB."""
    with ground.load(islice(numbered(ground.imeis, first_seq), number), PER_SECOND) as load:
        load.await_end(QUEUED_LIMIT_S)
    tell(f"{number:,} messages are queued")
    proxy.delay(SLOW_S)
    # It is ready only when it is through: the answer to its SUBSCRIBE stands behind the queue.
    gateway = ground.stack.start(
        "gateway",
        env={
            **ground.through(DATABASE_URL, proxy.port),
            "HELIOGRAPH_GATEWAY_WINDOW": str(WINDOW[size]),
        },
    )
    until(ground.stack.gateway_ready, QUEUED_LIMIT_S)
    until(lambda: verdicts(ground.stack) >= number, QUEUED_LIMIT_S)
    peak = _peak_mb(gateway)
    gateway.end()
    proxy.heal()
    tell(f"{peak:.0f} MB at the peak behind {number:,} messages")
    return load, peak


def _peak_mb(process: Child) -> float:
    """Read how large a process was at its largest, as the kernel counted it."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
