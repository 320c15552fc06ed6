"""The web server on both databases: the same answers, clear refusals, no insides shown, whatever a client sends."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import httpx
import pystac_client
import pytest
import uvicorn
from sqlalchemy import text

from catalog.api import create_app
from catalog.items import build_item
from catalog.ledger import Ledger
from catalog.session import connect, migrate
from tests.contract.stac_schemas import problems, require_schemas
from tests.postgres import Postgres
from tests.unit.catalog import products

COLLECTION = "explains2a-l3-hsi"
DAYS = 25
PACIFIC = "pacific"
POINT = {"type": "Point", "coordinates": [1, 1]}

pytestmark = pytest.mark.server


def name(day: int) -> str:
    return f"item-{day:02d}"


def register(database, ledger, settings, day: int, revision: str = "r1", **changes) -> None:
    """Publish the item of one day, a degree further east each day."""
    ((scene,),) = (ledger.discover([products.discovery(day, baseline=f"05.{revision[1:]:0>2}")], actor="test"),)
    claim = products.take(ledger, scene.scene_id, revision)
    west = -20.0 + day
    made = products.item(
        **{"id": name(day), "revision": f"{revision}-{day}", "sensed": products.SENSED + timedelta(days=day),
           "bbox": (west, 54.0, west + 0.5, 54.5), **changes}
    )  # fmt: skip
    products.put_online(database, ledger, claim, made, settings)


def forget(database, item_id: str) -> None:
    """Take an item out of the searches again."""
    with database.write() as session:
        session.execute(text("DELETE FROM items WHERE id = :id"), {"id": item_id})


@contextmanager
def running(application):
    """Serve an application on a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on requests wait instead of being refused
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def catalog(request, tmp_path_factory):
    """A database with items of 25 days, one across the antimeridian, one in its second version."""
    folder, server = tmp_path_factory.mktemp("catalog"), None
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'catalog.sqlite'}"
    else:
        server = Postgres().start()
        url = server.fresh_database()
    migrate(url)
    database, settings = connect(url), products.settings(folder)
    ledger = Ledger(database)
    for day in range(DAYS):
        register(database, ledger, settings, day)
    register(database, ledger, settings, 3, revision="r2")
    register(database, ledger, settings, 100, id=PACIFIC, bbox=(179.5, -18.0, -179.0, -17.0))
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


NEWEST_FIRST = [PACIFIC, *(name(day) for day in reversed(range(DAYS)))]


def test_the_landing_page_says_what_the_server_can(client):
    for wanted in ("CORE", "COLLECTIONS", "ITEM_SEARCH", "FEATURES"):
        assert client.conforms_to(wanted), wanted
    assert client.get_self_href().rstrip("/") == client.get_root_link().href.rstrip("/")


def test_collections_are_found_with_their_extent_and_bands(client):
    assert {each.id for each in client.get_collections()} == {COLLECTION, "explains2a-models"}
    collection = client.get_collection(COLLECTION)
    start, end = collection.extent.temporal.intervals[0]
    assert (start, end) == (products.SENSED, products.SENSED + timedelta(days=100))
    assert len(collection.to_dict()["item_assets"]["hsi"]["bands"]) == 172


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("limit", [3, 9, 100])
def test_paging_gives_every_item_once_newest_first(client, method, limit):
    search = client.search(collections=[COLLECTION], limit=limit, method=method)
    pages = list(search.pages_as_dicts())
    assert [item["id"] for page in pages for item in page["features"]] == NEWEST_FIRST
    assert {page["numberMatched"] for page in pages} == {len(NEWEST_FIRST)}
    assert all(len(page["features"]) == limit for page in pages[:-1])


def test_a_collections_items_are_paged_too(client):
    assert [item.id for item in client.get_collection(COLLECTION).get_items()] == NEWEST_FIRST


