"""The catalog's web server as clients see it: pystac-client and plain HTTP against a real uvicorn."""

import socket
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pystac
import pystac_client
import pytest
import uvicorn

from catalog.api import create_app
from catalog.ledger import Ledger
from catalog.session import connect, migrate
from tests.contract.stac_schemas import problems, require_schemas
from tests.unit.catalog import products

pytestmark = pytest.mark.server

COLLECTION = "explains2a-l3-hsi"
ACROSS = "item-24"
"""Lies on both sides of the antimeridian."""


@dataclass
class Running:
    """A server with its database."""

    url: str
    database: object
    ledger: Ledger
    configured: object

    def publish(self, number, **changes):
        """Publish the number-th item: one a day, one degree further east."""
        place = (number, 10.0, number + 0.5, 10.5) if number != 24 else (179.5, -17.0, -179.5, -16.0)
        day = products.SENSED + timedelta(days=number)
        revision = changes.pop("revision", "r1")
        item = products.item(f"item-{number:02}", revision, bbox=place, sensed=day)
        (found,) = self.ledger.discover([products.discovery(number, **changes)], actor="watch")
        claim = products.take(self.ledger, found.scene_id, revision)
        products.put_online(self.database, self.ledger, claim, item, self.configured)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A server with 25 items, one of them in two versions."""
    folder = tmp_path_factory.mktemp("api")
    address = f"sqlite:///{folder / 'catalog.sqlite'}"
    migrate(address)
    with closing(connect(address)) as database, closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        configured = products.settings(folder)
        up = Running(f"http://127.0.0.1:{listener.getsockname()[1]}", database, Ledger(database), configured)
        for number in range(25):
            up.publish(number)
        up.publish(3, revision="r2", baseline="05.11", source_item_id="again")
        server = uvicorn.Server(uvicorn.Config(create_app(database, configured), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield up
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(running):
    return pystac_client.Client.open(running.url)


@pytest.fixture
def get(running):
    """Ask the server by GET."""
    return lambda path, **parameters: httpx.get(running.url + path, params=parameters, timeout=30)


def ids(search):
    return sorted(item.id for item in search.items())


def test_the_landing_page_and_collections_are_read_by_pystac_client(client):
    assert {collection.id for collection in client.get_collections()} == {COLLECTION, "explains2a-models"}
    collection = client.get_collection(COLLECTION)
    assert collection.extent.spatial.bboxes[0][1::2] == [-17.0, 10.5]
    assert len(list(collection.get_items())) >= 25


def test_an_item_has_its_172_bands_and_the_latest_version(client):
    item = client.get_collection(COLLECTION).get_item("item-03")
    assert isinstance(item, pystac.Item)
    assert len(item.assets["hsi"].to_dict()["bands"]) == 172
    assert item.properties["version"] == "2"


def test_search_by_place(client):
    assert ids(client.search(bbox=[4.6, 9.0, 6.2, 11.0])) == ["item-05", "item-06"]
    assert ids(client.search(bbox=[4.5, 10.5, 4.5, 10.5])) == ["item-04"]
    assert ids(client.search(bbox=[0, -80, 24, -70])) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "bbox", [[179.0, -20.0, -179.0, -10.0], [179.6, -20, 180, -10], [-180, -20, -179.8, -10], [170, -20, -179.9, -10]]
)
def test_search_across_the_antimeridian(client, bbox, method):
    assert ids(client.search(bbox=bbox, method=method)) == [ACROSS]


def test_what_lies_across_the_antimeridian_is_not_found_elsewhere(client):
    assert ids(client.search(bbox=[-179.0, -20.0, 179.0, -10.0])) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_search_by_time_id_and_geometry(client, method):
    day = products.SENSED + timedelta(days=5)
    assert ids(client.search(method=method, datetime=f"{day:%Y-%m-%d}/{day + timedelta(days=1):%Y-%m-%d}")) == [
        "item-05",
        "item-06",
    ]
    assert ids(client.search(method=method, datetime=[None, products.SENSED])) == ["item-00"]
    assert ids(client.search(method=method, datetime=day)) == ["item-05"]
    assert ids(client.search(method=method, ids=["item-07", "item-02", "none"])) == ["item-02", "item-07"]
    triangle = {"type": "Polygon", "coordinates": [[[1.6, 10.6], [3.4, 10.6], [2.2, 10.4], [1.6, 10.6]]]}
    assert ids(client.search(method=method, intersects=triangle)) == ["item-02"]
    assert ids(client.search(method=method, intersects={"type": "Point", "coordinates": [8.1, 10.1]})) == ["item-08"]


@pytest.mark.parametrize("number", [30, 31], ids=["GET", "POST"])
def test_pages_hold_every_item_once_while_another_is_published(running, client, number):
    method = "GET" if number == 30 else "POST"
    search = client.search(collections=[COLLECTION], method=method, limit=4)
    seen, sizes = [], []
    for page in search.pages():
        seen += [item.id for item in page]
        sizes.append(len(page))
        if len(sizes) == 3:
            running.publish(number)  # newest of all: before the first page's items
    assert len(seen) == len(set(seen))
    assert {f"item-{n:02}" for n in range(25)} <= set(seen)
    assert sizes[:-1] == [4] * (len(sizes) - 1)


def test_pages_of_a_collections_items_hold_every_item_once(get):
    answer, seen = get(f"/collections/{COLLECTION}/items", limit=7, bbox="0,0,24.9,20").json(), []
    while True:
        seen += [feature["id"] for feature in answer["features"]]
        following = [link["href"] for link in answer["links"] if link["rel"] == "next"]
        if not following:
            break
        answer = httpx.get(following[0], timeout=30).json()
    assert sorted(seen) == [f"item-{n:02}" for n in range(24)]


def test_everything_that_is_served_is_valid(get):
    require_schemas()
    for collection in get("/collections").json()["collections"]:
        assert problems(collection) == []
        items = get(f"/collections/{collection['id']}/items", limit=100).json()["features"]
        assert items
        for item in items[:6] + items[-2:]:
            assert problems(item) == []
            alone = get(f"/collections/{collection['id']}/items/{item['id']}").json()
            assert alone == item


def test_links_are_absolute_and_lead_somewhere(get, running):
    item = get(f"/collections/{COLLECTION}/items/item-03").json()
    collection = get(f"/collections/{COLLECTION}").json()
    rels = [link["rel"] for link in item["links"]]
    assert {"self", "root", "parent", "collection", "derived_from", "predecessor-version"} <= set(rels)
    for link in item["links"] + collection["links"]:
        assert link["href"].startswith(("http://", "https://"))
        if link["href"].startswith(running.url):
            assert httpx.get(link["href"], timeout=30).status_code == 200, link
    (model,) = [x for x in item["links"] if x["rel"] == "derived_from" and x["href"].startswith(running.url)]
    assert httpx.get(model["href"], timeout=30).json()["properties"]["mlm:name"] == products.CARD.name


def test_an_earlier_version_stays_readable(get):
    item = get(f"/collections/{COLLECTION}/items/item-03").json()
    (before,) = [link["href"] for link in item["links"] if link["rel"] == "predecessor-version"]
    old = httpx.get(before, timeout=30).json()
    assert (old["id"], old["properties"]["version"]) == ("item-03", "1")
    assert len(old["assets"]["hsi"]["bands"]) == 172
    links = {link["rel"]: link["href"] for link in old["links"]}
    assert links["self"] == before
    assert links["latest-version"].endswith("/items/item-03")
    assert get(f"/collections/{COLLECTION}/items/item-03/versions/9").status_code == 404


@pytest.mark.parametrize(
    "path", ["/collections/none", "/collections/none/items", f"/collections/{COLLECTION}/items/none"]
)
def test_what_is_not_there_is_404(get, path):
    answer = get(path)
    assert answer.status_code == 404
    assert "none" in answer.text


BAD = [
    ("bbox", "1,2,3"), ("bbox", "a,b,c,d"), ("bbox", "0,50,1,40"), ("bbox", "0,0,400,10"), ("bbox", "nan,0,1,1"),
    ("datetime", "yesterday"), ("datetime", "2024-02-30T00:00:00Z"), ("datetime", "2025-01-01/2024-01-01"),
    ("token", "rubbish"), ("token", "W10"), ("limit", "0"), ("limit", "-1"), ("limit", "many"),
    ("intersects", "{"), ("intersects", '{"type": "Point"}'), ("intersects", '{"type": "Polygon", "coordinates": []}'),
    ("intersects", "[1]"),
]  # fmt: skip


@pytest.mark.parametrize(("parameter", "value"), BAD)
def test_a_bad_parameter_of_a_search_is_400_and_named(get, parameter, value):
    answer = get("/search", **{parameter: value})
    assert answer.status_code == 400, answer.text
    assert parameter in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("bbox", [1, 2, 3]), ("bbox", [0, 50, 1, 40]), ("datetime", "yesterday"), ("token", "rubbish"), ("limit", 0),
        ("limit", "many"), ("intersects", {"type": "Point"}), ("intersects", {"type": "Polygon", "coordinates": []}),
    ],
)  # fmt: skip
def test_a_bad_parameter_of_a_posted_search_is_400_and_named(running, parameter, value):
    answer = httpx.post(f"{running.url}/search", json={parameter: value}, timeout=30)
    assert answer.status_code == 400, answer.text
    assert parameter in answer.text


def test_bbox_and_intersects_together_are_refused(running):
    point = {"type": "Point", "coordinates": [1, 1]}
    answer = httpx.post(f"{running.url}/search", json={"bbox": [0, 0, 1, 1], "intersects": point}, timeout=30)
    assert answer.status_code == 400
    assert "intersects" in answer.text


def test_health_says_that_the_database_answers(get):
    answer = get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
