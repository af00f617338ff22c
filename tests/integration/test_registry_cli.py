"""`python -m registry` as people and scripts meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from typer.testing import CliRunner, Result

from registry.__main__ import app
from registry.newcomers import LINE_MAX
from runtime.settings import Database
from tests.builders import MASTER, a_serial, an_imei

IMEI, SERIAL = "352099001761481", "BB17SMART-150127-0608"
CSV = f"imei,serial_number\n{an_imei(1)},{a_serial(1)}\n{an_imei(2)},=cmd()\n{an_imei(3)},{a_serial(3)}\n"


class Terminal:
    """Somebody typing commands."""

    def ok(self, *words: object, stdin: str | bytes | None = None) -> Any:
        """Run with --json, expect success and give the last line's answer."""
        result = self.run(*words, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout.splitlines()[-1])

    def fails(self, *words: object, stdin: str | bytes | None = None) -> Any:
        """Run with --json, expect exit 1 and give the last line's answer."""
        result = self.run(*words, "--json", stdin=stdin)
        assert result.exit_code == 1, result.output
        return json.loads(result.stdout.splitlines()[-1])

    def run(self, *words: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


@pytest.fixture
def terminal(database: Database, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", database.url)
    monkeypatch.setenv("HELIOGRAPH_MASTER_SECRETS", json.dumps({"1": MASTER.hex()}))
    return Terminal()


def test_enrolment_shows_login_password_and_key_this_once(terminal: Terminal) -> None:
    assert terminal.ok("enrol", IMEI, SERIAL, "--product-type", "Hub2") == {
        "login": IMEI,
        "password": "kq3vhjp4uc6r5aiionbsqeaotw7yzhzr",
        "key": "4268c35fc0c9219201f501ba4b0f08009a7e7a62b3b604af6f4c11b14bd4ed0b",
    }

    again = terminal.fails("enrol", IMEI, SERIAL)
    assert again["error"] == "AlreadyEnrolled"
    assert "password" not in again
    assert terminal.fails("enrol", IMEI, "OTHER-1")["error"] == "ImeiTaken"


def test_an_error_is_one_line_without_json(terminal: Terminal) -> None:
    result = terminal.run("enrol", "1", SERIAL)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: An IMEI has fifteen digits.\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("account", "add", "a@example.com", "--level", "boss", "--global"), "--level"),
        (("account", "add", "a@example.com", "--level", "admin"), "--global"),
        (("account", "add", "a@example.com", "--level", "admin", "--global", "--entity", "1"), "--global"),
        (("account", "add", "a@example.com", "--level", "admin", "--entity", "x"), "--entity"),
        (("token", "issue", "a@example.com", "--name", "x", "--days", "0"), "--days"),
        (("move", SERIAL, "SOLD", "--reason", "x"), "state"),
        (("move", SERIAL, "SHIPPED"), "--reason"),
        (("enrol", IMEI, SERIAL, "--entity", "0"), "--entity"),
        (("broker-logins",), "--file"),
    ],
)
def test_a_wrong_word_is_answered_with_the_option_it_belongs_to(
    terminal: Terminal, words: tuple[str, ...], hint: str
) -> None:
    result = terminal.run(*words)

    assert result.exit_code == 2
    assert hint in result.stderr


def test_people_and_their_tokens(terminal: Terminal) -> None:
    entity = terminal.ok("entity", "add", "Kivu Energy")
    account = terminal.ok("account", "add", "Bob@example.com", "--level", "admin", "--entity", entity["id"])
    token = terminal.ok("token", "issue", "bob@example.com", "--name", "crm", "--days", 7)

    assert (account["email"], account["scope"]) == ("bob@example.com", [entity["id"]])
    assert token["token"].startswith("hg_")
    assert [one["name"] for one in terminal.ok("entity", "list")] == ["Unknown Entity", "Kivu Energy"]
    [listed] = terminal.ok("token", "list")
    assert listed == {name: value for name, value in token.items() if name != "token"}
    assert (
        terminal.fails("account", "add", "BOB@example.com", "--level", "admin", "--global")["error"]
        == "AccountExists"
    )
    assert (
        terminal.fails("token", "issue", "bob@example.com", "--name", "x", "--level", "system")["field"]
        == "level"
    )

    changed = terminal.ok("account", "change", "bob@example.com", "--level", "overview", "--global")
    assert (changed["level"], changed["scope"]) == ("overview", None)
    assert terminal.ok("token", "revoke", token["id"]) == {"revoked": [token["id"]]}
    assert terminal.ok("account", "disable", "bob@example.com", "--reason", "left")["disabled_at"]
    [barred] = terminal.ok("account", "list")
    assert barred["disabled_at"]
    assert terminal.ok("account", "enable", "bob@example.com")["disabled_at"] is None
    assert terminal.ok("token", "issue", "bob@example.com", "--name", "back")["token"]
    assert terminal.fails("account", "enable", "bob@example.com")["error"] == "AccountNotDisabled"


