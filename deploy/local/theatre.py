"""The simulator's scenarios, played against a system that is started for them and gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.account import Account
from deploy.local.children import step
from deploy.local.folder import REPOSITORY, Folder
from deploy.local.progress import Progress
from deploy.local.stack import Stack, up
from deploy.local.tenancy import Tenancy
from simulator.casting import ROSTER_SEED, ROSTER_UNITS
from simulator.scenario import SETTINGS

SECOND = "second@heliograph.example"
LOOK_S = 0.5


def play(
    words: Sequence[str | Path], folder: Folder, account: Account, tenancy: Tenancy, progress: Progress
) -> int:
    """Run `python -m simulator run` with these words against a system with short deadlines; give its code."""
    os.environ.update(short_deadlines())  # of all children

    def enrol(environment: Mapping[str, str]) -> None:
        fleet = ("--units", str(ROSTER_UNITS), "--seed", str(ROSTER_SEED), "--interval", "1")
        step("registry", "import", "-", env=environment, stdin=step("simulator", "roster", *fleet, env={}))

    with up(folder, account, tenancy, progress, gateways=1, enrol=enrol) as stack:
        environment = {
            **os.environ,
            **stack.environment,
            "HELIOGRAPH_API_URL": f"http://127.0.0.1:{stack.api_port}",
            "HELIOGRAPH_API_TOKEN": stack.token,
            "HELIOGRAPH_APPROVER_TOKEN": _approver(stack.environment),
        }
        argv = [sys.executable, "-m", "simulator", "run", *words]
        with subprocess.Popen(argv, env=environment, cwd=REPOSITORY, start_new_session=True) as run:
            return _watch(run, stack, progress)


def short_deadlines() -> dict[str, str]:
    """Read the settings under which every scenario fits into a minute."""
    lines = SETTINGS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _watch(run: subprocess.Popen[bytes], stack: Stack, progress: Progress) -> int:
    """Keep the system up while the scenarios run; end them when somebody asks for the end."""
    try:
        while run.poll() is None:
            stack.tend()
            if progress.pause(LOOK_S):
                progress.heed()
    finally:
        run.terminate()
    return run.wait()


def _approver(environment: Mapping[str, str]) -> str:
    step("registry", "account", "add", SECOND, "--level", "admin", "--global", env=environment)
    issued = step("registry", "token", "issue", SECOND, "--name", "scenarios", "--json", env=environment)
    token: str = json.loads(issued)["token"]
    return token
