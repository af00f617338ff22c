"""Settings that cannot be used are refused at the start, by name and without what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.settings import BadSetting, Broker, Database, Gateway, Http, Keys, Operator, Settings, read

SECRET = "hunter2"  # noqa: S105 - in no message


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"postgresql://app:{SECRET}%@host/db", "percent-encode"),
        (f"postgresql://app:{SECRET}%zz@host/db", "percent-encode"),
        (f"postgresql://app:{SECRET}%00@host/db", "percent-encode"),
        (f"postgresql://app:1@{SECRET}@host/db", "percent-encode"),
        (f"postgresql://app:1@a?{SECRET}@host/db", "percent-encode"),
        (f"postgresql://app:12/{SECRET}@host/db", "percent-encode"),
        (f"postgresql://app:{SECRET}/x@host/db", "percent-encode"),
        (f"postgresql://app:{SECRET}/x", "percent-encode"),
        (f"postgresql://app:{SECRET}@host:port/db", "port"),
        (f"postgresql://app:{SECRET}@host:65536/db", "65535"),
        (f"postgresql://app:{SECRET}@host:0/db", "65535"),
        (f"postgresql://app:{SECRET}@one:5432,two:{'9' * 5000}/db", "65535"),
        (f"postgresql://app:{SECRET}@[::1/db", "port"),
        (f"mysql://app:{SECRET}@host/db", "postgresql://"),
        (SECRET, "postgresql://"),
    ],
)
@pytest.mark.parametrize("name", ["HELIOGRAPH_DATABASE_URL", "HELIOGRAPH_DATABASE_OWNER_URL"])
def test_a_database_s_address_that_the_driver_would_spell_out_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, told: str
) -> None:
    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", "postgresql://app@host/db")
    monkeypatch.setenv(name, url)

    with pytest.raises(BadSetting) as refused:
        read(Database)

    assert refused.value.facts == {"setting": name}
    assert told in refused.value.message
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:p%40ss%25%2F%3a@host:5432/db",
        "postgres://app@[::1]:5432/db",
        "postgresql://app:a?b#c@host:/db",
        "postgresql://app:1@one:5432,two/db?target_session_attrs=read-write",
        "postgresql:///db?host=/run/postgresql",
        "postgresql://host/db?user=app@site",
    ],
)
def test_every_address_that_the_driver_understands_is_taken(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", url)

    assert read(Database).url == url


@pytest.mark.parametrize(
    "place", ["localhost:http", "localhost:65536", "localhost:0", "[::1", f"u:{SECRET}@[x"]
)
def test_a_port_that_is_none_is_refused_before_anybody_connects(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("HELIOGRAPH_BROKER_URL", f"mqtts://{place}")
    monkeypatch.setenv("HELIOGRAPH_API_URL", f"https://{place}")
    monkeypatch.setenv("HELIOGRAPH_API_TOKEN", "token")

    for kind, name in ((Broker, "HELIOGRAPH_BROKER_URL"), (Operator, "HELIOGRAPH_API_URL")):
        with pytest.raises(BadSetting, match="65535") as refused:
            read(kind)

        assert refused.value.facts == {"setting": name}
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize("value", ["notjson", "", "{", "[]", '"x"', '{"1": "' + SECRET + '"}', "[" * 5000])
def test_master_secrets_that_are_none_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HELIOGRAPH_MASTER_SECRETS", value)

    with pytest.raises(BadSetting, match="64 hexadecimal digits") as refused:
        read(Keys)

    assert refused.value.facts == {"setting": "HELIOGRAPH_MASTER_SECRETS"}
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("generation", ["0", "-1", "2147483648", "x"])
def test_a_generation_that_no_unit_can_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, generation: str
) -> None:
    monkeypatch.setenv("HELIOGRAPH_MASTER_SECRETS", json.dumps({generation: "00" * 32}))

    with pytest.raises(BadSetting, match="HELIOGRAPH_MASTER_SECRETS"):
        read(Keys)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_secret_s_file_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    """One that is not text, and a link to nowhere."""
    file = tmp_path / "heliograph_master_secrets"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    monkeypatch.delenv("HELIOGRAPH_MASTER_SECRETS", raising=False)
    monkeypatch.setenv("HELIOGRAPH_SECRETS_DIR", str(tmp_path))

    with pytest.raises(BadSetting, match="HELIOGRAPH_SECRETS_DIR"):
        read(Keys)


def test_a_file_without_certificates_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    monkeypatch.setenv("HELIOGRAPH_BROKER_URL", "mqtts://host")
    monkeypatch.setenv("HELIOGRAPH_BROKER_CA_FILE", str(file))
    broker = read(Broker)

    with pytest.raises(BadSetting, match="HELIOGRAPH_BROKER_CA_FILE"):
        assert broker.trust


def test_master_secrets_come_from_a_file_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "heliograph_master_secrets").write_text(json.dumps({"3": "00" * 32}) + "\n")
    monkeypatch.delenv("HELIOGRAPH_MASTER_SECRETS", raising=False)
    monkeypatch.setenv("HELIOGRAPH_SECRETS_DIR", str(tmp_path))

    assert read(Keys).master(3) == bytes(32)


def set_beside_what_is_needed(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Set one variable beside those without which neither database nor gateway has its settings."""
    monkeypatch.setenv("HELIOGRAPH_DATABASE_URL", "postgresql://app@host/db")
    monkeypatch.setenv("HELIOGRAPH_BROKER_UPLINK_PASSWORD", "up")
    monkeypatch.setenv("HELIOGRAPH_BROKER_DOWNLINK_PASSWORD", "down")
    monkeypatch.setenv(name, value)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Database, "HELIOGRAPH_DATABASE_DEADLINE_S"),
        (Database, "HELIOGRAPH_DATABASE_LOCK_TIMEOUT_S"),
        (Gateway, "HELIOGRAPH_GATEWAY_HANG_S"),
    ],
)
def test_no_number_of_seconds_is_without_end(
    monkeypatch: pytest.MonkeyPatch, kind: type[Settings], name: str, value: str
) -> None:
    set_beside_what_is_needed(monkeypatch, name, value)

    with pytest.raises(BadSetting, match="finite") as refused:
        read(kind)

    assert refused.value.facts == {"setting": name}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Database, "HELIOGRAPH_DATABASE_DEADLINE_S", "1e12"),
        (Database, "HELIOGRAPH_DATABASE_LOCK_TIMEOUT_S", "1e12"),
        (Gateway, "HELIOGRAPH_GATEWAY_HANG_S", "1e12"),
        (Gateway, "HELIOGRAPH_GATEWAY_SESSION_EXPIRY_S", "4294967296"),
    ],
)
def test_nor_longer_than_server_and_broker_can_count(
    monkeypatch: pytest.MonkeyPatch, kind: type[Settings], name: str, value: str
) -> None:
    set_beside_what_is_needed(monkeypatch, name, value)

    with pytest.raises(BadSetting, match=name):
        read(kind)


@pytest.mark.parametrize("value", ["abc", "99999", "-1"])
def test_a_port_to_listen_on_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HELIOGRAPH_HTTP_PORT", value)

    with pytest.raises(BadSetting, match="HELIOGRAPH_HTTP_PORT"):
        read(Http)
