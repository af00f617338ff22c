"""What the API believes of units, and when it expects commands to take effect, from what is stored."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from commands.observe import Acked, observe
from protocol.messages import Ack, AckResult, Mode
from registry import units
from registry.permissions import Level
from runtime import clock
from runtime.settings import Commands, Database
from storage.sql import rows
from telemetry import rhythm
from telemetry.heartbeats import OLDEST_S
from tests.calling import OWN, Site, site, unit_of
from tests.stored import a_beat, store

UNIT = f"/v1/units/{unit_of(OWN)}"
COMMANDS = f"{UNIT}/commands"
DISABLE = {"kind": "set_mode", "mode": "offline_disabled", "reason": "instalment missed"}
ARM = {**DISABLE, "after_s": 86_400}
ENABLE = {"kind": "set_mode", "mode": "enabled", "reason": "paid"}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Site]:
    async with site(database) as opened:
        yield opened


async def believed(here: Site) -> dict[str, Any]:
    """Give what is believed of the unit, on its page as in the list."""
    token = await here.token()
    shown: dict[str, Any] = (await here.get(UNIT, token)).json()["belief"]
    [listed] = (await here.get("/v1/units", token, serial=unit_of(OWN))).json()["items"]
    assert {**listed["belief"], "age_s": 0} == {**shown, "age_s": 0}
    return shown


async def judged(here: Site) -> tuple[str, str]:
    found = await believed(here)
    return found["state"], found["reason"]


async def age(here: Site, by: timedelta) -> None:
    """Let everything that was heard and sent be older."""
    await here.sql(
        """UPDATE unit_status SET reported_at = reported_at - %s, contact_at = contact_at - %s,
                                  live_contact_at = live_contact_at - %s""",
        *[by] * 3,
    )
    await here.sql("UPDATE command SET attempted_at = attempted_at - %s", by)


async def order(here: Site, wish: dict[str, Any]) -> dict[str, Any]:
    answer = await here.post(COMMANDS, await here.token(Level.ADMIN), wish)
    assert answer.status_code == 202, answer.text
    ordered: dict[str, Any] = answer.json()
    return ordered


async def sends(here: Site, wish: dict[str, Any]) -> dict[str, Any]:
    """Order a command, and let it have been sent once."""
    ordered = await order(here, wish)
    await here.sends(ordered["id"])
    return ordered


async def answers(here: Site, command: dict[str, Any], result: AckResult) -> None:
    """Let the unit answer, and report nothing."""
    ack = Ack(
        command_id=command["id"],
        attempt=1,
        epoch=command["epoch"],
        result=result,
        reason="hardware" if result is AckResult.REFUSED else None,
        mode=command["mode"],
    )
    async with here.pool.transaction() as conn:
        await observe(
            conn,
            acks=[Acked(unit_id=1, ack=ack)],
            reports=[],
            listening=[],
            actor="g",
            settings=Commands(),
        )


async def test_of_a_unit_that_was_never_heard_nothing_is_believed(here: Site) -> None:
    assert await believed(here) == {
        "state": "unknown",
        "reason": "never_reported",
        "since": None,
        "age_s": None,
        "locks_at": None,
    }


async def test_what_a_unit_without_a_report_was_sent_counts_and_what_waits_does_not(here: Site) -> None:
    ordered = await order(here, ENABLE)
    waiting = await judged(here)
    await here.sends(ordered["id"])
    sent = await judged(here)
    await answers(here, ordered, AckResult.APPLIED)
    applied = await judged(here)

    assert waiting == ("unknown", "never_reported")
    assert sent == ("unknown", "unproven")
    assert applied == ("probably_on", "acknowledged")


async def test_a_fresh_report_is_certain_and_an_old_one_is_not(here: Site) -> None:
    """Design 4: never the last report as if it were live. The unit is expected every four hours."""
    await here.reports(1, output=True)
    fresh = await believed(here)
    await age(here, 9 * HOUR)
    old = await believed(here)
    await age(here, 40 * DAY)
    ancient = await believed(here)

    assert (fresh["state"], fresh["reason"]) == ("on", "reported_output")
    assert fresh["age_s"] < 60
    assert (old["state"], old["reason"]) == ("probably_on", "last_output")
    assert 9 * 3_600 <= old["age_s"] < 9 * 3_600 + 60
    assert (ancient["state"], ancient["reason"]) == ("unknown", "silent_too_long")


async def test_certainty_ends_when_the_unit_is_called_silent(here: Site) -> None:
    token = await here.token()
    await here.reports(1, output=False, next_s=600)

    for by in (timedelta(minutes=19), timedelta(minutes=2)):
        await age(here, by)
        shown = (await here.get(UNIT, token)).json()
        certain = shown["belief"]["state"] == "off"
        assert certain is (shown["presence"]["state"] != "silent")

    assert shown["belief"]["state"] == "probably_off"


async def test_the_mode_alone_makes_nothing_certain(here: Site) -> None:
    await here.reports(1, Mode.ENABLED)
    enabled = await judged(here)
    await here.reports(1, Mode.DISABLED)
    disabled = await judged(here)

    assert enabled == ("probably_on", "reported_mode")
    assert disabled == ("probably_off", "reported_mode")


async def test_a_report_that_had_waited_is_as_old_as_its_own_clock_says(here: Site) -> None:
    made = clock.now() - 2 * DAY
    await here.reports(1, output=True, ts=int(made.timestamp()))
    await here.sql("UPDATE unit_status SET reported_live = false")

    found = await believed(here)

    assert (found["state"], found["reason"]) == ("probably_on", "last_output")
    assert 2 * 86_400 <= found["age_s"] < 2 * 86_400 + 60


async def test_a_disable_that_waits_changes_nothing_and_one_that_was_sent_does(here: Site) -> None:
    await here.reports(1, output=True)

    ordered = await order(here, DISABLE)
    waiting = await judged(here)
    await here.sends(ordered["id"])
    sent = await judged(here)
    await answers(here, ordered, AckResult.APPLIED)
    applied = await judged(here)
    await here.reports(1, Mode.OFFLINE_DISABLED, ordered["epoch"], output=False)
    proven = await judged(here)
    await age(here, 40 * DAY)
    long_ago = await judged(here)

    assert waiting == ("on", "reported_output")
    assert sent == ("unknown", "unproven")
    assert applied == ("probably_off", "acknowledged")
    assert proven == ("off", "reported_output")
    assert long_ago == ("probably_off", "reported_mode")


async def test_a_refused_disable_leaves_the_power_on(here: Site) -> None:
    await here.reports(1, output=True)
    ordered = await sends(here, DISABLE)

    await answers(here, ordered, AckResult.REFUSED)

    assert await judged(here) == ("on", "reported_output")


async def test_a_disable_that_was_superseded_after_it_was_sent_may_have_been_applied(here: Site) -> None:
    """The older command may be the last that the unit heard."""
    await here.reports(1, output=True)
    await sends(here, DISABLE)

    await order(here, ENABLE)

    assert await judged(here) == ("unknown", "unproven")


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (AckResult.APPLIED, ("unknown", "unproven")),
        (AckResult.REFUSED, ("on", "reported_output")),
    ],
)
async def test_what_a_unit_answers_to_a_command_at_its_end_counts(
    here: Site, result: AckResult, found: tuple[str, str]
) -> None:
    """The enable that took its place was sent as well, and may have been applied since."""
    await here.reports(1, output=True)
    disable = await sends(here, DISABLE)
    await sends(here, ENABLE)

    await answers(here, disable, result)

    assert await judged(here) == found


async def test_a_report_after_the_sending_has_the_last_word(here: Site) -> None:
    await here.reports(1, output=True)
    await sends(here, DISABLE)

    await here.reports(1, output=True)

    assert await judged(here) == ("on", "reported_output")


async def test_an_armed_unit_locks_itself_after_so_long_without_contact(here: Site) -> None:
    await here.reports(1, output=True)
    ordered = await sends(here, ARM)
    await here.reports(1, Mode.OFFLINE_DISABLED, ordered["epoch"], output=True)

    armed = await believed(here)
    await age(here, 23 * HOUR)
    silent = await judged(here)
    await age(here, 2 * HOUR)
    locked = await believed(here)

    assert (armed["state"], armed["reason"]) == ("on", "reported_output")
    assert armed["locks_at"] is not None
    assert silent == ("probably_on", "last_output")
    assert (locked["state"], locked["reason"]) == ("probably_off", "locked_itself")


async def test_offline_disabled_under_an_epoch_that_nobody_gave_is_unknown(here: Site) -> None:
    await here.reports(1, Mode.OFFLINE_DISABLED, 77)

    assert await judged(here) == ("unknown", "lock_unknown")


async def test_where_two_units_speak_nothing_is_believed(here: Site) -> None:
    await here.reports(1, output=True)
    await here.sql(
        """INSERT INTO unit_alert (unit_id, kind, raised_at, last_at, evidence)
           VALUES (1, 'two_units', now(), now(), '{}')"""
    )

    assert await judged(here) == ("unknown", "two_units")


async def comes_every(here: Site, gap: timedelta, *, times: int, ago: timedelta = HOUR) -> None:
    """Let the unit have made contact so often, the last time so long ago."""
    now = clock.now()
    for number in range(times - 1, -1, -1):
        await here.reports(1, at=now - ago - number * gap)


async def foretold(here: Site, wish: dict[str, Any]) -> dict[str, Any]:
    """Order a command and give its forecast."""
    ordered = await order(here, wish)
    found: dict[str, Any] = (await here.get(f"/v1/commands/{ordered['id']}", await here.token())).json()
    told: dict[str, Any] = found["forecast"]
    return told


async def test_a_waiting_command_is_foretold_from_the_unit_s_own_rhythm(here: Site) -> None:
    """It is expected every four hours, and comes every two."""
    await comes_every(here, 2 * HOUR, times=20)

    told = await foretold(here, DISABLE)

    assert (told["waits_for"], told["rhythm"], told["usual_s"]) == ("contact", "heartbeats", 7_200)
    assert told["outlook"] == "in_time"
    assert told["sentence"].startswith("Waits for the unit, which usually makes contact every ~2 h; last ")
    assert told["last_contact_at"] < told["earliest_at"] <= told["likely_at"] <= told["latest_at"]


async def test_without_enough_contacts_the_unit_s_plan_or_what_is_expected_of_it_is_taken(here: Site) -> None:
    await here.reports(1, next_s=900)
    planned = await foretold(here, ENABLE)
    await here.reports(1)
    expected = await foretold(here, {"kind": "ping", "reason": "is it there?"})

    assert (planned["rhythm"], planned["usual_s"]) == ("planned", 900)
    assert (expected["rhythm"], expected["usual_s"]) == ("expected", 14_400)
    assert expected["outlook"] == "too_late", "a ping lives an hour"


async def test_of_a_unit_that_was_never_heard_no_time_is_told(here: Site) -> None:
    told = await foretold(here, ENABLE)

    assert (told["outlook"], told["likely_at"], told["latest_at"]) == ("unknown", None, None)
    assert "was never heard" in told["sentence"]


async def test_of_a_unit_that_is_silent_for_too_long_no_time_is_told(here: Site) -> None:
    await comes_every(here, HOUR, times=20, ago=5 * HOUR)

    told = await foretold(here, ENABLE)

    assert (told["outlook"], told["likely_at"]) == ("unknown", None)
    assert "when it comes nobody knows" in told["sentence"]


async def test_a_command_of_a_unit_that_listens_is_on_its_way(here: Site) -> None:
    await here.reports(1)
    await here.sql("UPDATE unit_status SET presence = 'online', live_online_at = now()")

    told = await foretold(here, ENABLE)

    assert (told["waits_for"], told["outlook"]) == ("turn", "in_time")


async def test_nothing_is_foretold_of_a_terminated_unit_or_of_a_command_at_its_end(here: Site) -> None:
    await here.reports(1)
    told = await sends(here, DISABLE)
    story = f"/v1/commands/{told['id']}"
    token = await here.token()

    await here.sql("UPDATE unit SET lifecycle = 'TERMINATED' WHERE id = 1")
    barred = (await here.get(story, token)).json()["forecast"]
    await here.reports(1, Mode.OFFLINE_DISABLED, told["epoch"])
    ended = (await here.get(story, token)).json()

    assert (barred["outlook"], barred["likely_at"]) == ("too_late", None)
    assert (ended["state"], ended["forecast"]) == ("confirmed", None)


async def test_a_backlog_and_a_wrong_clock_have_no_part_in_a_rhythm(here: Site) -> None:
    """Ten contacts, each with ten old heartbeats in one message; the unit's clock is 40 days behind."""
    now = clock.now()
    beats = [
        a_beat(10 * contact + entry, now - 40 * DAY - entry * HOUR)._replace(
            received_at=now - (10 - contact) * 3 * HOUR
        )
        for contact in range(10)
        for entry in range(10)
    ]
    await store(here.pool, beats)

    async with here.pool.transaction() as conn:
        found = await rhythm.of_unit(
            conn, await units.by_identity(conn, unit_of(OWN), scope=None), next_s=None, now=now
        )

    assert (found.basis, found.usual, len(found.gaps)) == (rhythm.Basis.HEARTBEATS, 3 * HOUR, 9)


