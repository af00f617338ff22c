"""`python -m telemetry` as people and scripts meet it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from protocol.reasons import Reason
from protocol.topics import Channel, topic
from registry import audit
from runtime import clock
from runtime.settings import Database
from storage.pool import open_pool
from telemetry import dead_letters
from telemetry.__main__ import app
from telemetry.dead_letters import Loss
from tests.builders import an_imei

BEAT = b'{"v":1,"boot":1,"seq":1,"mode":"enabled","epoch":0}'


class Terminal:
    """Somebody typing commands about dead letters."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def ok(self, *words: object) -> Any:
        """Run with --json, expect success and give the answer."""
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def fails(self, *words: object) -> Any:
        """Run with --json, expect exit 1 and give the answer."""
        result = self.run(*words, "--json")
        assert result.exit_code == 1, result.output
        return json.loads(result.stdout)

    def run(self, *words: object) -> Result:
        return CliRunner().invoke(app, ["dead-letters", *map(str, words)])

    def lose(self, unit: int, body: bytes = BEAT, reason: Reason = Reason.UNKNOWN_UNIT, **more: Any) -> None:
        told = {"path": "", "detail": "", "received_at": clock.now(), **more}
        loss = Loss(
            topic=topic(an_imei(unit), Channel.HEARTBEAT),
            imei=an_imei(unit),
            unit_id=None,
            reason=reason,
            body=body,
            **told,
        )

        async def keep() -> None:
            async with open_pool(self.database) as pool, pool.transaction() as conn:
                await dead_letters.keep(conn, [loss], gateway="g", share=2)

        asyncio.run(keep())


@pytest.fixture
def terminal(database: Database, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", database.url)
    return Terminal(database)


def test_dead_letters_are_listed_shown_and_decided_about(terminal: Terminal) -> None:
    for unit in (1, 2, 3):
        terminal.lose(unit)
    terminal.lose(4, b"{", Reason.NOT_JSON)

    listed = terminal.ok("list", "--reason", "unknown_unit")
    shown = terminal.ok("show", 1)
    marked = terminal.ok("replay", 1, "--why", "enrolled now")
    by_imei = terminal.ok("discard", "--imei", an_imei(2), "--why", "not ours")
    rest = terminal.ok("replay", "--reason", "unknown_unit", "--why", "enrolled now")
    everything = terminal.ok("discard", "--all", "--why", "an old firmware")

    assert [one["id"] for one in listed] == [3, 2, 1]
    assert (shown["refusal"]["reason"], shown["document"]["seq"], shown["obstacle"]) == (
        "unknown_unit",
        1,
        None,
    )
    assert (marked["id"], marked["state"]) == (1, "marked")
    assert by_imei == {"number": 1, "not_replayable": 0, "more": False}
    assert (rest["number"], everything["number"]) == (1, 1)
    assert {one["id"]: one["state"] for one in terminal.ok("list")} == {
        1: "marked",
        2: "discarded",
        3: "marked",
        4: "discarded",
    }
    assert terminal.ok("list", "--state", "open") == []


def test_a_decision_at_the_terminal_stands_in_the_audit(terminal: Terminal) -> None:
    terminal.lose(1)
    terminal.ok("discard", 1, "--why", "not ours")

    async def read() -> list[audit.Entry]:
        async with open_pool(terminal.database) as pool, pool.transaction() as conn:
            return await audit.of_object(conn, "dead_letter", 1)

    [entry] = asyncio.run(read())
    assert (entry.action, entry.reason) == ("dead_letter_discarded", "not ours")
    assert entry.actor.startswith("cli:")


def test_times_narrow_to_when_it_came_first(terminal: Terminal) -> None:
    now = clock.now()
    for days in (1, 2, 3):
        terminal.lose(days, received_at=now - timedelta(days=days))

    def moment(days: float) -> str:
        return (now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S")

    found = terminal.ok("list", "--after", moment(2.5), "--before", moment(1.5))

    assert [one["imei"] for one in found] == [an_imei(2)]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("show", 9), "DeadLetterNotFound"),
        (("replay", 9, "--why", "x"), "DeadLetterNotFound"),
        (("replay", "--why", "x"), "NothingChosen"),
        (("replay", "--all", "--reason", "not_json", "--why", "x"), "NothingChosen"),
        (("discard", 1, "--all", "--why", "x"), "NothingChosen"),
        (("discard", 1, "--imei", an_imei(1), "--why", "x"), "NothingChosen"),
        (("discard", "--imei", "12", "--why", "x"), "NotAnImei"),
        (("discard", 1, "--why", " "), "BadText"),
        (("replay", 2, "--why", "x"), "NotReplayable"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    terminal: Terminal, words: tuple[object, ...], error: str
) -> None:
    terminal.lose(1)
    terminal.lose(1, b'"x"', Reason.INVALID_READING, path="/readings/panel_v")

    assert terminal.fails(*words)["error"] == error
    assert {one["state"] for one in terminal.ok("list")} == {"open"}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("replay", "--all"), "--why"),
        (("discard", 0, "--why", "x"), "ID"),
        (("discard", 2**63, "--why", "x"), "ID"),
        (("list", "--reason", "bad_luck"), "--reason"),
        (("list", "--state", "lost"), "--state"),
        (("list", "--before", "yesterday"), "--before"),
        (("list", "--limit", 0), "--limit"),
    ],
)
def test_a_wrong_word_is_answered_with_the_option_it_belongs_to(
    terminal: Terminal, words: tuple[object, ...], hint: str
) -> None:
    result = terminal.run(*words)

    assert result.exit_code == 2
    assert hint in result.stderr


def test_nothing_that_a_unit_sent_reaches_the_terminal_raw(terminal: Terminal) -> None:
    terminal.lose(1, b"\x1b[2J\x07{", Reason.UNSUPPORTED_ENCODING, detail="\x1b]0;owned\x07", path="/\x9b1m")
    terminal.lose(2, b"\xff\x1b", Reason.NOT_UTF8)

    told = [terminal.run("list"), terminal.run("show", 1), terminal.run("show", 2)]

    assert all(one.exit_code == 0 for one in told)
    assert all(sign.isprintable() or sign == "\n" for one in told for sign in one.stdout)
    assert "ff1b" in told[2].stdout
    assert "[2J" in told[1].stdout


def test_what_is_only_counted_is_told(terminal: Terminal) -> None:
    assert terminal.run("overflow").stdout == "none\n"
    now = clock.now()  # a new day would have a share of its own
    for number in range(4):
        terminal.lose(1, b"%d" % number, Reason.NOT_JSON, received_at=now)

    [counted] = terminal.ok("overflow")

    assert (counted["imei"], counted["reason"], counted["times"]) == (an_imei(1), "not_json", 2)
