"""Whose CPU it was: what the accounts of processes and of the machine come to."""

from __future__ import annotations

import os

import pytest

from bench.shares import PARTS, Reading
from deploy.local.processes import Identity

BROKER, SESSION, LATER = Identity(10, 1.0), Identity(20, 1.0), Identity(20, 9.0)
CORES = os.cpu_count() or 1


def test_each_part_used_what_its_processes_used_meanwhile() -> None:
    before = Reading(0.0, {(BROKER, "broker"): 7.0, (SESSION, "backend"): 1.0}, idle=5.0, stolen=0.0, wal=0)
    after = Reading(10.0, {(BROKER, "broker"): 9.0, (SESSION, "backend"): 4.0}, idle=6.0, stolen=0.5, wal=0)

    spent = after.since(before)

    assert {part: seconds for part, seconds in spent.items() if seconds} == {
        "broker": 2.0,
        "backend": 3.0,
        "idle": 1.0,
        "stolen": 0.5,
        "others": pytest.approx(10.0 * CORES - 6.5),
        "cores": 10.0 * CORES,
    }
    assert spent.keys() == PARTS.keys()


def test_a_process_that_took_over_a_pid_counts_from_its_own_start() -> None:
    before = Reading(0.0, {(SESSION, "backend"): 8.0}, idle=0.0, stolen=0.0, wal=0)
    after = Reading(10.0, {(LATER, "backend"): 3.0}, idle=0.0, stolen=0.0, wal=0)

    assert after.since(before)["backend"] == 3.0


def test_the_parts_add_up_to_what_all_cores_could_do() -> None:
    before = Reading(0.0, {}, idle=0.0, stolen=0.0, wal=0)
    after = Reading(10.0, {(BROKER, "broker"): 2.0}, idle=3.0, stolen=1.0, wal=0)

    spent = after.since(before)

    assert sum(seconds for part, seconds in spent.items() if part != "cores") == pytest.approx(spent["cores"])