def test_pages_do_not_shift_while_items_are_added(catalog, http):
    database, settings = catalog
    first = http.get("/search", params={"collections": COLLECTION, "limit": 5}).json()
    register(database, Ledger(database), settings, 200, id="late")
    try:
        rest, page = [], first
        while following := [link["href"] for link in page["links"] if link["rel"] == "next"]:
            page = http.get(following[0]).json()
            rest += [item["id"] for item in page["features"]]
        assert [item["id"] for item in first["features"]] + rest == NEWEST_FIRST
        assert http.get("/search", params={"limit": 1}).json()["features"][0]["id"] == "late"
    finally:
        forget(database, "late")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"ids": [name(4), name(9), "nobody"]}, [name(9), name(4)]),
        ({"datetime": "2024-06-17T11:33:21Z"}, [name(0)]),
        ({"datetime": "2024-06-17T13:33:21+02:00"}, [name(0)]),
        ({"datetime": "2024-06-18T00:00:00Z/2024-06-20T00:00:00Z"}, [name(2), name(1)]),
        ({"datetime": "../2024-06-18T00:00:00Z"}, [name(0)]),
        ({"datetime": "2024-07-11T00:00:00Z/.."}, [PACIFIC, name(24)]),
        ({"bbox": [-20, 54, -18.9, 55]}, [name(1), name(0)]),
        ({"bbox": [-20, 54, 0, -18.9, 55, 9000]}, [name(1), name(0)]),
        ({"bbox": [-19.4, 54.1, -19.1, 54.2]}, []),
        ({"bbox": [179.6, -17.5, 179.7, -17.4]}, [PACIFIC]),
        ({"bbox": [-179.2, -17.5, -179.1, -17.4]}, [PACIFIC]),
        ({"bbox": [170, -20, -170, -10]}, [PACIFIC]),
        ({"bbox": [-170, -20, 170, -10]}, []),
        ({"bbox": [179.9, 50, -18.9, 60]}, [name(1), name(0)]),
        ({"collections": ["nobody"]}, []),
        ({"collections": [COLLECTION], "ids": [name(2)], "bbox": [-18, 54, -17, 55]}, [name(2)]),
    ],
)  # fmt: skip
def test_searches_find_exactly_what_was_asked_for(client, method, asked, found):
    assert ids(client.search(**asked, method=method)) == found


def test_geometries_are_compared_exactly_not_by_their_boxes(client):
    """A thin triangle whose box covers days 0 and 1, but whose area misses day 1; clockwise, as some clients write."""
    triangle = {"type": "Polygon", "coordinates": [[[-20.2, 53.9], [-20.2, 54.3], [-18.7, 53.9], [-20.2, 53.9]]]}
    assert ids(client.search(intersects=triangle)) == [name(0)]
    assert ids(client.search(intersects={"type": "Point", "coordinates": [-15.9, 54.1]})) == [name(4)]


def test_models_are_found_by_name_but_not_among_the_products(client):
    (model,) = client.get_collection("explains2a-models").get_items()
    assert model.id not in ids(client.search(limit=100))
    assert ids(client.search(ids=[model.id])) == [model.id]
    assert ids(client.search(collections=["explains2a-models"])) == [model.id]


def test_items_have_their_bands_and_lead_to_their_model(client, http):
    item = client.get_collection(COLLECTION).get_item(name(5))
    served = item.to_dict()
    assert len(served["assets"]["hsi"]["bands"]) == 172
    origins = [link["href"] for link in served["links"] if link["rel"] == "derived_from"]
    assert any(http.get(href).json()["id"] == products.product().model_id for href in origins if "models" in href)


def test_every_answer_is_valid_stac(http):
    require_schemas()
    page = http.get("/search", params={"limit": 100, "ids": f"{name(3)},{PACIFIC}"}).json()
    models = http.get("/collections/explains2a-models/items").json()
    collections = http.get("/collections").json()["collections"]
    documents = [*page["features"], *models["features"], *collections]
    assert len(documents) == 5
    assert [problem for document in documents for problem in problems(document)] == []


