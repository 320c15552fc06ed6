"""Databases: schema, locks, errors that say whether to try again."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text, update

from catalog.ledger import Ledger
from catalog.session import DatabaseBusy, DatabaseError, DatabaseUnavailable, connect, migrate
from catalog.tables import Base, ItemRecord, item_search, search_row
from tests.unit.catalog import products
from tests.unit.catalog.products import discovery


def tables(url):
    with closing(connect(url)) as database, database.read() as session:
        found = set(inspect(session.connection()).get_table_names()) - {"alembic_version"}
        return {name for name in found if not name.startswith("item_boxes")}  # SQLite's spatial index is tables


def test_the_schema_goes_up_down_and_up_again(empty_url):
    migrate(empty_url)
    assert tables(empty_url) == set(Base.metadata.tables)
    migrate(empty_url, "base")
    assert tables(empty_url) == set()
    migrate(empty_url)
    assert tables(empty_url) == set(Base.metadata.tables)


def declared(_object, name, kind, _reflected, _compared):
    """The indexes of searches are each database's own; query plans test them, see test_search_plans.py."""
    return not (kind == "index" and name.startswith("ix_search_")) and not name.startswith("item_boxes")


def test_the_migrated_schema_is_what_the_tables_say(database):
    with database.read() as session:
        opts = {"compare_type": True, "include_object": declared}
        context = MigrationContext.configure(session.connection(), opts=opts)
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_twice_keeps_what_is_there(url):
    with closing(connect(url)) as database:
        Ledger(database).discover([discovery()], actor="watch")
        migrate(url)
        assert len(Ledger(database).scenes()) == 1


def test_items_that_were_there_can_be_searched_after_the_migration_and_survive_the_way_back(empty_url):
    migrate(empty_url, "0001")
    body = products.item("an-item", bbox=(179.5, -17.0, -179.5, -16.0))
    with closing(connect(empty_url)) as database, database.write() as session:
        session.execute(text("INSERT INTO collections VALUES ('explains2a-l3-hsi', '{}')"))
        session.execute(
            text(
                "INSERT INTO items VALUES ('explains2a-l3-hsi', :id, '2024-06-17 11:33:21+00:00', 179.5, -17, -179.5,"
                " -16, 1, 'r1', NULL, :body)"
            ),
            [{"id": name, "body": json.dumps({**body, "id": name})} for name in ("one", "two")],
        )
    migrate(empty_url)
    with closing(connect(empty_url)) as database, database.read() as session:
        rows = session.execute(select(item_search).order_by(item_search.c.id)).mappings().all()
        assert [row["id"] for row in rows] == ["one", "two"]
        assert [row["number"] for row in rows] == [1, 2]
        assert {name: rows[0][name] for name in search_row(body)} == {**search_row(body), "id": "one"}
        assert rows[0]["east"] == 180.5
    migrate(empty_url, "0001")
    with closing(connect(empty_url)) as database, database.read() as session:
        stored = session.scalars(text("SELECT body FROM items ORDER BY id")).all()
        documents = [json.loads(each) if isinstance(each, str) else each for each in stored]
        assert documents == [{**body, "id": name} for name in ("one", "two")]


def test_rows_of_searches_follow_the_items(database, ledger, tmp_path):
    """A newer version and a removal end a row; what ended long ago is forgotten."""

    def rows():
        with database.read() as session:
            query = select(item_search).where(item_search.c.collection == "explains2a-l3-hsi")
            return [tuple(row) for row in session.execute(query.order_by("number")).all()]

    def put(revision, baseline):
        (scene,) = ledger.discover([discovery(baseline=baseline)], actor="test")
        claim = products.take(ledger, scene.scene_id, revision)
        products.put_online(database, ledger, claim, products.item("a", revision), products.settings(tmp_path))

    put("r1", "05.10")
    ((number, until, ended, *first),) = rows()
    assert (until, ended) == (None, None)
    put("r2", "05.11")
    before, after = rows()
    assert before[0] == number
    assert before[1] == after[0]
    assert before[3:] == tuple(first), "what a row says it says for ever"
    assert after[1] is None
    with database.write() as session:
        record = session.get(ItemRecord, ("explains2a-l3-hsi", "a"))
        record.body = {**record.body, "properties": {**record.body["properties"], "deprecated": True}}
    deprecated = rows()[-1]
    assert len(rows()) == 3
    assert rows()[1][1] == deprecated[0]
    with database.write() as session:
        session.execute(update(item_search).values(ended=item_search.c.ended - 100_000))
        session.execute(text("DELETE FROM items WHERE id = 'a'"))
    ((number, until, *_),) = rows()
    assert (number, until) == (deprecated[0], deprecated[0] + 1), "older ones are forgotten"


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
