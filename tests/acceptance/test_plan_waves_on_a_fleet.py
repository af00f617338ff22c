"""A plan on the running system: waves that the fleet itself lets pass, an undo, a plan that is given up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deploy.local.processes import until
from tests.acceptance.stack import Stack, running

UNITS = 40
SEED = 12
FLEET = ("simulator", "fleet", "--units", str(UNITS), "--interval", "0.5", "--seed", str(SEED))
DISABLE: dict[str, Any] = {
    "mode": "offline_disabled",
    "reason": "not paid in July",
    "rate_per_s": 1000,
    "waves_pct": [10, 100],
    "gate_pct": 100,
    "abort_pct": 50,
    "abort_sample": 3,
}
WAIT_S = 60


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running() as stack:
        stack.start_gateway()
        stack.start_api()
        stack.enrol_fleet(UNITS, SEED)
        yield stack


class Planner:
    """An administrator at the API."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def post(self, path: str, body: Any) -> Any:
        """Do something to plans that must succeed."""
        answer = self._http.post(path, json=body, headers={"Idempotency-Key": str(uuid4())})
        assert answer.is_success, answer.text
        return answer.json()

    def lists(self, text: str) -> Any:
        """Draft a plan of a list."""
        headers = {"Idempotency-Key": str(uuid4()), "Content-Type": "text/csv"}
        answer = self._http.post("/v1/plans.csv", params=DISABLE, content=text, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        """Read something that must be there."""
        answer = self._http.get(path, params={"limit": 200} if path.endswith("units") else None)
        assert answer.is_success, answer.text
        return answer.json()

    def executes(self, plan_id: str) -> None:
        """Let a plan go."""
        self.post(f"/v1/plans/{plan_id}/execute", {"reason": "decided"})

    def sees(self, plan_id: str, state: str, **commands: int) -> bool:
        """Wait until a plan stands so, and its commands."""

        def there() -> bool:
            plan = self.get(f"/v1/plans/{plan_id}")
            return bool(plan["state"] == state and commands.items() <= plan["commands"].items())

        return until(there, WAIT_S)


@contextmanager
def planner(stack: Stack) -> Iterator[Planner]:
    """Let an administrator in."""
    headers = {"Authorization": f"Bearer {stack.token('admin')}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=20) as http:
        yield Planner(http)


def reported(planner: Planner) -> set[str]:
    """Give what the fleet reports."""
    return {unit["reported"]["mode"] for unit in planner.get("/v1/units")["items"] if unit["reported"]}


def heard(stack: Stack) -> bool:
    """Whether every unit has reported."""
    return stack.query("SELECT count(*) FROM unit_status WHERE mode = 'e'") == [(UNITS,)]


@pytest.mark.timeout(300)
def test_a_plan_passes_its_gate_by_the_fleet_s_own_reports_and_its_undo_brings_power_back(
    stack: Stack,
) -> None:
    stack.start(*FLEET)
    assert until(lambda: heard(stack), WAIT_S)
    with planner(stack) as admin:
        names = [unit["imei"] for unit in admin.get("/v1/units")["items"]]
        plan = admin.lists("imei\r\n" + "\r\n".join([*names, names[0], "=1+1"]))
        assert plan["summary"]["excluded"] == {"twice": 1, "not_a_name": 1}

        admin.executes(plan["id"])
        assert admin.sees(plan["id"], "ordered", confirmed=UNITS), admin.get(f"/v1/plans/{plan['id']}")
        assert reported(admin) == {"offline_disabled"}

        undo = admin.post(f"/v1/plans/{plan['id']}/undo", {"reason": "the wrong list"})
        admin.executes(undo["id"])
        assert admin.sees(undo["id"], "ordered", confirmed=UNITS), admin.get(f"/v1/plans/{undo['id']}")
        assert reported(admin) == {"enabled"}
        lines = admin.get(f"/v1/plans/{plan['id']}/units")["items"]
        assert [line["exclusion"] for line in lines] == [None] * UNITS + ["twice", "not_a_name"]
    # the second wave was ordered when the whole first one had been confirmed
    waves = stack.query(
        "SELECT ordered_at, count(*), max(finished_at) FROM command WHERE plan_id = %s"
        " GROUP BY ordered_at ORDER BY ordered_at",
        plan["id"],
    )
    (first, number, confirmed), *later = waves
    assert (number, first < confirmed) == (UNITS // 10, True)
    assert sum(count for _, count, _ in later) == UNITS - number
    assert all(confirmed <= ordered for ordered, _, _ in later)


@pytest.mark.timeout(300)
def test_a_plan_that_the_fleet_refuses_ends_with_its_first_wave(stack: Stack) -> None:
    stack.start(*FLEET, "--refuse", "1")
    assert until(lambda: heard(stack), WAIT_S)
    with planner(stack) as admin:
        plan = admin.post("/v1/plans", DISABLE | {"filter": {"all": True}})
        admin.executes(plan["id"])

        assert admin.sees(plan["id"], "aborted"), admin.get(f"/v1/plans/{plan['id']}")
        given_up = admin.get(f"/v1/plans/{plan['id']}")
        assert given_up["ordered"] == UNITS // 10
        assert given_up["aborted_because"]["failed"] >= 3
        assert reported(admin) == {"enabled"}