async def test_of_a_unit_that_speaks_often_its_newest_heartbeats_count(here: Site) -> None:
    now = clock.now()
    newest = [now - number * timedelta(minutes=1) for number in range(2_000)]
    older = [newest[-1] - number * timedelta(minutes=3) for number in range(1, 1_500)]
    await store(here.pool, [a_beat(seq, moment) for seq, moment in enumerate(newest + older, 1)])

    async with here.pool.transaction() as conn:
        unit = await units.by_identity(conn, unit_of(OWN), scope=None)
        found = await rhythm.of_unit(conn, unit, next_s=None, now=now)

    assert (found.usual, len(found.gaps)) == (timedelta(minutes=1), 1_999)


async def test_a_rhythm_is_learnt_through_the_index(here: Site, database: Database) -> None:
    """Of a unit that speaks every minute as of one that seldom does, so many rows are read at most."""
    now = clock.now().replace(hour=12, minute=0)
    moments = [now - number * timedelta(minutes=30) for number in range(200)]
    await store(here.pool, [a_beat(1, moment, unit_id=unit) for moment in moments for unit in range(1, 101)])
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("ANALYZE heartbeat")

    async with here.pool.transaction() as conn:
        plan = "\n".join(
            await rows(
                conn,
                lambda row: str(row["QUERY PLAN"]),
                b"EXPLAIN " + rhythm.SQL.arrivals.encode(),  # type: ignore[arg-type]
                unit_id=7,
                since=now - 7 * DAY,
                oldest_s=OLDEST_S,
                limit=rhythm.ROWS_MAX,
            )
        )

    assert "Seq Scan" not in plan
    assert re.search(r"Index Cond: \(\(unit_id = \S+ AND \(at >= ", plan)
