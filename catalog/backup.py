"""Backup and restore of the database: ledger, catalog and change feed in one file, from one moment, while it is used.

SQLite is copied by its own online backup, PostgreSQL by ``pg_dump`` and ``pg_restore`` (no older than the server).
Product files are not part of it: they lie in the store under keys that are never written twice.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from uuid import uuid4

from sqlalchemy import func, inspect, select
from sqlalchemy.engine import make_url

from catalog.session import connect
from catalog.tables import ItemRecord, SceneRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import URL

_SQLITE: Final = b"SQLite format 3\x00"
_POSTGRES: Final = b"PGDMP"


class BackupFailed(RuntimeError):
    """A backup could not be made or put back; what was there before is as it was."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Contents:
    """What a database holds, for people to recognise it by."""

    database: str
    """Its address without secrets."""
    scenes: int
    items: int


def contents(database_url: str) -> Contents:
    """Count a database.

    Args:
        database_url: SQLAlchemy URL of a database with our tables.

    Raises:
        DatabaseError: it does not answer, or has no tables of ours.
    """
    database = connect(database_url)
    try:
        with database.read() as session:
            scenes, items = (session.scalar(select(func.count()).select_from(t)) for t in (SceneRecord, ItemRecord))
        return Contents(database.name, scenes or 0, items or 0)
    finally:
        database.close()


def backup(database_url: str, destination: Path) -> int:
    """Write a database into one file, which appears whole or not at all.

    Args:
        database_url: SQLAlchemy URL; others may read and write meanwhile, what they commit later is not in it.
        destination: The file; it must not exist.

    Returns:
        Its size, bytes.

    Raises:
        BackupFailed: the file exists, or the copy is not sound.
    """
    if destination.exists():
        raise BackupFailed(f"{destination} exists; a backup is never overwritten, choose another name")
    url, part = make_url(database_url), destination.with_name(f".{destination.name}.{uuid4().hex}.part")
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The file holds everything the database does: nobody else reads it.
        part.touch(mode=0o600, exist_ok=False)
        if url.get_backend_name() == "sqlite":
            _copy_sqlite(_sqlite_file(url), part)
        else:
            _run(["pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={part}"], url)
        check(part)
        part.rename(destination)
    finally:
        part.unlink(missing_ok=True)
    return destination.stat().st_size


def check(source: Path) -> str:
    """Read a backup and return the kind of database that it is of, ``sqlite`` or ``postgresql``.

    Raises:
        BackupFailed: it is no backup, or damaged.
    """
    try:
        with source.open("rb") as file:
            begins = file.read(len(_SQLITE))
    except OSError as error:
        raise BackupFailed(f"{source} cannot be read: {error.strerror}") from error
    if begins == _SQLITE:
        try:
            with closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
                found = [row[0] for row in copy.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            found = [str(error)]
        if found != ["ok"]:
            raise BackupFailed(f"{source} is damaged: {found[0]}")
        return "sqlite"
    if begins.startswith(_POSTGRES):
        _run(["pg_restore", "--file=/dev/null", str(source)], None)  # reads every row, writes none
        return "postgresql"
    raise BackupFailed(f"{source} is no backup of SQLite or PostgreSQL; expected a file that `explains2a backup` wrote")


def restore(database_url: str, source: Path, *, dry_run: bool = False) -> None:
    """Put a backup into an empty database, wholly or not at all.

    Args:
        database_url: SQLAlchemy URL of a database without tables, or of an SQLite file that does not exist; of the same
            kind as the backup. Nothing else may use it meanwhile.
        source: A file that `backup` wrote.
        dry_run: Only check both.

    Raises:
        BackupFailed: the file is damaged or of another kind, or the database is not empty.
        DatabaseError: the database does not answer.
    """
    url, kind = make_url(database_url), check(source)
    if url.get_backend_name() != kind:
        raise BackupFailed(
            f"{source} is of {kind}, the settings name {url.get_backend_name()}; restore into the former"
        )
    if kind == "sqlite":
        _restore_sqlite(_sqlite_file(url), source, dry_run=dry_run)
        return
    _require_empty(database_url)
    if not dry_run:
        _run(
            ["pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(source)], url
        )


def _restore_sqlite(target: Path, source: Path, *, dry_run: bool) -> None:
    left = [path for path in (target, *(target.with_name(target.name + end) for end in ("-wal", "-shm")))
            if path.exists()]  # fmt: skip
    if left:
        names = ", ".join(str(path) for path in left)
        raise BackupFailed(f"{names} would be lost; stop everything and move it away first")
    if dry_run:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        shutil.copyfile(source, part)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _require_empty(database_url: str) -> None:
    database = connect(database_url)
    try:
        with database.read() as session:
            tables = inspect(session.connection()).get_table_names()
    finally:
        database.close()
    if tables:
        raise BackupFailed(f"{database.name} has tables already ({tables[0]}, …); restore into an empty database")


def _sqlite_file(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise BackupFailed("a database in memory has no file")
    return Path(url.database)


def _copy_sqlite(database: Path, part: Path) -> None:
    if not database.is_file():
        raise BackupFailed(f"{database} does not exist; there is nothing to back up")
    with (
        closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(part)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # the copy is one file; its own -wal would be missed


def _run(command: Sequence[str], url: URL | None) -> None:
    """Run one of PostgreSQL's programs; the password goes by the environment, where other users do not see it."""
    environment = dict(os.environ)
    arguments = list(command)
    if url is not None:
        if url.password:
            environment["PGPASSWORD"] = str(url.password)
        address = url._replace(drivername="postgresql", password=None).render_as_string(hide_password=False)
        arguments.insert(1, f"--dbname={address}")
    try:
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError as error:
        raise BackupFailed(f"{command[0]} is not installed; it comes with PostgreSQL's client programs") from error
    if done.returncode:
        raise BackupFailed(f"{command[0]} failed ({done.returncode}): {done.stderr.strip()[-1000:]}")
