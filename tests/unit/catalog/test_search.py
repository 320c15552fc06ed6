"""Searches against brute force: the same items, in the same order, page by page, on both databases."""

from datetime import UTC, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from catalog.collection import build_collection
from catalog.hydration import dehydrate, hydrate
from catalog.ledger import Ledger
from catalog.model_item import build_model_collection, build_model_item
from catalog.publishing import publish
from catalog.search.areas import area_of_bbox, area_of_geometry
from catalog.search.errors import InvalidSearch
from catalog.search.items import Query, search_items
from catalog.search.keyset import Place, order_by, read_token
from tests.unit.catalog import products

COLLECTION = "explains2a-l3-hsi"
PLACES = [
    # west, south, east, north; the third and fourth cross the antimeridian, the last reach the poles
    (0.0, 0.0, 1.0, 1.0), (0.5, 0.5, 1.5, 1.5), (179.0, -1.0, -179.0, 1.0), (170.0, 10.0, -170.0, 20.0),
    (-180.0, 0.0, -179.5, 1.0), (179.5, 0.0, 180.0, 1.0), (-10.0, 80.0, 10.0, 90.0), (-10.0, -90.0, 10.0, -80.0),
]  # fmt: skip
MODERATE = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def stocked(database, tmp_path):
    """A database with an item at every place, two and two at the same time."""
    ledger, configured = Ledger(database), products.settings(tmp_path)
    for number, place in enumerate(PLACES):
        (found,) = ledger.discover([products.discovery(number)], actor="test")
        claim = products.take(ledger, found.scene_id)
        sensed = products.SENSED + timedelta(days=number // 2)
        item = products.item(f"item-{number}", bbox=place, sensed=sensed)
        publish(
            database, ledger, claim, item, collection=build_collection(configured, products.CARD),
            model_item=build_model_item(products.CARD), model_collection=build_model_collection(),
        )  # fmt: skip
    return database


def ids(database, **asked):
    """Every id that a search gives, over all its pages."""
    found, after = [], None
    while True:
        page = search_items(database, Query(**asked, after=after))
        found += [item["id"] for item in page.items]
        if page.next is None:
            return found
        after = read_token(page.next.token(), order_by())


def expected(keep):
    """Ids in the order of a search: newest first, of the same time the last name first."""
    numbers = sorted((n for n in range(len(PLACES)) if keep(n)), reverse=True)
    return [f"item-{n}" for n in numbers]


def spans(west, east):
    """Longitudes of a box as intervals that do not wrap."""
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]


def meets(a, b):
    """Whether two boxes touch, in plain interval arithmetic."""
    latitudes = a[1] <= b[3] and b[1] <= a[3]
    return latitudes and any(w <= f and v <= e for w, e in spans(a[0], a[2]) for v, f in spans(b[0], b[2]))


LONGITUDES = st.sampled_from([-180.0, -179.7, -179.0, -170.0, -5.0, 0.0, 0.7, 1.2, 2.0, 169.0, 179.2, 179.7, 180.0])
LATITUDES = st.sampled_from([-90.0, -85.0, -1.0, 0.0, 0.7, 1.2, 5.0, 15.0, 85.0, 90.0])
BOXES = st.tuples(LONGITUDES, LATITUDES, LONGITUDES, LATITUDES).map(
    lambda b: (b[0], min(b[1], b[3]), b[2], max(b[1], b[3]))
)


@MODERATE
@given(bbox=BOXES, limit=st.integers(1, 9))
def test_boxes_find_what_interval_arithmetic_finds(stocked, bbox, limit):
    found = ids(stocked, area=area_of_bbox(bbox), limit=limit)
    assert found == expected(lambda n: meets(PLACES[n], bbox))


@MODERATE
@given(first=st.integers(-1, 4), last=st.integers(-1, 4), limit=st.integers(1, 9))
def test_times_find_their_days_both_ends_included(stocked, first, last, limit):
    start, end = (products.SENSED + timedelta(days=day) for day in (first, last))
    assert ids(stocked, start=start, end=end, limit=limit) == expected(lambda n: first <= n // 2 <= last)


def test_a_page_counts_what_matches_in_all(stocked):
    page = search_items(stocked, Query(limit=3))
    assert (len(page.items), page.matched) == (3, len(PLACES))
    assert search_items(stocked, Query(area=box(0, 0, 1, 1))).matched == 2, "all of them are on the page"
    assert search_items(stocked, Query(area=box(0, 0, 1, 1), limit=1)).matched is None, "that would test every geometry"


def test_so_many_matches_are_counted_and_more_are_not(stocked, monkeypatch):
    for counted, matched in ((len(PLACES), len(PLACES)), (len(PLACES) - 1, None)):
        monkeypatch.setattr("catalog.search.items.COUNTED", counted)
        page = search_items(stocked, Query(limit=3))
        assert page.matched == matched
        following = search_items(stocked, Query(limit=3, after=read_token(page.next.token(), order_by())))
        assert following.matched == matched


def test_empty_lists_ask_for_nothing(stocked):
    assert ids(stocked, ids=[]) == []
    assert ids(stocked, collections=[]) == []


@pytest.mark.parametrize("bbox", [(), (1,), (1, 2, 3), (0, 1, 1, 0), (-181, 0, 0, 1), (0, 0, 181, 1), (0, -91, 1, 0)])
def test_boxes_that_are_none_are_refused(bbox):
    with pytest.raises(InvalidSearch, match="bbox") as error:
        area_of_bbox(bbox)
    assert error.value.parameter == "bbox"


def test_geometries_are_repaired_not_refused():
    """A bow tie, repeated vertices, clockwise rings: clients write them."""
    bow = area_of_geometry({"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]})
    assert bow.is_valid
    assert bow.area == pytest.approx(2)
    ring = [[0, 0], [0, 2], [0, 2], [2, 2], [2, 0], [0, 0]]
    assert area_of_geometry({"type": "Polygon", "coordinates": [ring]}).area == pytest.approx(4)


def test_a_geometry_with_too_many_vertices_is_refused():
    line = {"type": "LineString", "coordinates": [[n * 1e-4, 0.0] for n in range(10_001)]}
    with pytest.raises(InvalidSearch, match="10001 vertices"):
        area_of_geometry(line)


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=160).filter(str.isprintable),
)
@settings(derandomize=True, deadline=None)
def test_page_tokens_bring_back_their_place(moment, name):
    place = Place(7, (moment, COLLECTION, name), 9)
    token = place.token()
    assert read_token(token, order_by()) == place
    assert token.replace("-", "").replace("_", "").isalnum(), "safe in a URL"


@given(st.text(max_size=60))
@settings(derandomize=True, deadline=None)
def test_any_other_text_is_no_page_token(text):
    with pytest.raises(InvalidSearch, match="token"):
        read_token(text, order_by())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ASSETS = st.dictionaries(
    st.text(max_size=4),
    st.fixed_dictionaries(
        {"href": st.text(max_size=5)},
        optional={"bands": st.lists(JSON, max_size=4), "classification:bitfields": st.lists(JSON, max_size=4)},
    ),
    max_size=4,
)


@given(ASSETS)
@settings(derandomize=True, deadline=None)
def test_whatever_is_taken_out_of_an_item_comes_back(assets):
    item = {"id": "a", "assets": assets}
    stored, tables = dehydrate(item)
    assert hydrate(stored, tables) == item