def test_earlier_versions_stay_readable_and_know_their_neighbours(http):
    own = f"/collections/{COLLECTION}/items/{name(3)}"
    latest = http.get(own).json()
    links = {link["rel"]: link["href"] for link in latest["links"]}
    assert latest["properties"]["version"] == "2"
    assert "successor-version" not in links
    first = http.get(links["predecessor-version"]).json()
    links = {link["rel"]: link["href"] for link in first["links"]}
    assert first["properties"]["version"] == "1"
    assert first["properties"]["explains2a:product_revision"] == "r1-3"
    assert len(first["assets"]["hsi"]["bands"]) == 172
    assert http.get(links["self"]).json() == first
    assert http.get(links["successor-version"]).json()["properties"] == latest["properties"]
    assert http.get(links["latest-version"]).json() == latest
    assert http.get(f"{own}/versions/3").status_code == 404
    assert http.get(f"{own}/versions/{10**30}").status_code == 404
    assert http.get(f"{own}/versions/0").status_code == 404
    require_schemas()
    assert problems(first) == []


@pytest.mark.parametrize(
    ("method", "path", "asked", "parameter"),
    [
        ("GET", "/search", {"bbox": "1,2,3"}, "bbox"),
        ("GET", "/search", {"bbox": "a,b,c,d"}, "bbox"),
        ("GET", "/search", {"bbox": "0,10,1,-10"}, "bbox"),
        ("GET", "/search", {"bbox": "nan,0,1,1"}, "bbox"),
        ("GET", "/search", {"bbox": "-500,0,1,1"}, "bbox"),
        ("GET", "/search", {"datetime": "yesterday"}, "datetime"),
        ("GET", "/search", {"datetime": "2024-06-18T00:00:00Z/2024-06-17T00:00:00Z"}, "datetime"),
        ("GET", "/search", {"datetime": "../.."}, "datetime"),
        ("GET", "/search", {"datetime": "0001-01-01T00:00:00+14:00"}, "datetime"),
        ("GET", "/search", {"limit": "0"}, "limit"),
        ("GET", "/search", {"limit": "many"}, "limit"),
        ("GET", "/search", {"token": "tampered"}, "token"),
        ("GET", "/search", {"token": "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwiYSIsImIiXQ"}, "token"),
        ("GET", "/search", {"token": "MQ"}, "token"),
        ("GET", "/search", {"intersects": "{"}, "intersects"),
        ("GET", "/search", {"intersects": "[" * 100_00}, "intersects"),
        ("GET", "/search", {"intersects": '{"type": "Polygon", "coordinates": []}'}, "intersects"),
        ("GET", "/search", {"intersects": '{"type": "Point", "coordinates": [NaN, 1]}'}, "intersects"),
        ("GET", "/search", {"intersects": json.dumps(POINT), "bbox": "0,0,1,1"}, "intersects"),
        ("GET", f"/collections/{COLLECTION}/items", {"bbox": "1"}, "bbox"),
        ("GET", f"/collections/{COLLECTION}/items", {"datetime": "x"}, "datetime"),
        ("POST", "/search", {"limit": -1}, "limit"),
        ("POST", "/search", {"datetime": "never"}, "datetime"),
        ("POST", "/search", {"bbox": [0, 10, 1, -10]}, "bbox"),
        ("POST", "/search", {"collections": "one"}, "collections"),
        ("POST", "/search", {"intersects": {"type": "Blob"}}, "intersects"),
        ("POST", "/search", {"intersects": POINT, "bbox": [0, 0, 1, 1]}, "intersects"),
    ],
)  # fmt: skip
def test_wrong_requests_are_told_which_parameter_is_wrong(http, method, path, asked, parameter):
    answer = http.get(path, params=asked) if method == "GET" else http.post(path, json=asked)
    said = answer.json()
    assert answer.status_code == 400
    assert said["code"] == "InvalidParameter"
    assert parameter in said["description"]
    assert len(said["description"]) <= 500


@pytest.mark.parametrize(
    "path", ["/nowhere", "/collections/no", "/collections/no/items", f"/collections/{COLLECTION}/items/no"]
)
def test_what_is_not_there_is_404_in_the_same_form(http, path):
    answer = http.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"code", "description"}


