"""What can go wrong between us and the database, in our own words."""

from __future__ import annotations

import psycopg

from runtime.errors import Conflict, Unavailable


class DatabaseUnavailable(Unavailable):
    """The database does not answer now."""


class DeadlinePassed(DatabaseUnavailable):
    """The work was cut off because it took too long."""


class StillLocked(DatabaseUnavailable):
    """Somebody else did not let go of what the work needed."""


class NotMigrated(Conflict):
    """The database lacks tables of this release."""


class WrongEngine(Conflict):
    """This database was set up for another engine."""


class MigrationChanged(Conflict):
    """A migration that was applied differs from the file of today."""


class SchemaTooNew(Conflict):
    """The database knows migrations that this release does not."""


PAUSED = frozenset({"25P03", "25P04"})
"""The server ended a transaction in which we were silent too long: this process was stopped, or busy."""

READ_ONLY = frozenset({"25006"})
"""The server takes nothing at the moment: it stands by for another, or its disk is full."""


def transient(error: psycopg.Error) -> bool:
    """Whether the same work may succeed later: the server was gone, busy, full or frozen.

    Limits of the program itself (SQLSTATE class 54: a row too large, say) come as operational
    errors too, but would come again for ever.
    """
    state = error.sqlstate or ""
    lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or state in PAUSED | READ_ONLY
    return lost and not state.startswith("54")
