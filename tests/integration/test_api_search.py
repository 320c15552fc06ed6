"""Filter, sort, fields, query and collection search over HTTP on both databases, with pystac-client and by hand."""

from __future__ import annotations

import json
import threading
from itertools import count

import cql2
import httpx
import pystac_client
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from sqlalchemy import text

from catalog.api import create_app
from catalog.api.limits import RateLimit
from catalog.api.places import LinksUnusable, asset_locator
from catalog.facts import FACTS
from catalog.items import PREFIX
from catalog.ledger import Ledger
from catalog.search.areas import area_of_geometry
from catalog.search.errors import SearchTooSlow
from catalog.search.items import Query, _Search
from catalog.session import StatementTooSlow, connect, migrate
from tests.contract.stac_schemas import problems, require_schemas
from tests.integration.test_api_behaviour import COLLECTION, name, register, running
from tests.postgres import Postgres
from tests.unit.catalog import products

pytestmark = pytest.mark.server
DAYS = 10


def quality(day: int) -> dict:
    """Cloud 0, 10, 20 … %, missing on day 4; the grades A and B in turn."""
    return {"cloud_cover": None if day == 4 else day / 10, "grade": "AB"[day % 2]}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def catalog(request, tmp_path_factory):
    """Ten items, a degree and a day apart."""
    folder, server = tmp_path_factory.mktemp("catalog"), None
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'catalog.sqlite'}"
    else:
        server = Postgres().start()
        url = server.fresh_database()
    migrate(url)
    database, settings = connect(url), products.settings(folder)
    for day in range(DAYS):
        register(database, Ledger(database), settings, day, **quality(day))
    yield database, settings
    database.close()
    if server:
        server.stop()


@pytest.fixture(scope="module")
def address(catalog):
    """Where the catalog is served."""
    with running(create_app(*catalog)) as url:
        yield url


@pytest.fixture
def client(address):
    return pystac_client.Client.open(address)


@pytest.fixture
def http(address):
    with httpx.Client(base_url=address) as opened:
        yield opened


def ids(search) -> list[str]:
    return [item.id for item in search.items()]


def names(*days: int) -> list[str]:
    return [name(day) for day in days]


CLOUDY = {"op": ">=", "args": [{"property": "eo:cloud_cover"}, 70]}


def test_clients_find_what_the_server_can(client, http):
    for wanted in ("FILTER", "SORT", "FIELDS", "QUERY", "COLLECTION_SEARCH", "COLLECTION_SEARCH_FREE_TEXT"):
        assert client.conforms_to(wanted), wanted
    links = {link["rel"]: link["href"] for link in http.get("/").json()["links"]}
    for rel in ("queryables", "sortables"):
        rels = [href for known, href in links.items() if known.endswith(rel)]
        assert rels
        assert all(http.get(href).headers["content-type"].startswith("application/schema+json") for href in rels)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("where", "found"),
    [
        ('"eo:cloud_cover" >= 70', names(9, 8, 7)),
        (CLOUDY, names(9, 8, 7)),
        ("\"eo:cloud_cover\" >= 70 AND explains2a:grade = 'A'", names(8)),
        ('"eo:cloud_cover" IS NULL', names(4)),
        ('NOT "eo:cloud_cover" < 80', names(9, 8)),
        ("S_INTERSECTS(geometry, POINT(-17.9 54.1)) OR id = 'item-05'", names(5, 2)),
        ("NOT S_INTERSECTS(geometry, BBOX(-20, 50, -12.1, 60))", names(9, 8)),
        ("datetime > TIMESTAMP('2024-06-25T00:00:00Z')", names(9, 8)),
    ],
)  # fmt: skip
def test_filters_arrive_as_text_and_as_json(client, method, where, found):
    if method == "POST" and isinstance(where, str):
        where = cql2.Expr(where).to_json()
    assert ids(client.search(collections=[COLLECTION], filter=where, method=method)) == found


