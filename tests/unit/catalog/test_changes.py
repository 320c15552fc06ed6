"""The change feed on both databases: one order, no gaps, nothing ever skipped, whoever writes at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from catalog.changes import ChangeKind, NotOfThisFeed, read_changes, record_changes
from catalog.tables import ChangeRecord
from tests.unit.catalog import products
from tests.unit.catalog.products import discovery, put_online, take

COLLECTION = "explains2a-l3-hsi"
K = ChangeKind


@pytest.fixture
def publish(database, ledger, tmp_path):
    """Publish the next revision of an item."""

    def do(item_id, number, version=1, **more):
        baseline = f"05.{version:02d}"
        (found,) = ledger.discover(
            [discovery(number, baseline=baseline, source_item_id=f"{number}-{version}")], actor="w"
        )
        revision = f"r{number}-{version}"
        made = products.item(item_id, revision)
        return put_online(
            database, ledger, take(ledger, found.scene_id, revision), made, products.settings(tmp_path), **more
        )

    return do


def told(feed):
    return [(change.kind, change.item_id, change.version) for change in feed.changes]


def test_an_empty_feed_begins_at_zero(database):
    assert read_changes(database) == read_changes(database, 0)
    feed = read_changes(database)
    assert (list(feed.changes), feed.cursor, feed.newest) == ([], 0, 0)


def test_a_replacement_tells_of_both_versions_in_order(database, publish):
    publish("a", 0)
    publish("a", 0, version=2)
    assert told(read_changes(database)) == [(K.PUBLISHED, "a", 1), (K.SUPERSEDED, "a", 1), (K.PUBLISHED, "a", 2)]


def test_a_reader_goes_on_where_it_was(database, publish):
    for number in range(5):
        publish(f"item-{number}", number)
    seen, cursor = [], 0
    while True:
        feed = read_changes(database, cursor, limit=2)
        if not feed.changes:
            break
        seen += [change.item_id for change in feed.changes]
        cursor = feed.cursor
    assert seen == [f"item-{number}" for number in range(5)]
    assert read_changes(database, cursor).cursor == cursor
    publish("later", 9)
    assert told(read_changes(database, cursor)) == [(K.PUBLISHED, "later", 1)]


def test_changes_of_one_collection_pass_over_the_others(database):
    with database.write() as session:
        record_changes(session, [(K.PUBLISHED, "one" if n % 2 else "two", f"item-{n}", 1) for n in range(6)])
    feed = read_changes(database, collection="one")
    assert [change.item_id for change in feed.changes] == ["item-1", "item-3", "item-5"]
    assert feed.cursor == feed.newest == 6
    assert read_changes(database, collection="one", limit=2).cursor == 4
    assert read_changes(database, collection="none").cursor == 6


def test_a_cursor_of_another_feed_is_refused(database, publish):
    publish("a", 0)
    with pytest.raises(NotOfThisFeed, match="ends with change 1"):
        read_changes(database, 2)


def test_what_is_rolled_back_leaves_no_gap(database, publish):
    def fail():
        raise OSError("disk full")

    publish("a", 0)
    for number in range(1, 4):
        with pytest.raises(OSError, match="disk full"):
            publish(f"lost-{number}", number, on_stage=fail)
    publish("b", 7)
    assert [change.sequence for change in read_changes(database).changes] == [1, 2]


def test_a_reader_sees_every_change_once_in_order_while_many_write_and_some_fail(database, publish):
    """Writers overtake each other and every third one is undone; the reader polls all the while."""
    writers, each = 4, 6
    done, seen = threading.Event(), []

    def fail():
        raise OSError("disk full")

    def write(writer):
        written = []
        for n in range(each):
            number = writer * each + n
            try:
                publish(f"item-{number:02d}", number, on_stage=fail if number % 3 == 0 else lambda: None)
            except OSError:
                continue
            written.append(f"item-{number:02d}")
        return written

    def follow():
        cursor = 0
        while True:
            last_look = done.is_set()
            feed = read_changes(database, cursor, limit=3)
            seen.extend(feed.changes)
            cursor = feed.cursor
            if last_look and not feed.changes:
                return

    with ThreadPoolExecutor(writers + 1) as pool:
        reader = pool.submit(follow)
        written = [item for items in pool.map(write, range(writers)) for item in items]
        done.set()
        reader.result(60)
    assert [change.sequence for change in seen] == list(range(1, len(written) + 1))
    assert sorted(change.item_id for change in seen) == sorted(written)
    with database.read() as session:
        stored = session.scalars(select(ChangeRecord.item_id).order_by(ChangeRecord.sequence)).all()
    assert [change.item_id for change in seen] == list(stored)


def test_a_number_is_not_seen_before_those_below_it(database):
    """Of two transactions that append, the second one waits for the first, and is seen after it."""
    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            record_changes(session, [(K.PUBLISHED, COLLECTION, "slow", 1)])

            def overtake():
                with database.write() as other:
                    return record_changes(other, [(K.PUBLISHED, COLLECTION, "fast", 1)])

            later = pool.submit(overtake)
            with pytest.raises(TimeoutError):
                later.result(0.3)
            assert read_changes(database).changes == ()
        assert later.result(30) == 2
    assert [change.item_id for change in read_changes(database).changes] == ["slow", "fast"]
