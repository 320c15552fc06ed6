"""Databases: schema, locks, errors that say whether to try again."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from catalog.ledger import Ledger
from catalog.session import DatabaseBusy, DatabaseError, DatabaseUnavailable, connect, migrate
from catalog.tables import Base
from tests.unit.catalog.products import discovery


def tables(url):
    with closing(connect(url)) as database, database.read() as session:
        return set(inspect(session.connection()).get_table_names()) - {"alembic_version"}


def test_the_schema_goes_up_down_and_up_again(empty_url):
    migrate(empty_url)
    assert tables(empty_url) == set(Base.metadata.tables)
    migrate(empty_url, "base")
    assert tables(empty_url) == set()
    migrate(empty_url)
    assert tables(empty_url) == set(Base.metadata.tables)


def test_the_migrated_schema_is_what_the_tables_say(database):
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_twice_keeps_what_is_there(url):
    with closing(connect(url)) as database:
        Ledger(database).discover([discovery()], actor="watch")
        migrate(url)
        assert len(Ledger(database).scenes()) == 1


def test_several_may_migrate_at_once(empty_url):
    barrier = Barrier(3)

    def go(_):
        barrier.wait()
        migrate(empty_url)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(go, range(3)))
    assert tables(empty_url) == set(Base.metadata.tables)


def test_an_error_inside_a_write_leaves_nothing(database):
    ledger = Ledger(database)
    ledger.discover([discovery()], actor="watch")

    def write_half():
        with database.write() as session:
            session.execute(text("UPDATE scenes SET tile = 'X'"))
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power"):
        write_half()
    assert ledger.scenes()[0].tile == "29UPU"


def test_a_locked_sqlite_is_busy_and_works_again_afterwards(tmp_path):
    path = tmp_path / "catalog.sqlite"
    migrate(f"sqlite:///{path}")
    with closing(connect(f"sqlite:///{path}", busy_seconds=0.2)) as database:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseBusy, match=r"for 0\.2 s") as busy:
                Ledger(database).discover([discovery()], actor="watch")
            assert busy.value.transient
            assert Ledger(database).counts() == {}, "readers are not held up"
        assert Ledger(database).discover([discovery()], actor="watch")[0].outcome == "new"


def test_a_writer_waits_for_another_that_is_quick(tmp_path):
    path = tmp_path / "catalog.sqlite"
    migrate(f"sqlite:///{path}")
    with closing(connect(f"sqlite:///{path}")) as database, ThreadPoolExecutor(1) as pool:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = pool.submit(Ledger(database).discover, [discovery()], actor="watch")
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            other.execute("COMMIT")
        assert waiting.result(10)[0].outcome == "new"


def test_readers_see_one_state_throughout(database):
    """What is written while a reader looks does not change what it sees."""
    ledger = Ledger(database)
    ledger.discover([discovery(0)], actor="watch")
    count = text("SELECT count(*) FROM scenes")
    with database.read() as session:
        before = session.scalar(count)
        ledger.discover([discovery(1)], actor="watch")
        assert session.scalar(count) == before
    assert sum(ledger.counts().values()) == 2


def test_a_server_that_is_not_there_is_unavailable_and_the_password_is_kept():
    with closing(connect("postgresql+psycopg://user:s3cret@127.0.0.1:9/none?connect_timeout=2")) as database:
        assert "s3cret" not in database.name
        with pytest.raises(DatabaseUnavailable) as error, database.read() as session:
            session.execute(text("SELECT 1"))
        assert error.value.transient
        assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("bad", ["", "no url: s3cret", "mysql://user:s3cret@host/db"])
def test_other_addresses_are_refused_without_repeating_them(bad):
    with pytest.raises(DatabaseError, match="expected") as error:
        connect(bad)
    assert "s3cret" not in str(error.value)
    assert not error.value.transient