def test_filters_join_with_everything_else_and_with_pages(client, http):
    search = client.search(
        collections=[COLLECTION], filter=CLOUDY, bbox=[-20, 54, -11.6, 55], datetime="2024-06-20/..",
        query={"explains2a:grade": {"eq": "A"}}, limit=1,
    )  # fmt: skip
    assert ids(search) == names(8)
    body = {"filter": CLOUDY, "limit": 1, "sortby": [{"field": "eo:cloud_cover", "direction": "asc"}],
            "fields": {"include": ["properties.eo:cloud_cover"]}}  # fmt: skip
    found, page = [], http.post("/search", json=body).json()
    while True:
        found += [(item["id"], item["properties"]) for item in page["features"]]
        following = [link for link in page["links"] if link["rel"] == "next"]
        if not following:
            break
        assert following[0]["method"] == "POST"
        page = http.post(following[0]["href"], json=following[0]["body"]).json()
    assert [each[0] for each in found] == names(7, 8, 9)
    assert found[0][1] == {"eo:cloud_cover": 70.0}


def test_a_collections_items_can_be_filtered_and_sorted(http):
    path = f"/collections/{COLLECTION}/items"
    asked = {"filter": '"eo:cloud_cover" <= 10', "sortby": "id", "fields": "id"}
    assert [item["id"] for item in http.get(path, params=asked).json()["features"]] == names(0, 1)
    asked = {"filter": json.dumps(CLOUDY), "filter-lang": "cql2-json", "query": '{"id": {"neq": "item-08"}}'}
    assert [item["id"] for item in http.get(path, params=asked).json()["features"]] == names(9, 7)


@pytest.mark.parametrize("limit", [3, 100])
@pytest.mark.parametrize(
    ("sortby", "found"),
    [
        ("-properties.datetime", names(*reversed(range(DAYS)))),
        ("+id", names(*range(DAYS))),
        ("properties.eo:cloud_cover", names(0, 1, 2, 3, 5, 6, 7, 8, 9, 4)),
        ("-eo:cloud_cover", names(9, 8, 7, 6, 5, 3, 2, 1, 0, 4)),
        ("+explains2a:grade,-datetime", names(8, 6, 4, 2, 0, 9, 7, 5, 3, 1)),
    ],
)  # fmt: skip
def test_pages_come_in_the_order_that_was_asked_for(client, sortby, found, limit):
    assert ids(client.search(collections=[COLLECTION], sortby=sortby, limit=limit)) == found


def test_bands_can_be_left_out(http):
    asked = {"limit": 1, "fields": "-assets.*.bands,-assets.*.classification:bitfields"}
    (lean,) = http.get("/search", params=asked).json()["features"]
    (whole,) = http.get("/search", params={"limit": 1}).json()["features"]
    for asset in whole["assets"].values():
        asset.pop("bands", None)
        asset.pop("classification:bitfields", None)
    assert lean == whole
    require_schemas()
    assert problems(lean) == []


def test_fields_are_included_and_excluded(http):
    def first(fields):
        return http.get("/search", params={"limit": 1, "fields": fields}).json()["features"][0]

    always = {"type", "stac_version", "id", "collection"}
    assert set(first("properties.platform")) == always | {"properties"}
    assert set(first("geometry,-type,-geometry")) == always - {"type"} | {"geometry"}, "what is named twice is wanted"
    assert first("-properties,properties.gsd")["properties"] == {"gsd": 10}
    assert {link["rel"] for link in first("links")["links"]} >= {"self", "collection"}
    assert set(first("assets.hsi.href")["assets"]) == {"hsi"}
    assert len(first("assets.hsi.bands")["assets"]["hsi"]["bands"]) == 172
    assert set(first("-properties")) == set(first("")) - {"properties"}
    assert http.get("/search", params={"fields": "a..b"}).status_code == 400


