"""Level and scope: who may what, on which entities."""

from __future__ import annotations

import itertools

import pytest

from registry.permissions import (
    Level,
    LevelTooLow,
    Scope,
    ScopeTooNarrow,
    common,
    listed,
    shell,
    unlisted,
    within,
)
from tests.builders import a_caller

SCOPES: list[Scope] = [None, frozenset({1}), frozenset({1, 2}), frozenset({3})]
ASCENDING = [Level.OVERVIEW, Level.TECHNICAL, Level.ADMIN, Level.FACTORY, Level.SYSTEM]


def test_levels_are_ordered_by_power_and_not_by_alphabet() -> None:
    assert sorted(Level) == ASCENDING
    assert Level.ADMIN > Level.OVERVIEW
    assert Level.ADMIN >= "admin"
    assert Level.FACTORY <= Level.SYSTEM
    assert not Level.SYSTEM <= Level.FACTORY


@pytest.mark.parametrize(("have", "needed"), list(itertools.product(Level, Level)))
def test_a_level_includes_every_lower_one(have: Level, needed: Level) -> None:
    """Domain rule 22."""
    caller = a_caller(have)

    if ASCENDING.index(have) >= ASCENDING.index(needed):
        caller.require(needed)
    else:
        with pytest.raises(LevelTooLow) as refused:
            caller.require(needed)
        assert refused.value.facts == {"needed": needed, "have": have}


@pytest.mark.parametrize(("scope", "entity_id"), list(itertools.product(SCOPES, (1, 2, 3, 4))))
def test_a_caller_sees_the_entities_of_the_scope_and_all_without_one(scope: Scope, entity_id: int) -> None:
    assert a_caller(scope=scope).sees(entity_id) == (scope is None or entity_id in scope)


@pytest.mark.parametrize(("inner", "outer"), list(itertools.product(SCOPES, SCOPES)))
def test_scopes_nest_and_meet(inner: Scope, outer: Scope) -> None:
    meeting = common(inner, outer)

    assert within(meeting, inner)
    assert within(meeting, outer)
    assert within(inner, outer) == (meeting == inner)


@pytest.mark.parametrize(("have", "given"), list(itertools.product(Level, Level)))
def test_nobody_gives_more_than_they_have(have: Level, given: Level) -> None:
    for mine, theirs in itertools.product(SCOPES, SCOPES):
        caller = a_caller(have, mine)

        if given > have:
            with pytest.raises(LevelTooLow):
                caller.require_rights(given, theirs)
        elif not within(theirs, mine):
            with pytest.raises(ScopeTooNarrow):
                caller.require_rights(given, theirs)
        else:
            caller.require_rights(given, theirs)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_survives_its_way_through_the_database(scope: Scope) -> None:
    assert unlisted(listed(scope)) == scope


def test_the_command_line_is_named_after_its_user_and_may_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")

    caller = shell()

    assert (caller.email, caller.origin) == ("cli:grace", "cli:grace")
    caller.require_rights(Level.SYSTEM, None)
