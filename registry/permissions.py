"""Who calls, and what that caller may: a level and a scope, the field's two axes.

A level includes every lower one. A scope is a set of entities, or all of them (`None`). What lies
outside a caller's scope does not exist for that caller: it is not found, never forbidden.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from runtime.errors import Forbidden

Scope = frozenset[int] | None


class Level(StrEnum):
    """How much a caller may; ordered from least to most."""

    OVERVIEW = "overview"
    TECHNICAL = "technical"
    ADMIN = "admin"
    FACTORY = "factory"
    SYSTEM = "system"

    @property
    def rank(self) -> int:
        """Place in the order, 0 the lowest."""
        return list(Level).index(self)

    # All four, because `str` has them already and would compare by alphabet.
    def __lt__(self, other: str) -> bool:
        return self.rank < Level(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Level(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Level(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Level(other).rank


class LevelTooLow(Forbidden):
    """Your permission level does not allow this."""


class ScopeTooNarrow(Forbidden):
    """This reaches beyond the entities that you may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody at a door, known by e-mail, with what they may do now."""

    account_id: int | None
    """None for the command line, which has no account."""

    email: str
    level: Level
    scope: Scope
    origin: str
    """Where the call came from, as the audit tells it: `api:127.0.0.1`, `cli:root`."""

    token_id: int | None = None
    """The API token that was shown; None for the command line."""

    until: datetime | None = None
    """When that token ends; what it issues ends no later."""

    def require(self, needed: Level) -> None:
        """Raise `LevelTooLow` unless this caller has the level or a higher one."""
        if self.level < needed:
            raise LevelTooLow(
                f"This needs the {needed} level; yours is {self.level}.", needed=needed, have=self.level
            )

    def require_rights(self, level: Level, scope: Scope) -> None:
        """Raise unless this caller holds that level and scope: nobody gives or ends more than they have."""
        self.require(level)
        if not within(scope, self.scope):
            raise ScopeTooNarrow(
                "This takes all of these entities in your own scope.",
                needed=listed(scope),
                have=listed(self.scope),
            )

    def sees(self, entity_id: int) -> bool:
        """Whether things of that entity exist for this caller."""
        return self.scope is None or entity_id in self.scope


def shell() -> Caller:
    """Give the caller at this machine's command line: whoever holds the database's password may all."""
    name = f"cli:{getpass.getuser()}"
    return Caller(account_id=None, email=name, level=Level.SYSTEM, scope=None, origin=name)


def within(inner: Scope, outer: Scope) -> bool:
    """Whether every entity of one scope is in the other."""
    return outer is None or (inner is not None and inner <= outer)


def common(one: Scope, other: Scope) -> Scope:
    """Give the entities that are in both scopes."""
    if one is None:
        return other
    return one if other is None else one & other


def listed(scope: Scope) -> list[int] | None:
    """Give a scope as the database and JSON hold it: sorted ids, or None for every entity."""
    return None if scope is None else sorted(scope)


def unlisted(ids: list[int] | None) -> Scope:
    """Give the scope of what the database or JSON holds."""
    return None if ids is None else frozenset(ids)
