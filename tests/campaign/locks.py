"""Real locks of PostgreSQL that hold a worker inside its publishing transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.campaign.processes import eventually


class Feed:
    """The change feed's table, locked: whoever publishes waits with everything else written and nothing committed."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def wait(self) -> None:
        """Wait until a publication waits for the lock."""
        query = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'changes'::regclass "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        eventually("a worker publishes", lambda: self._connection.execute(query).fetchone()[0])


@contextmanager
def locked_feed(database_url: str) -> Iterator[Feed]:
    """Lock the change feed against writing; reading goes on."""
    connection = psycopg.connect(database_url.replace("+psycopg", ""))
    try:
        connection.execute("LOCK TABLE changes IN EXCLUSIVE MODE")
        yield Feed(connection)
    finally:
        connection.close()  # nothing was written, and the server may be gone