def test_queryables_are_schemas_that_items_obey(http):
    for path in ("/queryables", f"/collections/{COLLECTION}/queryables"):
        schema = http.get(path).json()
        Draft202012Validator.check_schema(schema)
        assert schema["$id"].endswith(path)
        assert set(schema["properties"]) == {"id", "collection", "geometry", *(fact.name for fact in FACTS)}
        properties = http.get("/search", params={"limit": 1}).json()["features"][0]["properties"]
        for known, value in properties.items():
            if known in schema["properties"]:
                Draft202012Validator(schema["properties"][known]).validate(value)
    sortables = http.get(f"/collections/{COLLECTION}/sortables").json()
    assert PREFIX + "valid_fraction" in sortables["properties"]
    assert http.get("/collections/none/queryables").status_code == 404
    assert http.get("/collections/none/sortables").status_code == 404


def test_the_api_describes_itself(http):
    described = http.get("/api")
    assert described.status_code == 200
    assert described.headers["content-type"].startswith("application/vnd.oai.openapi+json")
    search = described.json()["paths"]["/search"]
    named = {parameter["name"] for parameter in search["get"]["parameters"]}
    assert {"filter", "filter-lang", "filter-crs", "sortby", "fields", "query", "token", "bbox"} <= named
    assert http.get("/api.html").status_code == 200


def test_collections_can_be_searched(client, http):
    def found(**asked):
        return [each.id for each in client.collection_search(**asked).collections()]

    assert found() == [COLLECTION, "explains2a-models"]
    assert found(q="172 bands,nobody says this") == [COLLECTION]
    assert found(bbox=[-20, 54, -19, 55]) == [COLLECTION, "explains2a-models"]
    assert found(bbox=[100, 0, 110, 10]) == ["explains2a-models"], "which cover the whole world"
    assert found(datetime="2024-06-18/2024-06-19") == [COLLECTION]
    assert found(datetime="1999-01-01/1999-12-31") == []
    assert found(limit=1) == [COLLECTION, "explains2a-models"], "page by page"
    (slim, _) = http.get("/collections", params={"fields": "title"}).json()["collections"]
    assert "item_assets" not in slim
    for parameter, value in (("bbox", "1,2"), ("datetime", "x"), ("limit", "0"), ("limit", "x")):
        answer = http.get("/collections", params={parameter: value})
        assert answer.status_code == 400
        assert parameter in answer.json()["description"]


@pytest.mark.parametrize(
    ("method", "asked", "parameter"),
    [
        ("GET", {"filter": "a ="}, "filter"), ("GET", {"filter": "unknown = 1"}, "filter"),
        ("GET", {"filter": "true", "filter-lang": "cql"}, "filter-lang"),
        ("GET", {"filter": "true", "filter-crs": "EPSG:4326"}, "filter-crs"),
        ("GET", {"filter": "{", "filter-lang": "cql2-json"}, "filter"),
        ("GET", {"filter": "[" * 5000, "filter-lang": "cql2-json"}, "filter"),
        ("GET", {"filter": "NOT " * 4000 + "true"}, "filter"),
        ("GET", {"sortby": "nothing"}, "sortby"),
        ("GET", {"sortby": "id,datetime,gsd,platform,created,updated"}, "sortby"),
        ("GET", {"sortby": "datetime", "token": "WzEsbnVsbCwiYSJd"}, "token"),
        ("GET", {"query": "{"}, "query"), ("GET", {"query": "[]"}, "query"),
        ("GET", {"query": '{"id": {"like": "x"}}'}, "query"), ("GET", {"query": '{"nothing": {"eq": 1}}'}, "query"),
        ("GET", {"fields": ",".join(f"f{n}" for n in range(300))}, "fields"),
        ("GET", {"ids": ",".join(f"i{n}" for n in range(1001))}, "ids"),
        ("POST", {"filter": {"op": "nothing", "args": []}}, "filter"), ("POST", {"filter": "true"}, "filter"),
        ("POST", {"sortby": [{"field": "nothing", "direction": "asc"}]}, "sortby"),
        ("POST", {"sortby": "id"}, "sortby"), ("POST", {"limit": 0}, "limit"), ("POST", ["no", "object"], "body"),
        ("POST", {"query": {"id": 1}}, "query"), ("POST", {"ids": [f"i{n}" for n in range(1001)]}, "ids"),
        ("POST", {"filter": {"op": "or", "args": [True] * 3000}}, "filter"),
        ("POST", {"intersects": {"type": "LineString", "coordinates": [[n * 1e-4, 0] for n in range(10_001)]}},
         "intersects"),
    ],
)  # fmt: skip
def test_wrong_searches_are_told_which_parameter_is_wrong(http, method, asked, parameter):
    answer = http.get("/search", params=asked) if method == "GET" else http.post("/search", json=asked)
    said = answer.json()
    assert (answer.status_code, said["code"]) == (400, "InvalidParameter")
    assert said["description"].startswith(parameter)


