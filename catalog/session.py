"""Databases: SQLite or PostgreSQL by URL, short transactions, errors that say whether to try again."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Float, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

logger = logging.getLogger(__name__)

_BUSY_SECONDS = 30.0
_MIGRATIONS = Path(__file__).parent / "migrations"


class DatabaseError(RuntimeError):
    """A database cannot be used as it is."""

    transient: ClassVar[bool] = False


class DatabaseBusy(DatabaseError):
    """Another writer holds the database; the same call may succeed later."""

    transient: ClassVar[bool] = True


class DatabaseUnavailable(DatabaseError):
    """The database does not answer or refuses the connection."""

    transient: ClassVar[bool] = True


class database_now(FunctionElement[float]):  # noqa: N801 - a SQL function, named as one
    """The database's own clock, seconds since the epoch: leases do not depend on any worker's clock."""

    inherit_cache = True
    type = Float(53)


@compiles(database_now, "sqlite")
def _sqlite_now(_element: database_now, _compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgres_now(_element: database_now, _compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch from clock_timestamp()) AS double precision)"


class Queue(IntEnum):
    """Kinds of work that transactions do one after the other; the numbers are PostgreSQL's advisory lock keys."""

    MIGRATION = 4242419604
    DISCOVERY = 4242419605
    WATERMARK = 4242419606
    PUBLICATION = 4242419607


def line_up(session: Session, queue: Queue) -> None:
    """Wait until no other transaction does work of this kind, and hold others off to the end of this transaction.

    For work that looks for a row and inserts it when there is none. SQLite's writers exclude each other anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(queue)})


class Database:
    """One database; use `connect`. Threads may share it."""

    def __init__(self, engine: Engine, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        self._engine = engine
        self._busy_seconds = busy_seconds
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @property
    def name(self) -> str:
        """The address without its password, for people."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that sees one consistent state and changes nothing.

        Raises:
            DatabaseBusy: another writer held the database too long.
            DatabaseUnavailable: the database does not answer.
        """
        with self._translated(), self._sessions() as session:
            if self.dialect == "sqlite":
                session.connection().exec_driver_sql("BEGIN")
            else:
                session.connection(
                    execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                )
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session whose work is committed together at the end, or not at all.

        On SQLite the write lock is taken at once (``BEGIN IMMEDIATE``): two writers queue instead of failing half-way.

        Raises:
            DatabaseBusy: another writer held the database too long.
            DatabaseUnavailable: the database does not answer.
        """
        with self._translated(), self._sessions() as session, session.begin():
            if self.dialect == "sqlite":
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    def close(self) -> None:
        """Return all connections."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            said = str(error.orig)
            if "locked" in said or "busy" in said:
                waited = f"{self._busy_seconds:g} s"
                raise DatabaseBusy(f"{self.name}: another writer held the database for {waited}") from error
            raise DatabaseUnavailable(f"{self.name}: {said.strip()}") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise DatabaseUnavailable(f"{self.name}: the connection broke") from error
            raise


def connect(database_url: str, *, busy_seconds: float = _BUSY_SECONDS) -> Database:
    """Open a database whose schema is up to date (see `migrate`).

    Args:
        database_url: SQLAlchemy URL of SQLite or PostgreSQL.
        busy_seconds: How long to wait for another writer of an SQLite database.

    Returns:
        The database; close it.

    Raises:
        DatabaseError: the URL is none, or of another kind of database.
    """
    return Database(_engine(database_url, busy_seconds), busy_seconds=busy_seconds)


def migrate(database_url: str, revision: str = "head") -> None:
    """Bring a database to a schema revision, creating it where needed; several may try at once.

    Args:
        database_url: SQLAlchemy URL.
        revision: alembic revision; ``base`` removes everything.
    """
    engine = _engine(database_url, _BUSY_SECONDS)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    try:
        with Database(engine)._translated(), engine.connect() as connection:  # noqa: SLF001 - same module
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({Queue.MIGRATION:d})")
            config.attributes["connection"] = connection
            (command.downgrade if revision == "base" else command.upgrade)(config, revision)
            connection.commit()
    finally:
        engine.dispose()


def _engine(database_url: str, busy_seconds: float) -> Engine:
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise DatabaseError(
            "the database URL cannot be understood; expected sqlite:///… or postgresql+psycopg://…"
        ) from error
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(database_url, busy_seconds)
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=10)
        except ImportError as error:
            raise DatabaseError(
                f"driver {url.drivername!r} is not installed; use postgresql+psycopg://… with the extra [postgres]"
            ) from error
    raise DatabaseError(f"database kind is {url.get_backend_name()!r}; expected sqlite or postgresql")


def _sqlite_engine(database_url: str, busy_seconds: float) -> Engine:
    """Make an engine that leaves transactions to us: pysqlite would begin them late and without the write lock."""
    path = make_url(database_url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(database_url, poolclass=NullPool, connect_args={"timeout": busy_seconds})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        milliseconds = round(busy_seconds * 1000)
        for pragma in (f"busy_timeout={milliseconds}", "journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine
