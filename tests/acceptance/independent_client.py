"""A unit written from docs/protocol.md alone: it shares no line with the backend or the simulator."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

WAIT_S = 20.0
MODES = ("enabled", "disabled", "offline_disabled")


class IndependentUnit:
    """One unit on a thread of paho's own; remembers mode, epoch and everything it was sent."""

    def __init__(self, host: str, port: int, *, imei: str, password: str, key: bytes, life: int) -> None:
        self.imei, self.key, self.life = imei, key, life
        self.boot, self.seq, self.epoch, self.mode = 1, 0, 0, "enabled"
        self.after_s = 0
        self.obeys = True
        self.received: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.refused: str | None = None
        self._subscribed = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=imei, clean_session=True, protocol=mqtt.MQTTv311
        )
        self._client.username_pw_set(imei, password)
        self._client.will_set(self._topic("presence"), self._presence("offline"), qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._told
        self._host, self._port = host, port

    def connect(self, wait_s: float = WAIT_S) -> bool:
        """Connect, subscribe, say that we are here; try again every second, False after `wait_s`."""
        self._client.reconnect_delay_set(1, 1)
        self._client.connect(self._host, self._port, keepalive=60)
        self._client.loop_start()
        if not self._subscribed.wait(wait_s):
            return False
        self._publish("presence", self._presence("online"), retain=True)
        return True

    def heartbeat(self, **fields: Any) -> int:
        """Report, wait for the broker's acknowledgement, and give the sequence number."""
        self.seq += 1
        report = {"ts": int(time.time()), "readings": {"battery_v": 12.8, "soc_pct": 88}, **fields}
        body = self._report() | report
        self._publish("heartbeat", json.dumps(body))
        return self.seq

    def obey(self, command: dict[str, Any]) -> None:
        """Do what a command says, if it may be done, and answer; the report is another matter."""
        answer = self._answer(command) | {"v": 1, "command_id": command["id"], "attempt": command["attempt"]}
        self.answers.append(answer | {"epoch": self.epoch, "mode": self.mode})
        self._client.publish(self._topic("ack"), json.dumps(self.answers[-1]), qos=1)

    def say(self, channel: str, body: str | bytes, *, partition: str | None = None) -> None:
        """Publish any bytes on one of our topics, wrong ones included."""
        self._publish(channel, body, topic=f"scu/v1/{partition or self.imei[-2:]}/{self.imei}/{channel}")

    def leave(self) -> None:
        """Say goodbye and disconnect."""
        self._publish("presence", self._presence("offline"), retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def _report(self) -> dict[str, Any]:
        identity = {"v": 1, "life": self.life, "boot": self.boot, "seq": self.seq}
        return identity | {"mode": self.mode, "epoch": self.epoch}

    def _topic(self, channel: str) -> str:
        return f"scu/v1/{self.imei[-2:]}/{self.imei}/{channel}"

    def _presence(self, state: str) -> str:
        return json.dumps({"v": 1, "state": state, "life": self.life, "boot": self.boot, "conn": 1})

    def _publish(
        self, channel: str, body: str | bytes, *, retain: bool = False, topic: str | None = None
    ) -> None:
        sent = self._client.publish(topic or self._topic(channel), body, qos=1, retain=retain)
        sent.wait_for_publish(WAIT_S)
        if not sent.is_published():
            raise AssertionError(f"the broker did not acknowledge a {channel}")

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refused = str(reason)
        else:
            client.subscribe(self._topic("command"), qos=1)

    def _told(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        command = json.loads(message.payload)
        self.received.append(command)
        if self.obeys:
            self.obey(command)
            if self.answers[-1]["result"] == "applied" and command["kind"] == "set_mode":
                self.seq += 1
                client.publish(self._topic("heartbeat"), json.dumps(self._report()), qos=1)

    def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if not hmac.compare_digest(command.get("mac", ""), self.sign(command)):
            return {"result": "refused", "reason": "bad_mac"}
        if command["kind"] == "ping":
            return {"result": "applied"}
        if command["kind"] != "set_mode" or command.get("mode") not in {
            "enabled",
            "disabled",
            "offline_disabled",
        }:
            return {"result": "refused", "reason": "unsupported"}
        epoch, wish = command["epoch"], (command["mode"], command.get("after_s") or 0)
        if epoch < self.epoch or (epoch == self.epoch and wish != (self.mode, self.after_s)):
            return {"result": "refused", "reason": "stale_epoch"}
        self.epoch, (self.mode, self.after_s) = epoch, wish
        return {"result": "applied"}

    def sign(self, command: dict[str, Any]) -> str:
        """Give the mac that a command for this unit must carry."""
        parts = (
            "v1",
            self.imei,
            command["id"],
            command["kind"],
            command.get("mode") or "",
            str(command.get("after_s") or 0),
            str(command.get("epoch") or 0),
            str(command["expires_at"]),
        )
        text = "|".join(parts)
        if command.get("args") is not None:
            text += "|" + hashlib.sha256(command["args"].encode()).hexdigest()
        return hmac.new(self.key, text.encode("ascii"), hashlib.sha256).hexdigest()
