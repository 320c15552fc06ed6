"""What SQLite and PostgreSQL do differently: engines, clocks, queues and the meaning of their errors."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import orjson
from sqlalchemy import Connection, Float, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import NullPool, QueuePool
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.orm import Session

BUSY_SECONDS: Final = 30.0
"""How long a writer waits for another before it gives up with `DatabaseBusy`."""

_JSON_BY_ORJSON: Final[dict[str, Any]] = {
    "json_serializer": lambda document: orjson.dumps(document).decode(),
    "json_deserializer": orjson.loads,
}
_CONNECT_SECONDS: Final = 10
_PAUSE_SECONDS: Final = 0.02
_READERS: Final = 8
_MORE_READERS: Final = 56
_RECYCLE_SECONDS: Final = 300
"""A file that was put in the place of another, from a backup say, is read after so long at the latest."""
_MAPPED_BYTES: Final = 256 * 1024 * 1024
_STEPS: Final = 10_000
"""SQLite looks at the clock after so many of its machine's instructions."""
_ENDED: Final = "57014"
"""PostgreSQL: query canceled, by its statement timeout."""
_BUSY_STATES: Final = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL: serialization failure, deadlock, lock not available."""
_BUSY_NAMES: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")
_DAMAGED_NAMES: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_AWAY_STATES: Final = ("08", "53", "57P", "58", "XX")
"""PostgreSQL classes: connection, resources, operator intervention, system and internal errors."""
_AWAY_NAMES: Final = ("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_PROTOCOL")


class DatabaseError(RuntimeError):
    """A database cannot be used as it is."""

    transient: ClassVar[bool] = False


class DatabaseBusy(DatabaseError):
    """Another writer holds the database; the same call may succeed later."""

    transient: ClassVar[bool] = True


class DatabaseUnavailable(DatabaseError):
    """The database does not answer, refuses the connection or cannot write."""

    transient: ClassVar[bool] = True


class DatabaseDamaged(DatabaseError):
    """The file is no database or is broken."""


class StatementTooSlow(DatabaseError):
    """A statement took longer than its reader allowed; it was ended, and nothing else happened."""


class SchemaMismatch(DatabaseError):
    """The tables are not those of this version of the software."""


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


def line_up(session: Session | Connection, queue: Queue) -> None:
    """Wait until no other transaction does work of this kind, and hold others off to the end of this transaction.

    For work that looks for a row and inserts it when there is none. SQLite's writers exclude each other anyway.
    """
    connection = session if isinstance(session, Connection) else session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(queue)})


@contextmanager
def limited(session: Session, seconds: float) -> Iterator[None]:
    """Let no statement of a reading session take longer than some time; one that does raises `StatementTooSlow`."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}")
        yield
        return
    raw, end = connection.connection.driver_connection, time.monotonic() + seconds
    raw.set_progress_handler(lambda: time.monotonic() > end, _STEPS)  # type: ignore[union-attr]  # sqlite3's own
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)  # type: ignore[union-attr]  # as above


def make_engine(database_url: str, *, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """Make an engine for a database of either kind; nothing is connected yet.

    Args:
        database_url: SQLAlchemy URL.
        busy_seconds: How long a writer waits for another, s.

    Raises:
        DatabaseError: the URL is none, of another kind of database, or its driver is not installed.
        DatabaseUnavailable: the folder of an SQLite file cannot be made.
    """
    url = _understood(database_url)
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, busy_seconds)
    try:
        engine = create_engine(
            url,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=10,
            hide_parameters=True,
            **_JSON_BY_ORJSON,
            connect_args={"connect_timeout": _CONNECT_SECONDS} if "connect_timeout" not in url.query else {},
        )
    except ImportError as error:
        raise DatabaseError("PostgreSQL needs a driver that is not installed; install explains2a[postgres]") from error

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {round(busy_seconds * 1000)}")
        connection.commit()

    return engine


def _understood(database_url: str) -> URL:
    """Read a URL without ever repeating it: it may hold a password."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError(
            "the database URL cannot be understood; expected sqlite:///… or postgresql+psycopg://…"
        ) from error
    if url.drivername in {"postgres", "postgresql"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise DatabaseError(f"database kind is {url.drivername!r}; expected sqlite or postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}:
        raise DatabaseError("the database is in memory, where no other process can see it; give a file: sqlite:///path")
    return url


def _sqlite_engine(url: URL, busy_seconds: float) -> Engine:
    """Make an engine that leaves transactions to us: pysqlite would begin them late and without the write lock."""
    try:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnavailable(f"the folder of {url.database} cannot be made: {error.strerror}") from error
    engine = create_engine(
        url, poolclass=NullPool, hide_parameters=True, connect_args={"timeout": busy_seconds}, **_JSON_BY_ORJSON
    )
    _prepare_sqlite(engine, busy_seconds)
    return engine


def make_readers(engine: Engine, *, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """Make the engine that reading goes through, for a database that `make_engine` made another for.

    PostgreSQL's own will do. SQLite's writers connect anew each time; readers keep their connections, whose pages of
    the file are warm: a search that looks at two thousand rows takes a fifth of the time.
    """
    if engine.dialect.name != "sqlite":
        return engine
    readers = create_engine(
        engine.url,
        poolclass=QueuePool,
        pool_size=_READERS,
        max_overflow=_MORE_READERS,
        pool_recycle=_RECYCLE_SECONDS,
        hide_parameters=True,
        connect_args={"timeout": busy_seconds, "check_same_thread": False},
        **_JSON_BY_ORJSON,
    )
    _prepare_sqlite(readers, busy_seconds, f"mmap_size={_MAPPED_BYTES}", "query_only=ON")
    return readers


def _prepare_sqlite(engine: Engine, busy_seconds: float, *more: str) -> None:
    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (f"busy_timeout={round(busy_seconds * 1000)}", "foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}").close()
        _write_ahead(connection, busy_seconds)
        for pragma in more:
            connection.execute(f"PRAGMA {pragma}").close()


def _write_ahead(connection: Any, busy_seconds: float) -> None:
    """Turn a file to write-ahead logging; of several that open a new file at once SQLite turns all but one away."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def explained(error: DBAPIError, name: str, busy_seconds: float) -> DatabaseError | None:
    """Say what an error of a driver means for the caller.

    Args:
        error: As SQLAlchemy wraps it.
        name: The database's address without secrets.
        busy_seconds: How long the caller waited for other writers, s.

    Returns:
        The named error; None for a violated constraint and other defects of the caller's, which pass as they are.
    """
    cause = error.orig
    said = str(cause).strip()
    state, code = getattr(cause, "sqlstate", None) or "", getattr(cause, "sqlite_errorname", "")
    if state in _BUSY_STATES or code.startswith(_BUSY_NAMES):
        return DatabaseBusy(f"{name}: another writer held the database for {busy_seconds:g} s; try again later")
    if state == _ENDED or code == "SQLITE_INTERRUPT":
        return StatementTooSlow(f"{name}: a statement took longer than it may")
    if code.startswith(_DAMAGED_NAMES):
        return DatabaseDamaged(f"{name}: {said}; restore it from a backup or give another file")
    if state in {"42P01", "42703"} or "no such table" in said or "no such column" in said:
        return SchemaMismatch(f"{name}: {said.splitlines()[0]}; the tables are of another version, run the migrations")
    no_connection = type(cause).__name__ == "OperationalError" and not state and not code
    if error.connection_invalidated or no_connection or state.startswith(_AWAY_STATES) or code.startswith(_AWAY_NAMES):
        return DatabaseUnavailable(f"{name}: {said}")
    return None
