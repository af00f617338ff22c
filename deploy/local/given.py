"""A PostgreSQL server of somebody else's, for tests and measurements: reached as its superuser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from deploy.local.postgres import Role

VARIABLE = "HELIOGRAPH_TEST_DATABASE_URL"
"""Where tests and measurements find it; nothing else reads this, and nothing of it is kept."""

PASSWORD = "test"  # noqa: S105 - of roles that live in a server for tests


class GivenServer:
    """Says where a role connects; both roles are made, or get the password of the tests."""

    def __init__(self, url: str) -> None:
        self._url = url
        with psycopg.connect(url, autocommit=True) as conn:
            for role in (Role.OWNER, Role.APP):
                there = conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
                verb = sql.SQL("ALTER" if there else "CREATE")
                conn.execute(
                    sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                        verb, sql.Identifier(role), sql.Literal(PASSWORD)
                    )
                )

    def url(self, role: Role, database: str) -> str:
        """Give the address of a database for a role."""
        place = urlsplit(self._url)
        login, _, host = place.netloc.rpartition("@")
        if role is not Role.SUPERUSER:
            login = f"{role}:{PASSWORD}"
        return urlunsplit(place._replace(netloc=f"{login}@{host}", path=f"/{database}"))


class Database:
    """One database of a given server, addressed as our own server addresses its one."""

    def __init__(self, server: GivenServer, name: str) -> None:
        self._server = server
        self._name = name

    def url(self, role: Role = Role.APP) -> str:
        """Say where a role connects."""
        return self._server.url(role, self._name)


@contextmanager
def lend(url: str, name: str) -> Iterator[Database]:
    """Make an empty database, with TimescaleDB where the server has it, and drop it afterwards."""
    server = GivenServer(url)
    with psycopg.connect(url, autocommit=True) as conn:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        conn.execute(drop)
        conn.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(Role.OWNER))
        )
        extend(server.url(Role.SUPERUSER, name))
        try:
            yield Database(server, name)
        finally:
            conn.execute(drop)


def timescale(url: str) -> str | None:
    """Tell which TimescaleDB the server has, if any."""
    with psycopg.connect(url) as conn:
        found = conn.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
        ).fetchone()
    return found[0] if found else None


def extend(url: str) -> None:
    """Create TimescaleDB in a database where the server has it."""
    if timescale(url):
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("CREATE EXTENSION timescaledb")
