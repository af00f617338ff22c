"""What the shell knows of another installation does not reach the system on this machine."""

from __future__ import annotations

import os
from typing import get_args

import pytest
from pydantic import SecretStr

from deploy.local import surroundings
from runtime.settings import CONCERNS, PREFIX


def test_addresses_and_secrets_are_left_and_everything_else_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*surroundings.ELSEWHERE, "heliograph_database_owner_url"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("HELIOGRAPH_COMMAND_ACK_S", "5")
    monkeypatch.setenv("HELIOGRAPH_TEST_DATABASE_URL", "ours")

    surroundings.leave()

    assert "theirs" not in os.environ.values()
    assert os.environ["HELIOGRAPH_COMMAND_ACK_S"] == "5"
    assert os.environ["HELIOGRAPH_TEST_DATABASE_URL"] == "ours"


def test_every_address_and_every_secret_is_known() -> None:
    known = {
        PREFIX + name.upper()
        for concern in CONCERNS
        for name, field in concern.model_fields.items()
        if name.endswith(("_url", "_host")) or SecretStr in (field.annotation, *get_args(field.annotation))
    }

    assert known <= surroundings.ELSEWHERE
