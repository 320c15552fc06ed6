"""CQL2: random filters over random items find the same in SQLite, in PostgreSQL and by cql2's own `matches`."""

import copy
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import cql2
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import text

from catalog.facts import FACTS, Kind
from catalog.items import PREFIX
from catalog.search.areas import area_of_bbox
from catalog.search.comparisons import read_comparisons
from catalog.search.cql2 import CRS84, MAX_DEPTH, read_filter
from catalog.search.errors import InvalidSearch
from catalog.search.items import Query, search_items
from catalog.search.keyset import Key, order_by, read_token
from catalog.session import connect, migrate
from catalog.tables import CollectionRecord, ItemRecord
from tests.unit.catalog import products

TEMPLATE = products.item()
COLLECTION = TEMPLATE["collection"]
START = datetime(2024, 1, 1, tzinfo=UTC)


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


# --- random items: few values, so that filters meet them; every property but the first two may be missing ---

TEXTS = st.sampled_from(["a", "b", "B", "ab", "a%b", "a_b", "a*b", "A?[b", "é", "sentinel-2a", "Z", ""])
NUMBERS = st.sampled_from([0.0, 1.0, 2.5, 10.0, 99.5, 1e-3])
MOMENTS = st.builds(
    lambda days, ticks: START + timedelta(days=days, microseconds=ticks),
    st.integers(0, 3),
    st.sampled_from([0, 1, 500]),
)
TIMES = MOMENTS.map(stamp)
EDGES = st.integers(-3, 3)
BOXES = st.tuples(EDGES, EDGES, st.integers(1, 3), st.integers(1, 3)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
VALUES = {Kind.TEXT: TEXTS, Kind.NUMBER: NUMBERS, Kind.TRUTH: st.booleans(), Kind.TIME: TIMES}
NAMES = {
    Kind.TEXT: ["platform", "grid:code", PREFIX + "grade"],
    Kind.NUMBER: ["eo:cloud_cover", PREFIX + "valid_fraction"],
    Kind.TRUTH: ["deprecated"],
    Kind.TIME: ["datetime", "created"],
}
OPTIONAL = [name for names in NAMES.values() for name in names if name != "datetime"]


@st.composite
def items(draw, number):
    bbox = draw(BOXES)
    properties = {"datetime": draw(TIMES)}
    for kind, names in NAMES.items():
        for name in names:
            choice = draw(st.integers(0, 4)) if name in OPTIONAL else 4
            if choice == 0:
                properties[name] = None
            elif choice > 1:
                properties[name] = draw(VALUES[kind])
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"item-{number}", "collection": COLLECTION,
        "geometry": products.box(*bbox), "bbox": list(bbox), "properties": properties, "links": [], "assets": {},
    }  # fmt: skip


CATALOGS = st.integers(1, 6).flatmap(lambda size: st.tuples(*(items(number) for number in range(size))))

# --- random filters, well-typed, without what cql2 0.6 itself gets wrong: BETWEEN and IN of timestamps, comparisons
# --- with dates, times of two properties (it compares their text), boxes across the antimeridian ---


def properties_of(kind):
    names = NAMES[kind] + (["id", "collection"] if kind is Kind.TEXT else [])
    return st.sampled_from(names).map(lambda name: {"property": name})


def operation(op, *args):
    return st.tuples(*args).map(lambda drawn: {"op": op, "args": list(drawn)})


LITERALS = {**VALUES, Kind.TIME: TIMES.map(lambda text: {"timestamp": text})}
COMPARED = st.sampled_from(["=", "<>", "<", ">", "<=", ">="])


def comparisons(kind):
    sides = st.sampled_from([(0, 1), (1, 0), *([] if kind is Kind.TIME else [(0, 0)])])
    pick = [properties_of(kind), LITERALS[kind]]
    return st.tuples(COMPARED, sides).flatmap(lambda drawn: operation(drawn[0], *(pick[n] for n in drawn[1])))


