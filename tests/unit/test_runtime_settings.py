"""Settings that cannot be used are refused at the start, by name and without what they say."""

from __future__ import annotations

import pytest

from runtime.settings import BadSetting, Broker, Database, Operator, read

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