def test_ids_that_no_database_takes_match_nothing(http):
    assert http.get(f"/collections/{COLLECTION}/items/a%00b").status_code == 404
    assert http.get("/collections/a%00b").status_code == 404
    assert http.get(f"/collections/{COLLECTION}/items/a%00b/versions/1").status_code == 404
    body = json.dumps({"ids": ["a\0b", "\ud800", name(1)], "collections": [COLLECTION, "\0"]})
    answer = http.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert [item["id"] for item in answer.json()["features"]] == [name(1)]


def test_a_limit_beyond_the_largest_gives_the_largest(http):
    for limit in (1001, 10**6, 10**30):
        assert len(http.get("/search", params={"limit": limit}).json()["features"]) == len(NEWEST_FIRST)


def test_nothing_can_be_written(http):
    path = f"/collections/{COLLECTION}/items"
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for target in (path, f"{path}/{name(1)}", f"/collections/{COLLECTION}"):
            assert http.request(method, target, json={}).status_code == 405


def test_health_follows_the_database(http, catalog):
    assert http.get("/health").json() == {"status": "ok"}
    _, settings = catalog
    away = connect("postgresql+psycopg://someone:hunter2@127.0.0.1:1/none")
    with running(create_app(away, settings)) as url:
        for path in ("/health", "/search"):
            answer = httpx.get(url + path)
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert "hunter2" not in answer.text
            assert "127.0.0.1:1" not in answer.text
    away.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_defects_are_answered_without_their_inside(catalog, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr("catalog.api.client.search_texts", broken)
    with running(create_app(*catalog)) as url:
        answer = httpx.get(f"{url}/search")
    assert answer.status_code == 500
    assert answer.json()["code"] == "InternalError"
    assert "inside" not in answer.text
    assert "Traceback" not in answer.text


PAGES = (
    "/", "/collections", f"/collections/{COLLECTION}", f"/collections/{COLLECTION}/items?limit=2",
    f"/collections/{COLLECTION}/items/{name(3)}", "/search?limit=2&datetime=2024-06-17T00:00:00Z/..",
)  # fmt: skip


def test_links_begin_with_the_public_address(catalog):
    database, settings = catalog
    public = "https://catalog.example.org/stac"
    behind = settings.model_copy(update={"api": settings.api.model_copy(update={"public_url": public})})
    with running(create_app(database, behind)) as url:
        for prefix in ("", "/stac"):  # as proxies do that cut the prefix off, and as those that leave it
            for path in PAGES:
                answer = httpx.get(url + prefix + path).json()
                documents = [answer, *answer.get("features", []), *answer.get("collections", [])]
                hrefs = [link["href"] for document in documents for link in document["links"]]
                assert hrefs
                assert [href for href in hrefs if "127.0.0.1" in href] == []
            page = httpx.get(f"{url}{prefix}/search?limit=2&bbox=-20,54,0,55").json()
            (following,) = [link["href"] for link in page["links"] if link["rel"] == "next"]
            assert following.startswith(f"{public}/search?")
            (own,) = [link["href"] for link in page["links"] if link["rel"] == "self"]
            assert own == f"{public}/search?limit=2&bbox=-20%2C54%2C0%2C55"
            again = httpx.get(following.replace(public, url)).json()
            assert [item["id"] for item in again["features"]] == [name(18), name(17)]


def test_a_product_without_its_spectra_file_is_served_too(catalog, http):
    """Compact-only archives have no hsi asset; nothing may be invented for it."""
    database, settings = catalog
    made = products.product(id="compact-only", revision="rc")
    lean = replace(made, assets=tuple(asset for asset in made.assets if asset.key != "hsi"))
    ledger = Ledger(database)
    (scene,) = ledger.discover([products.discovery(300)], actor="test")
    claim = products.take(ledger, scene.scene_id, "rc")
    products.put_online(database, ledger, claim, build_item(lean), settings)
    served = http.get("/search", params={"ids": "compact-only"}).json()["features"]
    assert "hsi" not in served[0]["assets"]
    forget(database, "compact-only")
    require_schemas()
    assert problems(served[0]) == []
