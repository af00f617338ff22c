"""The nemesis' own tools: a proxy that does what it says, a choice of promises, rows that are kept."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import typer

from bench.report import renewed
from deploy import measured
from storage.engine import Engine
from tests.builders import an_imei
from tests.nemesis.__main__ import attempt, chosen
from tests.nemesis.load import heartbeat, repeated
from tests.nemesis.promises import PROMISES
from tests.nemesis.proxy import Proxy, between
from tests.nemesis.rows import CannotTry, Row, Size
from tests.nemesis.verdict import invented, missing, twice

WAIT_S = 5.0
SHORT_S = 0.2


@pytest.fixture
def echo() -> Iterator[int]:
    """Run a server that says everything back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(line: socket.socket) -> None:
            with line:
                while data := line.recv(100):
                    line.sendall(data)

        def serve() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return  # the test is over
                threading.Thread(target=answer, args=[line], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with between(echo) as proxy:
        yield proxy


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_S)


def said(line: socket.socket) -> bytes:
    line.sendall(b"hello")
    return line.recv(100)


def test_a_proxy_passes_on_what_both_sides_say(proxy: Proxy) -> None:
    with closing(connected(proxy)) as line:
        assert said(line) == b"hello"


def test_a_cut_ends_what_is_connected_and_lets_the_next_one_in(proxy: Proxy) -> None:
    with closing(connected(proxy)) as line:
        said(line)

        proxy.cut()

        assert line.recv(100) == b""
    with closing(connected(proxy)) as line:
        assert said(line) == b"hello"


def test_who_is_refused_is_let_in_after_the_healing(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)

    proxy.heal()

    with closing(connected(proxy)) as line:
        assert said(line) == b"hello"


def test_what_was_said_to_a_frozen_proxy_arrives_after_the_healing(proxy: Proxy) -> None:
    with closing(connected(proxy)) as line:
        said(line)
        proxy.freeze()
        line.sendall(b"later")
        line.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            line.recv(100)

        proxy.heal()

        line.settimeout(WAIT_S)
        assert line.recv(100) == b"later"


def test_a_delay_holds_back_each_way(proxy: Proxy) -> None:
    with closing(connected(proxy)) as line:
        said(line)
        proxy.delay(SHORT_S)
        began = time.monotonic()

        said(line)

        assert time.monotonic() - began >= 2 * SHORT_S


def test_a_promise_is_chosen_by_its_number_or_by_its_part() -> None:
    assert chosen(["R21"]) == ["R21", "R21.data", "R21.wal"]
    assert chosen(["R21.wal", "R1.points"]) == ["R1.points", "R21.wal"]
    assert chosen([]) == list(PROMISES)
    with pytest.raises(typer.BadParameter, match="R99"):
        chosen(["R1", "R99"])


def test_what_goes_wrong_with_one_trial_is_told_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_seed: int, _size: Size, _tell: object) -> Row:
        raise CannotTry("no tmpfs here")

    def failing(_seed: int, _size: Size, _tell: object) -> Row:
        raise OSError("gone")

    monkeypatch.setattr("tests.nemesis.__main__.PROMISES", {"R1": lacking, "R2": failing})

    assert attempt("R1", 1, Size.SHORT, print) == "not tried: no tmpfs here"
    assert attempt("R2", 1, Size.SHORT, print) == "broke off: OSError: gone"


def test_rows_of_now_leave_other_rows_and_the_other_engine_as_they_were() -> None:
    told = {"date": "2026-01-01", "commit": "abc", "tree_is_clean": True, "machine": "a, 2 cores, 4 GiB"}
    plain = renewed({"R1": {"lost": 0}, "R2": {"lost": 0}}, where(told) | {"engine": Engine.PLAIN}, {})

    later = told | {"commit": "def", "tree_is_clean": False, "machine": "b, 2 cores, 4 GiB"}
    found = renewed({"R1": {"lost": 7}}, where(later) | {"engine": Engine.TIMESCALE}, plain)
    found = renewed({"R2": {"lost": 1}}, where(later) | {"engine": Engine.PLAIN}, found)

    assert found["results"]["R1"] == {"lost": 0} | told
    assert found["results"]["R2"] == {"lost": 1} | later
    assert found["timescale"]["results"] == {"R1": {"lost": 7} | later}


def where(told: dict[str, Any]) -> dict[str, Any]:
    """Give the circumstances of which an entry keeps so much."""
    return told | {"machine": {"cpu": told["machine"][0], "cores": 2, "memory_bytes": 2**32}}


def test_what_was_measured_on_another_machine_is_told_with_it() -> None:
    one = {"a": ["`R1`", "`R2`"]}

    assert measured.machines(one) == "a"
    assert measured.machines({"b": ["`R3`"]} | one) == "`R3`: b; the rest: a"


def test_the_verdict_is_set_arithmetic() -> None:
    one, two, three = (heartbeat(an_imei(1), seq).key for seq in (1, 2, 3))
    assert one is not None
    assert two is not None
    assert three is not None

    assert missing([one, two], [two, three]) == 1
    assert invented([one, two], [two, three]) == 1
    assert twice([one, one, one, two]) == 2


def test_everything_is_said_one_to_five_times() -> None:
    once = [heartbeat(an_imei(1), seq) for seq in range(1, 200)]

    many = repeated(once, random.Random(1))  # noqa: S311 - seeded, not secret

    assert {many.count(message) for message in once} == {1, 2, 3, 4, 5}
    assert many != sorted(many, key=lambda message: message.key or ())