PATTERNS = st.lists(
    st.sampled_from(["a", "b", "B", "%", "_", "\\%", "\\_", "*", "?", "[", "é", "item-"]), max_size=4
).map("".join)
FOLDED = st.builds(
    lambda op, name, value: {
        "op": op,
        "args": [{"op": "casei", "args": [{"property": name}]}, {"op": "casei", "args": [value]}],
    },
    st.sampled_from(["=", "<>", "<", "like"]), st.sampled_from(NAMES[Kind.TEXT]),
    st.sampled_from(["A", "Ab", "b", "SENTINEL-2A"]),
)  # fmt: skip
INSTANTS = TIMES.map(lambda text: {"timestamp": text})
OPEN_ENDS = st.tuples(st.just("..") | TIMES, st.just("..") | TIMES)
INTERVALS = OPEN_ENDS.filter(lambda ends: ".." in ends or ends[0] <= ends[1]).map(lambda ends: {"interval": list(ends)})
TEMPORAL = st.sampled_from(
    ["t_after", "t_before", "t_during", "t_intersects", "t_disjoint", "t_equals", "t_meets", "t_metby", "t_starts",
     "t_startedby", "t_finishes", "t_finishedby", "t_contains", "t_overlaps", "t_overlappedby"]
)  # fmt: skip
SHAPES = st.one_of(
    BOXES.map(lambda b: {"bbox": list(b)}),
    BOXES.map(lambda b: products.box(*b)),
    st.tuples(EDGES, EDGES).map(lambda p: {"type": "Point", "coordinates": [p[0] + 0.5, p[1] + 0.25]}),
    # a triangle, whose box is twice as large
    BOXES.map(lambda b: {"type": "Polygon", "coordinates": [[[b[0], b[1]], [b[2], b[1]], [b[0], b[3]], [b[0], b[1]]]]}),
)
SPATIAL = st.sampled_from(["s_intersects", "s_disjoint", "s_within", "s_contains", "s_equals"])
FOOTPRINT = st.just({"property": "geometry"})


def turned(drawn):
    op, shape, behind = drawn
    sides = [shape, {"property": "geometry"}] if behind else [{"property": "geometry"}, shape]
    return {"op": op, "args": sides}


LEAVES = st.one_of(
    comparisons(Kind.TEXT), comparisons(Kind.NUMBER), comparisons(Kind.TRUTH), comparisons(Kind.TIME),
    operation("isNull", st.sampled_from(OPTIONAL).map(lambda name: {"property": name})),
    operation("like", properties_of(Kind.TEXT), PATTERNS), FOLDED,
    operation("between", properties_of(Kind.NUMBER), NUMBERS, NUMBERS),
    operation("between", properties_of(Kind.TEXT), TEXTS, TEXTS),
    operation("in", properties_of(Kind.TEXT), st.lists(TEXTS, min_size=1, max_size=3)),
    operation("in", properties_of(Kind.NUMBER), st.lists(NUMBERS, min_size=1, max_size=3)),
    st.tuples(TEMPORAL, properties_of(Kind.TIME), INSTANTS | INTERVALS, st.booleans()).map(
        lambda d: {"op": d[0], "args": [d[2], d[1]] if d[3] else [d[1], d[2]]}
    ),
    st.tuples(SPATIAL, SHAPES, st.booleans()).map(turned),
    st.booleans(), st.just({"property": "deprecated"}),
)  # fmt: skip
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        operation("not", inner), operation("and", inner, inner), operation("or", inner, inner),
        operation("or", inner, inner, inner),
    ),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory, postgres):
    """An SQLite and a PostgreSQL database, migrated."""
    urls = [f"sqlite:///{tmp_path_factory.mktemp('cql2') / 'catalog.sqlite'}", postgres.fresh_database()]
    for url in urls:
        migrate(url)
    with closing(connect(urls[0])) as sqlite, closing(connect(urls[1])) as postgresql:
        for database in (sqlite, postgresql):
            with database.write() as session:
                session.add(CollectionRecord(id=COLLECTION, body={}))
        yield sqlite, postgresql
    postgres.drop(urls[1])


def stock(database, found):
    with database.write() as session:
        session.execute(text("DELETE FROM items"))
        session.execute(text("DELETE FROM item_search"))
        for item in found:
            west, south, east, north = item["bbox"]
            session.add(
                ItemRecord(
                    collection=COLLECTION, id=item["id"], west=west, south=south, east=east, north=north, version=1,
                    datetime=datetime.fromisoformat(item["properties"]["datetime"]), product_revision="r",
                    scene_id=None, body=copy.deepcopy(item),
                )
            )  # fmt: skip


