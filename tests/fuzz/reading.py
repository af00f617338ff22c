"""Search for a topic and payload that break the reading of deliveries, guided by coverage.

`python -m tests.fuzz.reading` (or `make fuzz`) needs atheris, which is not among the requirements. What it
finds is written to a file; named on the command line, that file is said again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path

LONGEST = 70_000  # bytes: somewhat more than a body may have


def main() -> None:
    """Run until the time is over or something is found."""
    parser = argparse.ArgumentParser(description="fuzz the reading of deliveries")
    parser.add_argument("--seconds", type=int, default=300, help="how long to search")
    parser.add_argument("--seed", type=int, default=1, help="where to begin")
    parser.add_argument("--findings", type=Path, default=Path(), help="folder for what is found")
    parser.add_argument("again", nargs="*", help="files of findings, to be said again")
    asked = parser.parse_args()
    try:
        atheris = import_module("atheris")
    except ModuleNotFoundError:
        parser.exit(2, f"The fuzzer needs atheris: type `{sys.executable} -m pip install atheris`.\n")
    with atheris.instrument_imports(include=["gateway", "protocol", "telemetry"]):
        target = import_module("tests.fuzz.target")
    with tempfile.TemporaryDirectory() as corpus:
        target.plant(Path(corpus), LONGEST)
        words = [
            f"-max_total_time={asked.seconds}",
            f"-seed={asked.seed}",
            f"-max_len={LONGEST}",
            f"-artifact_prefix={asked.findings}/",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        atheris.Setup(
            [sys.argv[0], *words, *(asked.again or [corpus])],
            lambda data: target.deliver(data, atheris.FuzzedDataProvider),
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
