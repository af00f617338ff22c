"""What can go wrong, in one tree; every room hangs its own errors here.

    HeliographError
    ├── Invalid       what was given is not well formed or not allowed (also a ValueError)
    ├── NotFound      what was named does not exist, or not for this caller
    ├── Conflict      well formed, but the present state does not admit it
    ├── Forbidden     the caller may not
    └── Unavailable   database or broker is gone; the same call may succeed later

A subclass's docstring is its title for people; the message says what happened this time;
facts are keyword fields for programs. No kind knows HTTP: `api.problems` gives each a status.
"""

from __future__ import annotations


class HeliographError(Exception):
    """Something went wrong."""

    def __init__(self, message: str, /, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __str__(self) -> str:
        """Give the message with its facts, for logs and terminals."""
        told = ", ".join(f"{name}={value!r}" for name, value in self.facts.items())
        return f"{self.message} ({told})" if told else self.message


class Invalid(HeliographError, ValueError):
    """The input is not valid."""


class NotFound(HeliographError):
    """There is no such thing."""


class Conflict(HeliographError):
    """The present state does not admit this."""


class Forbidden(HeliographError):
    """This is not allowed for you."""


class Unavailable(HeliographError):
    """A part that is needed does not answer now."""

    spent_s: float = 0.0
    """How long (seconds) it was waited for in vain."""