def matches(expression, item) -> bool:
    try:
        return bool(expression.matches(item))
    except Exception:  # noqa: BLE001 - cql2 raises bare Exceptions for "neither true nor false"
        return False


def found(database, where, **asked):
    return sorted(item["id"] for item in search_items(database, Query(where=where, limit=100, **asked)).items)


@given(catalog=CATALOGS, filters=st.lists(FILTERS, min_size=10, max_size=10))
@settings(
    max_examples=40, deadline=None, derandomize=True, report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
def test_filters_find_what_cql2_finds(both, catalog, filters):
    """As JSON, and as the text that cql2 makes of it, page by page."""
    for database in both:
        stock(database, catalog)
    for each in filters:
        note(json.dumps(each))
        expression = cql2.Expr(each)
        expected = sorted(item["id"] for item in catalog if matches(expression, item))
        for database in both:
            assert found(database, read_filter(each, None, None)) == expected
        assert found(both[0], read_filter(json.dumps(each), "cql2-json", CRS84)) == expected


KEYS = st.lists(st.builds(Key, st.sampled_from([*OPTIONAL, "datetime", "id"]), st.booleans()), max_size=3)


def value_of(item, name):
    value = item["id"] if name == "id" else item["properties"].get(name)
    return datetime.fromisoformat(value) if value is not None and name in NAMES[Kind.TIME] else value


def by_hand(catalog, keys):
    """Sort as documented: items without a property last, ties by the id, in the direction of the last key."""
    last = keys[-1].descending if keys else True
    ordered = sorted(catalog, key=lambda item: item["id"], reverse=last)
    for key in reversed(keys or [Key("datetime", descending=True)]):
        there = [item for item in ordered if value_of(item, key.name) is not None]
        there.sort(key=lambda item: value_of(item, key.name), reverse=key.descending)
        ordered = there + [item for item in ordered if value_of(item, key.name) is None]
    return [item["id"] for item in ordered]


@given(catalog=CATALOGS, keys=KEYS, size=st.integers(1, 4), where=st.none() | FILTERS)
@settings(
    max_examples=80, deadline=None, derandomize=True, report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
def test_every_order_gives_every_item_once_page_by_page(both, catalog, keys, size, where):
    note(json.dumps(where))
    order = order_by(keys)
    predicate = None if where is None else read_filter(where, None, None)
    for database in both:
        stock(database, catalog)
        wanted = found(database, predicate)
        expected = [name for name in by_hand(catalog, keys) if name in wanted]
        got, after = [], None
        while True:
            page = search_items(database, Query(where=predicate, order=order, limit=size, after=after))
            got += [item["id"] for item in page.items]
            assert page.matched in {None, len(expected)}
            if page.next is None:
                break
            after = read_token(page.next.token(), order)
        assert got == expected


# --- what cql2 cannot judge ---


@pytest.fixture
def three_days(both):
    """An item at noon of each of three days, in both databases."""
    made = [
        {**TEMPLATE, "id": f"day-{day}", "assets": {},
         "properties": {**TEMPLATE["properties"], "datetime": stamp(START + timedelta(days=day, hours=12))}}
        for day in range(3)
    ]  # fmt: skip
    for database in both:
        stock(database, made)
    return both


@pytest.mark.parametrize(
    ("where", "days"),
    [
        ("datetime = DATE('2024-01-02')", [1]), ("datetime <> DATE('2024-01-02')", [0, 2]),
        ("datetime > DATE('2024-01-02')", [2]), ("datetime >= DATE('2024-01-02')", [1, 2]),
        ("datetime < DATE('2024-01-02')", [0]), ("datetime <= DATE('2024-01-02')", [0, 1]),
        ("datetime >= '2024-01-02T12:00:00Z'", [1, 2]), ("datetime >= '2024-01-02'", [1, 2]),
        ("DATE('2024-01-02') < datetime", [2]),
        ("datetime BETWEEN TIMESTAMP('2024-01-01T12:00:00Z') AND TIMESTAMP('2024-01-02T12:00:00Z')", [0, 1]),
        ("datetime BETWEEN DATE('2024-01-02') AND DATE('2024-01-03')", [1, 2]),
        ("datetime IN (TIMESTAMP('2024-01-01T13:00:00+01:00'), DATE('2024-01-03'))", [0, 2]),
        ("NOT datetime IN (TIMESTAMP('2024-01-01T12:00:00Z'))", [1, 2]),
        ("T_DURING(datetime, INTERVAL('2024-01-01','2024-01-02'))", [0, 1]),
        ("ANYINTERACTS(datetime, INTERVAL('..','2024-01-02T12:00:00Z'))", [0, 1]),
        ("properties.datetime > DATE('2024-01-02')", [2]),
        ("\"eo:cloud_cover\" = 12.5 AND explains2a:grade = 'B'", [0, 1, 2]),
        ("S_INTERSECTS(geometry, POINT(-8.9 54.05))", [0, 1, 2]), ("S_INTERSECTS(geometry, BBOX(170,0,-170,10))", []),
        ("mission = 'x' OR NOT mission LIKE 'x%'", []), ("mission IS NULL", [0, 1, 2]),
        ("geometry IS NULL", []), ("NOT geometry IS NULL", [0, 1, 2]),
    ],
)  # fmt: skip
def test_times_are_understood_as_documented(three_days, where, days):
    for database in three_days:
        assert found(database, read_filter(where, "cql2-text", None)) == [f"day-{day}" for day in days]


@pytest.mark.parametrize(
    ("query", "same"),
    [
        ({"eo:cloud_cover": {"lt": 13, "gte": 12}}, "\"eo:cloud_cover\" < 13 AND \"eo:cloud_cover\" >= 12"),
        ({"id": {"startsWith": "day-1"}}, "id = 'day-1'"), ({"id": {"endsWith": "%"}}, "false"),
        ({"id": {"contains": "y-"}}, "true"), ({"id": {"in": ["day-0", "x"]}}, "id = 'day-0'"),
        ({"datetime": {"gt": "2024-01-02T12:00:00Z"}}, "id = 'day-2'"), ({"version": {"neq": "1"}}, "false"),
        ({"deprecated": {"eq": False}}, "true"), ({}, "true"), ({"eo:cloud_cover": {"eq": "12.5"}}, "true"),
    ],
)  # fmt: skip
def test_the_query_extension_says_what_cql2_says(three_days, query, same):
    for database in three_days:
        assert found(database, read_comparisons(query)) == found(database, read_filter(same, None, None))


def test_between_is_understood_as_drafts_had_it(three_days):
    where = {"op": "between", "args": [{"property": "eo:cloud_cover"}, [12, 13]]}
    assert found(three_days[0], read_filter(where, None, None)) == ["day-0", "day-1", "day-2"]


@pytest.mark.parametrize("kind", Kind)
def test_every_queryable_can_be_asked_for(three_days, kind):
    for fact in FACTS:
        if fact.kind is kind:
            where = read_filter({"op": "isNull", "args": [{"property": fact.name}]}, None, None)
            missing = TEMPLATE["properties"].get(fact.name) is None
            assert found(three_days[0], where) == (["day-0", "day-1", "day-2"] if missing else [])


def test_every_scalar_that_a_product_says_of_itself_can_be_asked_for():
    known = {fact.name for fact in FACTS}
    own = {
        name
        for name, value in TEMPLATE["properties"].items()
        if name.startswith(PREFIX) and not isinstance(value, list | dict)
    }
    assert own <= known


BAD = [
    ("a = ", "understood"), ("unknown = 1", "/queryables"), ("\"properties.unknown\" = 1", "/queryables"),
    ("platform = 1", "is text"), ("\"eo:cloud_cover\" = 'x'", "is number"), ("\"eo:cloud_cover\" LIKE 'x'", "text"),
    ("platform", "true or false"), ("1 = 1", "values"), ("upper(platform) = 'X'", "neither"),
    ("\"eo:cloud_cover\" + 1 = 2", "neither"), ("datetime = 'yesterday'", "not a time"),
    ("datetime > '2024-01-01T00:00:00'", "not a time"), ("datetime > INTERVAL('..','..')", "interval"),
    ("T_AFTER(platform, DATE('2024-01-01'))", "is text"), ("T_AFTER(datetime, DATE('2024-13-01'))", "not a date"),
    ("T_DURING(datetime, INTERVAL('2024-02-01','2024-01-01'))", "before it begins"),
    ("S_INTERSECTS(platform, POINT(1 1))", "geometry"), ("S_INTERSECTS(geometry, BBOX(1,2,3))", "filter"),
    ("S_INTERSECTS(geometry, POINT(1 NaN))", "filter"), ("a_contains(platform, ('x'))", "not supported"),
    ("platform IN (1)", "other values"), ("platform = NULL", "neither"), ("(" * 100 + "true" + ")" * 100, "deep"),
    ("NOT " * 4000 + "true", "deep"), ("\"eo:cloud_cover\" = " + "-" * 4000 + "1", "deep"),
    (" OR ".join(["deprecated"] * 2001), "parts"), ("platform = '" + "x" * 600 + "'", "characters"),
    ("x" * 70_000, "characters"), ("platform LIKE '" + "%" * 600 + "'", "characters"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "said"), BAD)
def test_wrong_text_is_refused_with_the_reason(where, said):
    with pytest.raises(InvalidSearch, match=said) as error:
        read_filter(where, "cql2-text", None)
    assert error.value.parameter == "filter"


def nested(depth):
    return True if depth == 0 else {"op": "not", "args": [nested(depth - 1)]}


@pytest.mark.parametrize(
    "where",
    [
        None, [], "", {}, {"op": "and"}, {"op": "=", "args": [1]}, {"op": "=", "args": "xy"}, {"op": 5, "args": []},
        {"op": "in", "args": [{"property": "id"}, "x"]}, {"op": "in", "args": [{"property": "id"}, []]},
        {"op": "in", "args": ["x", ["x"]]}, {"op": "=", "args": [{"property": 5}, 5]}, {"property": "x"},
        {"op": "=", "args": [{"property": "id"}, "a\0b"]}, {"op": "=", "args": [{"property": "id"}, "\ud800"]},
        {"op": "=", "args": [{"property": "eo:cloud_cover"}, 10**400]}, {"op": "like", "args": [{"property": "id"}, 1]},
        {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Blob"}]},
        {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": ["a", 1, 2, 3]}]},
        {"op": "s_intersects", "args": [{"property": "geometry"}, 5]},
        {"op": "t_during", "args": [{"property": "datetime"}, {"interval": [1, 2]}]},
        {"op": "t_during", "args": [{"property": "datetime"}, {"interval": ["a"]}]},
        {"op": "between", "args": [{"property": "id"}, "a"]}, nested(MAX_DEPTH + 1),
        {"op": "casei", "args": [{"property": "id"}]},
        {"op": "=", "args": [{"op": "casei", "args": [{"property": "eo:cloud_cover"}]}, 5]},
        {"op": "not", "args": []}, {"op": "isNull", "args": ["id"]},
    ],
)  # fmt: skip
def test_wrong_json_is_refused(where):
    with pytest.raises(InvalidSearch) as error:
        read_filter(where, None, None)
    assert error.value.parameter == "filter"


@given(st.text(max_size=200) | st.text(alphabet="()'\"andor =<>-1.tTsS_", max_size=200))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_any_text_is_a_filter_or_an_error_that_names_it(where):
    try:
        read_filter(where, None, None)
    except InvalidSearch as error:
        assert error.parameter == "filter"  # noqa: PT017 - most texts raise, some are filters


def test_other_coordinates_and_languages_are_refused():
    with pytest.raises(InvalidSearch, match="filter-crs"):
        read_filter("true", None, "EPSG:4326")
    with pytest.raises(InvalidSearch, match="filter-lang"):
        read_filter("true", "ecql", None)
    with pytest.raises(InvalidSearch, match="filter-lang"):
        read_filter({"op": "not", "args": [True]}, "cql2-text", None)


def test_boxes_of_filters_cross_the_antimeridian(both):
    across = {
        **TEMPLATE,
        "id": "across",
        "bbox": [179.5, -1.0, -179.5, 1.0],
        "geometry": products.box(179.5, -1.0, -179.5, 1.0),
        "assets": {},
    }
    for database in both:
        stock(database, [across, {**TEMPLATE, "assets": {}}])
        for west, east, met in ((170, -170, True), (-180, -179.6, True), (179.6, 180, True), (-170, 170, False)):
            where = {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [west, -5, east, 5]}]}
            assert found(database, read_filter(where, None, None)) == (["across"] if met else [])
            around = read_filter({"op": "not", "args": [where]}, None, None)
            assert ("across" in found(database, around)) is not met
        assert found(database, None, area=area_of_bbox([179.9, 0, -179.9, 0.5])) == ["across"]