def test_every_item_comes_once_while_a_writer_adds_and_supersedes(catalog, address):
    """Whatever the order: each item that was there when the search began comes exactly once, and no other."""
    database, settings = catalog
    before, days, stop = names(*range(DAYS)), count(1000), threading.Event()

    def write():
        ledger, turn = Ledger(database), 0
        while not stop.is_set():
            turn += 1
            register(database, ledger, settings, next(days), cloud_cover=turn % 10 / 10, id=f"new-{turn:03}")
            day = turn % DAYS
            # a newer revision of an item that was there, with quite another cloud cover
            register(database, ledger, settings, day, revision=f"r{turn + 1}", cloud_cover=(turn * 7 % 11) / 11)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with httpx.Client(base_url=address, timeout=60) as http:
            for sortby in ("-datetime", "+eo:cloud_cover", "-updated", "+version,-id", "-explains2a:grade"):
                asked = {"sortby": sortby, "limit": 3, "collections": COLLECTION, "fields": "id"}
                page, found = http.get("/search", params=asked).json(), []
                matched = page["numberMatched"]
                while True:
                    found += [item["id"] for item in page["features"]]
                    following = [link["href"] for link in page["links"] if link["rel"] == "next"]
                    if not following:
                        break
                    page = http.get(following[0]).json()
                assert len(found) == len(set(found)) == matched, sortby
                assert set(before) <= set(found), sortby
    finally:
        stop.set()
        writer.join()
        with database.write() as session:
            session.execute(text("DELETE FROM items WHERE id LIKE 'new-%'"))


