"""Two kinds of database, one behaviour: addresses, locks, broken files and servers, other schemas."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from catalog.ledger import Ledger
from catalog.session import (
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseError,
    DatabaseUnavailable,
    SchemaMismatch,
    connect,
    migrate,
)
from tests.unit.catalog.products import discovery


@pytest.fixture
def postgres_url(postgres):
    """Address of a migrated database on PostgreSQL."""
    url = postgres.fresh_database()
    migrate(url)
    yield url
    postgres.drop(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_usual_spelling_of_postgresql_is_understood(scheme):
    with closing(connect(f"{scheme}://user:s3cret@host:5433/db?password=s3cret")) as database:
        assert database.dialect == "postgresql"
        assert "host:5433/db" in database.name
        assert "s3cret" not in database.name


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_that_nobody_else_can_see_is_refused(url):
    with pytest.raises(DatabaseError, match="give a file"):
        connect(url)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatabaseUnavailable, match="cannot be made"):
        connect(f"sqlite:///{tmp_path / 'file' / 'catalog.db'}")


def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "catalog.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(DatabaseDamaged, match=r"catalog\.db") as error:
        migrate(f"sqlite:///{path}")
    assert not error.value.transient
    assert path.read_bytes().startswith(b"not a database"), "nothing is repaired behind the operator's back"


def test_a_database_without_our_tables_asks_for_migration(empty_url):
    with closing(connect(empty_url)) as database, pytest.raises(SchemaMismatch, match="migrations") as error:
        Ledger(database).counts()
    assert not error.value.transient


def test_tables_of_a_newer_version_are_left_alone(url):
    with closing(connect(url)) as database:
        Ledger(database).discover([discovery()], actor="watch")
        with database.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaMismatch, match="9999"):
            migrate(url)
        assert len(Ledger(database).scenes()) == 1


def test_an_up_to_date_schema_is_not_locked(tmp_path):
    """Every process asks for the migration at its start; that must not queue behind a writer."""
    path = tmp_path / "catalog.db"
    migrate(f"sqlite:///{path}")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        migrate(f"sqlite:///{path}")
        assert time.monotonic() - began < 5


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path):
    """SQLite answers "locked" without waiting when several turn a new file to write-ahead logging."""
    for number in range(10):
        url, barrier = f"sqlite:///{tmp_path / str(number)}.db", Barrier(8)

        def go(_, url=url, barrier=barrier):
            barrier.wait()
            migrate(url)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(go, range(8)))


def test_a_lock_held_too_long_is_busy_on_postgresql_too(postgres_url):
    with closing(connect(postgres_url)) as holder, closing(connect(postgres_url, busy_seconds=0.2)) as waiter:
        Ledger(holder).discover([discovery()], actor="watch")
        with holder.write() as session:
            session.execute(text("SELECT * FROM scenes FOR UPDATE"))
            with pytest.raises(DatabaseBusy, match=r"for 0\.2 s") as error, waiter.write() as other:
                other.execute(text("UPDATE scenes SET tile = 'X'"))
            assert error.value.transient


def test_who_falls_silent_in_a_transaction_loses_its_locks_before_others_lose_patience(postgres_url):
    """A worker that is frozen while it publishes, or whose machine is gone, must not stop everybody's publishing."""
    with closing(connect(postgres_url, busy_seconds=0.4)) as silent, closing(connect(postgres_url)) as waiter:
        Ledger(silent).discover([discovery()], actor="watch")

        def fall_silent():
            with silent.write() as session:
                session.execute(text("UPDATE scenes SET tile = 'X'"))
                with waiter.write() as other:
                    other.execute(text("UPDATE scenes SET tile = 'Y'"))
                session.execute(text("SELECT 1"))

        with pytest.raises(DatabaseUnavailable) as error:
            fall_silent()
        assert error.value.transient
        assert [row.tile for row in Ledger(waiter).scenes()] == ["Y"]


def test_a_deadlock_is_busy_for_one_and_the_other_goes_on(postgres_url):
    barrier = Barrier(2)

    def cross(database, first, second):
        with database.write() as session:
            session.execute(text("UPDATE scenes SET tile = 'X' WHERE id = :n"), {"n": first})
            barrier.wait()
            session.execute(text("UPDATE scenes SET tile = 'X' WHERE id = :n"), {"n": second})

    with closing(connect(postgres_url)) as database, ThreadPoolExecutor(2) as pool:
        one, two = (row.scene_id for row in Ledger(database).discover([discovery(0), discovery(1)], actor="watch"))
        futures = [pool.submit(cross, database, one, two), pool.submit(cross, database, two, one)]
        ends = [future.exception(20) for future in futures]
    assert sorted(type(end).__name__ for end in ends) == ["DatabaseBusy", "NoneType"]


def test_a_server_that_ends_a_connection_is_unavailable_and_then_works_again(postgres_url):
    with closing(connect(postgres_url)) as database, closing(connect(postgres_url)) as admin:

        def cut_off():
            with database.write() as session:
                own = session.scalar(text("SELECT pg_backend_pid()"))
                with admin.write() as other:
                    other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
                session.execute(text("SELECT 1"))

        with pytest.raises(DatabaseUnavailable) as error:
            cut_off()
        assert error.value.transient
        assert Ledger(database).counts() == {}


def test_a_violated_constraint_is_no_matter_of_waiting(database):
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text("INSERT INTO collections (id, body) VALUES ('a', '{}'), ('a', '{}')"))


def test_what_was_written_never_appears_in_an_error(database):
    """Statements go to logs; parameters are the sources' own text."""
    with pytest.raises(IntegrityError) as error, database.write() as session:
        session.execute(text("INSERT INTO collections (id, body) VALUES (:id, NULL)"), {"id": "s3cret"})
    assert "s3cret" not in str(error.value).replace(str(error.value.orig), "")