def test_tables_are_for_people(terminal: Terminal) -> None:
    assert terminal.run("account", "list").stdout == "none\n"
    terminal.ok("account", "add", "bob@example.com", "--level", "admin", "--global")
    terminal.ok("token", "issue", "bob@example.com", "--name", "[red]crm[/red]")

    assert "global" in terminal.run("account", "list").stdout
    assert "[red]crm[/red]" in terminal.run("token", "list").stdout
    shown = terminal.run("token", "issue", "bob@example.com", "--name", "x").stdout
    assert shown.splitlines()[0].startswith("token ")
    assert "created_at " in shown


def test_a_table_in_a_pipe_is_as_wide_as_it_needs(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    address = "somebody.with.a.long.name@heliograph.example"
    terminal.ok("account", "add", address, "--level", "admin", "--global")
    terminal.ok("token", "issue", address, "--name", "a program of theirs")

    [head, row] = [line for line in terminal.run("token", "list").stdout.splitlines() if "a" in line]

    assert "last_used_at" in head
    assert address in row


def test_a_unit_goes_its_way(terminal: Terminal) -> None:
    entity = terminal.ok("entity", "add", "Kivu Energy")["id"]
    terminal.ok("enrol", IMEI, SERIAL)

    assert terminal.ok("move", SERIAL, "shipped", "--reason", "to Goma")["lifecycle"] == "SHIPPED"
    assert (
        terminal.ok("reassign", IMEI, "--entity", entity, "--reason", "sold")["entity_name"] == "Kivu Energy"
    )
    refused = terminal.fails("move", SERIAL, "STORED", "--reason", "back")
    assert (refused["error"], refused["from_state"], refused["to_state"]) == (
        "MoveNotAllowed",
        "SHIPPED",
        "STORED",
    )
    assert terminal.fails("move", "NO-SUCH-1", "STORED", "--reason", "x")["error"] == "UnitNotFound"
    assert terminal.fails("rekey", SERIAL, "--reason", "lost")["error"] == "NoNewerKey"


def test_what_is_expected_of_a_product_type(terminal: Terminal) -> None:
    assert terminal.run("product-types").stdout == "none\n"
    terminal.ok("enrol", IMEI, SERIAL, "--product-type", "Hub2")
    hourly = ("product-type", "Hub2", "--expected-interval-s", 3600)

    assert terminal.ok(*hourly, "--reason", "the maker says so") == {
        "name": "Hub2",
        "expected_interval_s": 3600,
    }

    assert terminal.ok("product-types") == [{"name": "Hub2", "expected_interval_s": 3600}]
    moved = terminal.ok("move", SERIAL, "shipped", "--reason", "to Goma")
    assert moved["expected_interval_s"] == 3600
    assert terminal.run(*hourly).exit_code == 2
    assert terminal.fails(*hourly, "--reason", " ")["field"] == "reason"
    wrong = terminal.fails("product-type", "Hub2", "--expected-interval-s", 0, "--reason", "x")
    assert (wrong["error"], wrong["field"]) == ("BadInterval", "expected_interval_s")
    for name in ("Hub2/", "/Hub2", "Hub2/ "):
        slash = terminal.fails("product-type", name, "--expected-interval-s", 60, "--reason", "x")
        assert (slash["error"], slash["field"]) == ("BadText", "name")


def test_what_is_expected_of_one_unit(terminal: Terminal) -> None:
    terminal.ok("enrol", IMEI, SERIAL, "--product-type", "Hub2")
    terminal.ok("product-type", "Hub2", "--expected-interval-s", 3600, "--reason", "the maker says so")
    own = ("expected-interval", SERIAL, "--expected-interval-s", 900)

    assert terminal.ok(*own, "--reason", "on trial")["expected_interval_s"] == 900
    back = terminal.ok("expected-interval", IMEI, "--as-product-type", "--reason", "trial over")
    assert back["expected_interval_s"] == 3600

    assert terminal.run(*own).exit_code == 2
    assert terminal.run(*own, "--as-product-type", "--reason", "x").exit_code == 2
    assert terminal.run("expected-interval", SERIAL, "--reason", "x").exit_code == 2
    wrong = terminal.fails("expected-interval", SERIAL, "--expected-interval-s", 0, "--reason", "x")
    assert (wrong["error"], wrong["field"]) == ("BadInterval", "expected_interval_s")
    assert (
        terminal.fails("expected-interval", "NO-SUCH-1", *own[2:], "--reason", "x")["error"] == "UnitNotFound"
    )


def test_a_new_generation_of_keys_gives_a_new_password(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = terminal.ok("enrol", IMEI, SERIAL)
    monkeypatch.setenv("HELIOGRAPH_MASTER_SECRETS", json.dumps({"1": MASTER.hex(), "2": MASTER[::-1].hex()}))

    second = terminal.ok("rekey", SERIAL, "--reason", "key was read out")

    assert second["login"] == first["login"]
    assert second["password"] != first["password"]


def test_an_import_tells_each_bad_line_and_exits_1(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "units.csv"
    file.write_text(CSV)

    result = terminal.run("import", file)

    assert result.exit_code == 1
    refused, *counts = result.stdout.splitlines()
    assert refused.startswith("line 3: refused: serial_number: A serial number ")
    assert counts == [
        "enrolled          2",
        "already_enrolled  0",
        "refused           1",
    ]
    again = terminal.run("import", file).stdout.splitlines()
    assert again[0] == "line 2: already enrolled"


def test_a_clean_import_from_standard_input_exits_0(terminal: Terminal) -> None:
    counts = terminal.ok("import", "-", stdin=f"\ufeffimei,serial_number\r\n{IMEI},{SERIAL}\r\n".encode())

    assert counts == {"enrolled": 1, "already_enrolled": 0, "refused": 0}


def test_bytes_that_are_not_text_cost_their_line_only(terminal: Terminal) -> None:
    csv = f"imei,serial_number\n{IMEI},BB\xff\n{an_imei(1)},{a_serial(1)}\n".encode("latin-1")

    assert terminal.fails("import", "-", stdin=csv) == {"enrolled": 1, "already_enrolled": 0, "refused": 1}


def test_a_line_without_end_costs_itself_only_and_counts_as_one(terminal: Terminal) -> None:
    """Cut where its reading stops, it would be two lines, and either could be somebody's unit."""
    padded = f"{IMEI},{SERIAL}".ljust(LINE_MAX) + f"{an_imei(1)},{a_serial(1)}"
    csv = f"imei,serial_number\n{'x' * 3 * LINE_MAX}\n{padded}\n{an_imei(2)},?\n{an_imei(3)},{a_serial(3)}"

    result = terminal.run("import", "-", stdin=csv)

    told = [line for line in result.stdout.splitlines() if line.startswith("line ")]
    assert [line.split(":")[0] for line in told] == ["line 2", "line 3", "line 4"]
    assert told[0] == told[1].replace("line 3", "line 2")
    assert "longer than 65536 bytes, its end included" in told[0]
    assert "enrolled          1" in result.stdout


def test_all_or_nothing_enrols_nothing_beside_a_bad_line(terminal: Terminal) -> None:
    assert terminal.fails("import", "-", "--all-or-nothing", stdin=CSV)["error"] == "NothingEnrolled"

    clean = CSV.replace("=cmd()", a_serial(2))
    assert terminal.ok("import", "-", "--all-or-nothing", stdin=clean)["enrolled"] == 3


@pytest.mark.parametrize(("content", "error"), [(None, "FileNotRead"), ("imei;serial\n", "BadHeader")])
def test_a_file_that_is_not_one_is_told_so(
    terminal: Terminal, tmp_path: Path, content: str | None, error: str
) -> None:
    file = tmp_path / "units.csv"
    if content is not None:
        file.write_text(content)

    assert terminal.fails("import", file)["error"] == error


def test_the_broker_s_file_is_written(terminal: Terminal, tmp_path: Path) -> None:
    terminal.ok("enrol", IMEI, SERIAL)

    answer = terminal.ok("broker-logins", "--file", tmp_path / "passwords")

    assert answer == {"file": str(tmp_path / "passwords"), "units": 1}
    assert (tmp_path / "passwords").read_text().startswith(f"{IMEI}:$7$101$")


def test_a_missing_setting_or_server_is_told_in_one_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HELIOGRAPH_MASTER_SECRETS")
    assert terminal.fails("enrol", IMEI, SERIAL)["setting"] == "HELIOGRAPH_MASTER_SECRETS"

    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    monkeypatch.setenv("HELIOGRAPH_DATABASE_DEADLINE_S", "0.2")
    result = terminal.run("entity", "list")
    assert result.exit_code == 1
    assert "HELIOGRAPH_DATABASE_URL" in result.stderr
    assert "Connection refused" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_database_without_tables_is_told_in_one_line(
    terminal: Terminal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = urlsplit(database.url)._replace(path="/postgres")
    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", urlunsplit(bare))

    told = terminal.fails("entity", "list")

    assert told["error"] == "NotMigrated"
    assert "python -m storage migrate" in told["message"]
