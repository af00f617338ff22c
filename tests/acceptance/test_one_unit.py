"""One unit's story, from a line in a CSV to power off and on again; its client knows only the wire."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.local.processes import until
from protocol import signing
from protocol.identity import Imei
from tests.acceptance.independent_client import IndependentUnit
from tests.acceptance.stack import Stack, following, running
from tests.builders import an_imei

SERIAL = "HB000501-084032-G"
IMEI = an_imei(501)
CSV = f"imei,serial_number,entity_id,product_type,expected_interval_s\r\n{IMEI},{SERIAL},1,Home2,60\r\n"


class Operator:
    """Somebody at the API."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, path: str, **query: Any) -> Any:
        """Read something that must be there."""
        answer = self._http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def order(self, unit: str, **wish: Any) -> httpx.Response:
        """Order a command, under a key of its own."""
        return self._http.post(
            f"/v1/units/{unit}/commands", json=wish, headers={"Idempotency-Key": str(uuid4())}
        )

    def unit(self) -> Any:
        """Look at the unit of this story."""
        return self.get(f"/v1/units/{SERIAL}")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running() as stack, following(stack):
        stack.start_gateway()
        stack.start_api()
        yield stack


@contextmanager
def somebody(stack: Stack, level: str) -> Iterator[Operator]:
    """Let somebody of that level in at the API."""
    headers = {"Authorization": f"Bearer {stack.token(level)}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=20) as http:
        yield Operator(http)


@pytest.fixture(scope="module")
def admin(stack: Stack) -> Iterator[Operator]:
    with somebody(stack, "admin") as admin:
        yield admin


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Iterator[Operator]:
    with somebody(stack, "technical") as operator:
        yield operator


@pytest.fixture(scope="module")
def unit(stack: Stack) -> Iterator[IndependentUnit]:
    """Enrol the unit while everything runs, and let it in."""
    stack.run("registry", "import", "-", stdin=CSV)
    master = bytes.fromhex(stack.folder.secrets.master)
    unit = IndependentUnit(
        "127.0.0.1",
        stack.mqtt.port,
        imei=IMEI,
        password=signing.password(master, Imei(IMEI)),
        key=signing.unit_key(master, Imei(IMEI)),
        life=2891336453,
    )
    assert unit.connect(), "a unit enrolled while the system runs is not let in"
    yield unit
    unit.leave()


def confirmed(operator: Operator, command: Any) -> bool:
    """Whether the unit itself has confirmed a command."""
    return bool(operator.get(f"/v1/commands/{command['id']}")["state"] == "confirmed")


def believed(operator: Operator) -> tuple[str, str]:
    """Give what is believed of the unit's output, and why."""
    belief = operator.unit()["belief"]
    return belief["state"], belief["reason"]


def waits_for(operator: Operator, command: Any) -> str:
    """Give what a command waits for, while it is under way."""
    return str((operator.get(f"/v1/commands/{command['id']}")["forecast"] or {}).get("waits_for"))


def test_its_first_heartbeat_is_stored_and_it_is_listed_under_its_serial(
    unit: IndependentUnit, operator: Operator
) -> None:
    """S1.1-S1.8, S1.11."""
    unit.heartbeat(readings={"battery_v": 12.81, "humidity": 40}, fw="2.4.1", note="kept", output=True)

    assert until(lambda: operator.unit()["reported"] is not None, 10)

    shown = operator.unit()
    [listed] = operator.get("/v1/units", serial="HB000501")["items"]
    [beat] = operator.get(f"/v1/units/{IMEI}/heartbeats")["items"]
    assert listed["imei"] == IMEI
    assert shown["control_unit"] == f"{IMEI} {SERIAL}"
    assert (shown["enable_status"], shown["od_confirmed"], shown["lifecycle"]) == ("enabled", "no", "STORED")
    assert shown["presence"]["state"] == "online"
    assert believed(operator) == ("on", "reported_output")
    assert (beat["boot"], beat["seq"], beat["mode"]) == (1, 1, "enabled")
    assert beat["readings"] == pytest.approx({"battery_v": 12.81, "humidity": 40})


def test_an_operator_without_the_permission_may_not_switch_it_off(
    unit: IndependentUnit, operator: Operator
) -> None:
    """S1.18: the server enforces it, and says what is missing."""
    refused = operator.order(SERIAL, kind="set_mode", mode="offline_disabled", reason="arrears")

    problem = refused.json()
    assert (refused.status_code, problem["needed"], problem["have"]) == (403, "admin", "technical")
    assert refused.headers["content-type"] == "application/problem+json"
    assert unit.received == []


def test_it_is_switched_off_and_pending_until_its_own_heartbeat_proves_it(
    unit: IndependentUnit, admin: Operator
) -> None:
    """S1.7-S1.10, S1.17."""
    unit.obeys = False
    answer = admin.order(SERIAL, kind="set_mode", mode="offline_disabled", reason="contract 17 ended")
    assert answer.status_code == 202
    command = answer.json()
    assert until(lambda: len(unit.received) == 1, 10), "the command did not reach the unit"
    assert until(lambda: waits_for(admin, command) == "ack", 10)
    assert believed(admin) == ("unknown", "unproven"), "it may have obeyed, or not"
    pending = admin.unit()
    assert (pending["enable_status"], pending["od_confirmed"]) == ("pending_offline_disabled", "no")

    unit.obey(unit.received[0])
    assert until(lambda: admin.get(f"/v1/commands/{command['id']}")["state"] == "acknowledged", 10)
    assert admin.unit()["enable_status"] == "pending_offline_disabled"
    assert believed(admin) == ("probably_off", "acknowledged")
    assert waits_for(admin, command) == "report"
    unit.heartbeat(output=False)

    assert until(lambda: confirmed(admin, command), 10)
    done = admin.unit()
    story = admin.get(f"/v1/commands/{command['id']}")
    assert believed(admin) == ("off", "reported_output")
    assert story["forecast"] is None
    assert (done["enable_status"], done["od_confirmed"]) == ("offline_disabled", "yes")
    assert done["enable_status_changed_by"] == "admin@example.com"
    assert done["enable_status_changed_at"] == story["finished_at"]
    assert [event["event"] for event in story["events"]][-2:] == ["unit_applied", "unit_reported"]


def test_a_unit_that_is_off_cannot_be_switched_off_again(unit: IndependentUnit, admin: Operator) -> None:
    """S1.17: refused in every status but Enabled, and the answer names it; the same wish is no second one."""
    wish = {"kind": "set_mode", "mode": "offline_disabled", "reason": "again"}
    same = admin.order(SERIAL, **wish)
    refused = admin.order(SERIAL, **wish, after_s=86_400)

    assert (same.status_code, same.json()["new"], same.json()["state"]) == (200, False, "confirmed")
    assert (refused.status_code, refused.json()["enable_status"]) == (409, "offline_disabled")
    assert unit.mode == "offline_disabled"


def test_it_is_switched_on_again(unit: IndependentUnit, operator: Operator) -> None:
    unit.obeys = True

    command = operator.order(SERIAL, kind="set_mode", mode="enabled", reason="paid").json()

    assert until(lambda: confirmed(operator, command), 10)
    assert operator.unit()["enable_status"] == "enabled"
    assert operator.unit()["enable_status_changed_by"] == "technical@example.com"


def test_a_ping_is_answered(unit: IndependentUnit, operator: Operator) -> None:
    command = operator.order(SERIAL, kind="ping", reason="is it there?").json()

    assert until(lambda: confirmed(operator, command), 10)
    assert unit.answers[-1]["result"] == "applied"


def test_a_stale_disable_with_a_right_signature_has_no_effect(
    stack: Stack, unit: IndependentUnit, admin: Operator
) -> None:
    """The epoch of the enable is higher: whatever arrives late, the newest intent wins."""
    assert (unit.mode, unit.epoch) == ("enabled", 2)
    answered = len(unit.answers)
    stale = {
        "v": 1,
        "id": "0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a",
        "kind": "set_mode",
        "mode": "offline_disabled",
        "after_s": 0,
        "epoch": 1,
        "attempt": 1,
        "issued_at": 1_795_000_000,
        "expires_at": 4_102_444_800,
    }
    text = f"v1|{IMEI}|{stale['id']}|set_mode|offline_disabled|0|1|4102444800"
    stale["mac"] = hmac.new(unit.key, text.encode(), hashlib.sha256).hexdigest()

    publish_by_hand(stack, f"scu/v1/{IMEI[-2:]}/{IMEI}/command", json.dumps(stale))

    assert until(lambda: len(unit.answers) > answered, 10)
    assert unit.answers[-1]["reason"] == "stale_epoch"
    unit.heartbeat()
    assert until(lambda: bool(dead_letters(admin, "unknown_command")), 10)
    assert admin.unit()["enable_status"] == "enabled"
    assert unit.mode == "enabled"


def test_what_cannot_be_read_is_kept_with_its_reason_and_harms_nothing_else(
    unit: IndependentUnit, admin: Operator
) -> None:
    unit.say("heartbeat", b"\x1f\x8b\x08")
    unit.say("heartbeat", '{"v":1,"boot":1,"seq":0,"mode":"enabled","epoch":0}')
    wrong = "00" if IMEI[-2:] != "00" else "01"
    unit.say("heartbeat", "{}", partition=wrong)
    unit.heartbeat(readings={"battery_v": 12.5, "panel_v": "high"})

    assert until(lambda: bool(dead_letters(admin, "invalid_reading")), 10)

    kept = {
        reason: dead_letters(admin, reason)
        for reason in ("unsupported_encoding", "invalid_field", "wrong_partition")
    }
    assert all(len(letters) == 1 for letters in kept.values()), kept
    assert kept["invalid_field"][0]["path"] == "/seq"
    beats = {beat["seq"]: beat for beat in admin.get(f"/v1/units/{IMEI}/heartbeats")["items"]}
    assert beats[unit.seq]["readings"] == pytest.approx({"battery_v": 12.5})


def test_a_removed_unit_is_cut_and_stays_out(stack: Stack, unit: IndependentUnit, admin: Operator) -> None:
    stack.run("registry", "move", SERIAL, "TERMINATED", "--reason", "scrapped")

    assert until(lambda: unit.refused is not None, 30), "the unit is still connected"
    assert admin.order(SERIAL, kind="ping", reason="still there?").status_code == 409


def dead_letters(admin: Operator, reason: str) -> list[Any]:
    """List dead letters of a reason."""
    items: list[Any] = admin.get("/v1/dead-letters", reason=reason)["items"]
    return items


def publish_by_hand(stack: Stack, topic: str, body: str) -> None:
    """Publish as somebody who has the downlink's login."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="downlink-0-99", protocol=mqtt.MQTTv5)
    client.username_pw_set("downlink-0-99", stack.folder.secrets.downlink)
    client.connect("127.0.0.1", stack.mqtt.port)
    client.loop_start()
    sent = client.publish(topic, body, qos=1)
    sent.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