def test_bodies_that_are_too_large_or_too_deep_are_refused_before_they_are_read(http):
    large = json.dumps({"ids": ["x" * 2_000_000]})
    answer = http.post("/search", content=large, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "ContentTooLarge")

    def pieces():
        for _ in range(300):
            yield b" " * 10_000

    answer = http.post("/search", content=pieces(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413, "whose length nobody announced"
    for deep in ("[" * 100_000, '{"filter":' + '{"op":"not","args":[' * 5000 + "true" + "]}" * 5000 + "}"):
        answer = http.post("/search", content=deep, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert "nested" in answer.json()["description"]
    text_with_brackets = json.dumps({"ids": ["[" * 100]})
    assert http.post("/search", content=text_with_brackets).status_code == 400, "which is not said to be JSON"
    assert http.post("/search", json=json.loads(text_with_brackets)).status_code == 200


SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000000) SELECT max(i) FROM n",
    "postgresql": "SELECT max(i) FROM generate_series(1, 1000000000) AS n(i)",
}


def test_a_statement_that_takes_too_long_is_ended_and_the_next_is_answered(catalog):
    database, _ = catalog
    with pytest.raises(StatementTooSlow), database.read(seconds=0.1) as session:
        session.execute(text(SLOW[database.dialect]))
    with database.read(seconds=10) as session:
        assert session.scalar(text("SELECT count(*) FROM items")) > DAYS
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM items")) > DAYS, "the limit is gone"


@pytest.mark.parametrize("error", [SearchTooSlow(10.0), StatementTooSlow("postgresql://somewhere: a statement")])
def test_searches_that_were_ended_are_told_what_to_do(catalog, monkeypatch, error):
    def slow(*_, **__):
        raise error

    monkeypatch.setattr("catalog.api.client.search_texts", slow)
    with running(create_app(*catalog)) as url:
        answer = httpx.get(f"{url}/search")
    assert (answer.status_code, answer.json()["code"]) == (503, "TooSlow")
    assert "narrow it" in answer.json()["description"]
    assert "somewhere" not in answer.text


def test_a_search_stops_between_its_batches_when_its_time_is_over(catalog):
    """Shapes that no item meets but every box: candidates by the batch, and none of them found."""
    database, _ = catalog
    line = area_of_geometry({"type": "LineString", "coordinates": [[-180, 80], [180, 80], [180, 0]]})
    with database.read() as session:
        search = _Search(session, Query(area=line, limit=1), seconds=-1.0)
        search._near = None
        with pytest.raises(SearchTooSlow):
            search.found()


def test_answers_carry_security_headers(http):
    answer = http.get("/collections", headers={"Origin": "https://example.org"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-security-policy" not in http.get("/api.html").headers
    assert http.get("/nothing").headers["x-frame-options"] == "DENY"


def test_only_the_named_sites_may_read(catalog):
    database, settings = catalog
    narrow = {"cors_origins": ("https://viewer.example.org",), "requests_per_minute": 3}
    limited = settings.model_copy(update={"api": settings.api.model_copy(update=narrow)})
    with running(create_app(database, limited)) as url:
        good = httpx.get(url, headers={"Origin": "https://viewer.example.org"})
        bad = httpx.get(url, headers={"Origin": "https://evil.example.org"})
        assert good.headers["access-control-allow-origin"] == "https://viewer.example.org"
        assert "access-control-allow-origin" not in bad.headers
        assert httpx.get(url).status_code == 200
        answer = httpx.get(url)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert httpx.get(f"{url}/health").status_code == 200, "who watches is not limited"


def test_buckets_fill_again_and_few_clients_are_remembered():
    now = [0.0]
    limit = RateLimit(FastAPI(), per_minute=60, clock=lambda: now[0])
    assert [limit.wait("a") for _ in range(61)] == [0.0] * 60 + [1.0]
    assert limit.wait("b") == 0.0
    now[0] += 2
    assert [limit.wait("a") for _ in range(3)][:2] == [0.0, 0.0]
    for number in range(20_000):
        limit.wait(str(number))
    assert len(limit._left) == 10_000


def test_files_are_named_as_the_settings_say(catalog):
    database, settings = catalog
    storage = settings.storage.model_copy(update={"url": "s3://bucket"})

    def asked(**api):
        changes = {"api": settings.api.model_copy(update=api), "storage": storage}
        return settings.model_copy(update=changes)

    below = asked(asset_links="https", asset_url="https://files.example.org/b/")
    signed = asked(asset_links="signed")
    with running(create_app(database, below)) as url:
        item = httpx.get(f"{url}/search?ids=item-02").json()["features"][0]
        assert item["assets"]["hsi"]["href"].startswith("https://files.example.org/b/item-02/")
        assert httpx.get(item["links"][0]["href"]).json()["assets"] == item["assets"]
    with running(create_app(database, signed, sign=lambda href: href + "?signature")) as url:
        item = httpx.get(f"{url}/collections/{COLLECTION}/items/item-02").json()
        assert all(asset["href"].endswith("?signature") for asset in item["assets"].values())
    elsewhere = asset_locator(below.api, below.storage.model_copy(update={"url": "s3://other"}), None)
    assert elsewhere("s3://bucket/x y") == "s3://bucket/x y", "not below the store"
    with pytest.raises(LinksUnusable, match="signed"):
        asset_locator(signed.api, signed.storage, None)
    with pytest.raises(LinksUnusable, match="asset_url"):
        asset_locator(asked(asset_links="https").api, storage, None)
