"""Databases: SQLite or PostgreSQL by URL, short transactions, errors that say whether to try again."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker

from catalog.dialects import (
    BUSY_SECONDS,
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseError,
    DatabaseUnavailable,
    Queue,
    SchemaMismatch,
    StatementTooSlow,
    explained,
    limited,
    line_up,
    make_engine,
    make_readers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

__all__ = ["Database", "DatabaseBusy", "DatabaseDamaged", "DatabaseError", "DatabaseUnavailable", "SchemaMismatch",
           "StatementTooSlow", "connect", "migrate"]  # fmt: skip

_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database; use `connect`. Threads may share it."""

    def __init__(self, engine: Engine, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._engine = engine
        self._busy_seconds = busy_seconds
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._readers = make_readers(engine, busy_seconds=busy_seconds)
        self._reading = sessionmaker(self._readers, expire_on_commit=False)

    @property
    def name(self) -> str:
        """The address without its secrets, for people."""
        return self._engine.url.set(query={}).render_as_string(hide_password=True)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @contextmanager
    def read(self, *, seconds: float | None = None) -> Iterator[Session]:
        """Open a session that sees one consistent state and changes nothing.

        Args:
            seconds: How long one statement may take; None: as long as it needs.

        Raises:
            DatabaseBusy: another writer held the database too long.
            DatabaseUnavailable: the database does not answer.
            StatementTooSlow: a statement took longer than it may.
        """
        with self._translated(), self._reading() as session:
            if self.dialect == "sqlite":
                session.connection().exec_driver_sql("BEGIN")
            else:
                session.connection(
                    execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                )
            if seconds is None:
                yield session
            else:
                with limited(session, seconds):
                    yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session whose work is committed together at the end, or not at all.

        On SQLite the write lock is taken at once (``BEGIN IMMEDIATE``): two writers queue instead of failing half-way.
        PostgreSQL ends a transaction whose process sends nothing for half as long as others wait for it: a worker
        that is frozen, or whose machine is gone, must not keep its locks.

        Raises:
            DatabaseBusy: another writer held the database too long.
            DatabaseUnavailable: the database does not answer.
        """
        with self._translated(), self._sessions() as session, session.begin():
            if self.dialect == "sqlite":
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            else:
                patience_ms = max(1, round(self._busy_seconds * 500))
                session.connection().exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {patience_ms}")
            yield session

    def settle(self) -> None:
        """Let the database look at its tables, so that it plans well; after very many rows were written at once."""
        with self._translated(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")

    def check(self) -> None:
        """Raise when the database does not answer; see `read`."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema to a revision; see the function of the same name."""
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with self._translated(), self._engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
            if revision == "head" and found == ScriptDirectory.from_config(config).get_current_head():
                return
            connection.rollback()
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            line_up(connection, Queue.MIGRATION)
            config.attributes["connection"] = connection
            try:
                (command.downgrade if revision == "base" else command.upgrade)(config, revision)
            except CommandError as error:
                raise SchemaMismatch(
                    f"{self.name} has schema {found}, which this version of the software does not know: {error}"
                ) from error
            connection.commit()

    def close(self) -> None:
        """Return all connections."""
        self._engine.dispose()
        self._readers.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            named = explained(error, self.name, self._busy_seconds)
            if named is None:
                raise
            raise named from error


def connect(database_url: str, *, busy_seconds: float = BUSY_SECONDS) -> Database:
    """Open a database whose schema is up to date (see `migrate`).

    Args:
        database_url: SQLAlchemy URL of SQLite or PostgreSQL.
        busy_seconds: How long a writer waits for another before `DatabaseBusy`, s.

    Returns:
        The database; close it.

    Raises:
        DatabaseError: the URL is none, or of another kind of database.
    """
    return Database(make_engine(database_url, busy_seconds=busy_seconds), busy_seconds=busy_seconds)


def migrate(database_url: str, revision: str = "head") -> None:
    """Bring a database to a schema revision, creating it where needed; several may try at once.

    Args:
        database_url: SQLAlchemy URL.
        revision: alembic revision; ``base`` removes everything.

    Raises:
        SchemaMismatch: a newer version of the software made the tables.
        DatabaseUnavailable: the database does not answer.
    """
    database = connect(database_url)
    try:
        database.migrate(revision)
    finally:
        database.close()
