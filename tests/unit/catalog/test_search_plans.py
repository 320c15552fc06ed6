"""Searches use the indexes that are there for them: what each database plans for the statements that searches send."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from catalog.bench import made_items
from catalog.bulk import complete_collection, register_products
from catalog.search.areas import area_of_bbox
from catalog.search.cql2 import read_filter
from catalog.search.items import Query, search_items
from catalog.search.keyset import Key, order_by
from catalog.session import connect, migrate
from catalog.tables import CollectionRecord

COLLECTION = "explains2a-l3-hsi"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stocked(request, tmp_path_factory):
    """A database with 400 items."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('plans') / 'catalog.sqlite'}"
    else:
        postgres = request.getfixturevalue("postgres")
        url = postgres.fresh_database()
    migrate(url)
    database = connect(url)
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    with database.write() as session:
        session.add(CollectionRecord(id=COLLECTION, body={"id": COLLECTION, "extent": extent, "summaries": {},
                                                          "description": ""}))  # fmt: skip
    register_products(database, list(made_items(400, COLLECTION)))
    complete_collection(database, COLLECTION)
    database.settle()
    yield database
    database.close()
    if request.param == "postgresql":
        postgres.drop(url)


@contextmanager
def statements(database):
    """Collect what is sent to the database."""
    sent = []

    def remember(_connection, _cursor, statement, parameters, _context, _many):
        if statement.startswith(("SELECT", "WITH")):
            sent.append((statement, parameters))

    event.listen(database._readers, "before_cursor_execute", remember)
    try:
        yield sent
    finally:
        event.remove(database._readers, "before_cursor_execute", remember)


def plans(database, query, *, sort: bool = True) -> list[str]:
    """What the database would do for each statement of a search; whether it may sort rows itself."""
    with statements(database) as sent:
        search_items(database, query)
    explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
    found = []
    with database.read() as session:
        connection = session.connection()
        if database.dialect == "postgresql":
            # A table of 400 rows is read whole faster than by any index; this asks which of them could be used.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text(f"SET LOCAL enable_sort = {'on' if sort else 'off'}"))
        for statement, parameters in sent:
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
            found.append("\n".join(str(row[-1]) for row in rows))
    return found


SORTED = ["datetime", "created", "updated", "eo:cloud_cover", "explains2a:valid_fraction",
          "explains2a:resimulation_rmse", "explains2a:mean_uncertainty", "explains2a:out_of_domain_fraction",
          "explains2a:measured_fraction"]  # fmt: skip


@pytest.mark.parametrize("name", SORTED)
@pytest.mark.parametrize("descending", [False, True])
def test_orders_are_read_from_an_index(stocked, name, descending):
    order = order_by([Key(name, descending)])
    first = search_items(stocked, Query(order=order, limit=5))
    for query in (Query(order=order, limit=5), Query(order=order, limit=5, after=first.next)):
        page = plans(stocked, query, sort=False)[0]
        assert "ix_search_" in page, page
        assert "TEMP B-TREE" not in page, page
        assert "Sort" not in page, page


def test_areas_are_looked_up_in_the_spatial_index(stocked):
    page = plans(stocked, Query(area=area_of_bbox([-180, -90, 20, 90]), limit=5))[0]
    assert ("VIRTUAL TABLE INDEX 2" if stocked.dialect == "sqlite" else "ix_search_box") in page, page
    assert ("INTEGER PRIMARY KEY" if stocked.dialect == "sqlite" else "CTE Scan") in page, page


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(ids=["a", "b"]), "ix_search_id"),
        (Query(collections=[COLLECTION], ids=["a"]), "ix_search_i"),
        (Query(where=read_filter("\"grid:code\" = 'MGRS-00003'", None, None)), "ix_search_grid_code"),
        (Query(where=read_filter("explains2a:region = 'region-3'", None, None)), "ix_search_own_region"),
    ],
)
def test_what_is_asked_for_most_is_found_by_an_index(stocked, query, index):
    page = plans(stocked, query)[0]
    assert index in page, page


def test_more_rows_near_an_area_than_are_looked_up_are_found_on_the_way(stocked, monkeypatch):
    """Half the world: the same items in the same order whether its rows are few enough to be sorted or not."""

    def pages():
        query = Query(area=area_of_bbox([-180, -90, 20, 90]), order=order_by([Key("eo:cloud_cover", False)]), limit=40)
        while True:
            page = search_items(stocked, query)
            yield [item["id"] for item in page.items]
            if page.next is None:
                return
            query = replace(query, after=page.next)

    near = list(pages())
    assert sum(map(len, near)) > 150
    with monkeypatch.context() as patch:
        patch.setattr("catalog.search.items._FEW", 10)
        assert list(pages()) == near
