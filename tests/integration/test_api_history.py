"""Versions and changes over HTTP, on both databases, from a real server."""

import httpx
import pytest

from catalog.api import create_app
from catalog.deprecation import deprecate
from catalog.ledger import Ledger
from catalog.retention import expired_versions, remove_version
from catalog.session import connect, migrate
from tests.contract.stac_schemas import problems, require_schemas
from tests.postgres import Postgres
from tests.served import served
from tests.unit.catalog import products

pytestmark = pytest.mark.server

COLLECTION = "explains2a-l3-hsi"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory):
    """A server whose first item has five versions (the second one removed, the third deprecated), and another item."""
    folder, postgres = tmp_path_factory.mktemp("history"), None
    if request.param == "sqlite":
        address = f"sqlite:///{folder / 'catalog.sqlite'}"
    else:
        postgres = Postgres().start()
        address = postgres.fresh_database()
    migrate(address)
    database, settings = connect(address), products.settings(folder)
    ledger = Ledger(database)
    for number, version in ((0, 1), (1, 1), (0, 2), (0, 3), (0, 4), (0, 5)):
        again = products.discovery(number, baseline=f"05.{version:02d}", source_item_id=f"{number}-{version}")
        (found,) = ledger.discover([again], actor="watch")
        claim = products.take(ledger, found.scene_id, f"r{number}{version}")
        item = products.item(f"item-{number}", f"r{number}{version}")
        products.put_online(database, ledger, claim, item, settings)
    deprecate(database, COLLECTION, "item-0", version=3, reason="wrong offset")
    remove_version(database, expired_versions(database, older_than=products.HOUR * 0)[1])
    with served(create_app(database, settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
    database.close()
    if postgres:
        postgres.stop()


def versions(client, **parameters):
    return client.get(f"/collections/{COLLECTION}/items/item-0/versions", params=parameters).json()


def test_all_versions_are_listed_with_links_that_lead_to_each_other(server):
    require_schemas()
    answer = versions(server)
    assert [item["properties"]["version"] for item in answer["features"]] == ["5", "4", "3", "1"]
    assert (answer["numberMatched"], answer["numberReturned"]) == (4, 4)
    for item in answer["features"]:
        assert problems(item) == []
        links = {link["rel"]: link["href"] for link in item["links"]}
        assert server.get(links["self"]).json() == item
        assert server.get(links["latest-version"]).json()["properties"]["version"] == "5"
        for rel, neighbour in (("predecessor-version", -1), ("successor-version", 1)):
            order = ["1", "3", "4", "5"]
            place = order.index(item["properties"]["version"]) + neighbour
            if 0 <= place < len(order):
                assert server.get(links[rel]).json()["properties"]["version"] == order[place]
            else:
                assert rel not in links
    reasons = [item["properties"].get("explains2a:deprecation_reason") for item in answer["features"]]
    assert reasons == [None, "replaced by version 5", "wrong offset", "replaced by version 3"]


def test_versions_are_paged_without_doubles(server):
    seen, answer = [], versions(server, limit=3)
    while True:
        seen += [item["properties"]["version"] for item in answer["features"]]
        following = [link["href"] for link in answer["links"] if link["rel"] == "next"]
        if not following:
            break
        answer = server.get(following[0]).json()
    assert seen == ["5", "4", "3", "1"]


def test_the_feed_is_followed_by_its_links_to_its_end(server):
    seen, answer = [], server.get("/changes", params={"limit": 4}).json()
    while answer["changes"]:
        seen += answer["changes"]
        answer = server.get(next(link["href"] for link in answer["links"] if link["rel"] == "next")).json()
    assert answer["cursor"] == answer["newest"] == len(seen)
    assert [change["sequence"] for change in seen] == list(range(1, len(seen) + 1))
    versions_of_the_first = [(c["kind"], c["version"]) for c in seen if c["item"] == "item-0"]
    assert versions_of_the_first == [
        ("published", 1), ("superseded", 1), ("published", 2), ("superseded", 2), ("published", 3), ("superseded", 3),
        ("published", 4), ("superseded", 4), ("published", 5), ("deprecated", 3), ("removed", 2),
    ]  # fmt: skip
    for change in seen:
        if change["kind"] == "removed":
            assert change["href"] is None
        elif (change["item"], change["version"]) != ("item-0", 2):
            assert server.get(change["href"]).status_code == 200
    assert server.get("/changes", params={"since": 99, "collection": "none"}).status_code == 400
    assert server.get("/changes", params={"collection": "none"}).json()["changes"] == []


BAD = [
    ("/changes", "since", "-1"), ("/changes", "since", "9" * 30), ("/changes", "since", "abc"),
    ("/changes", "since", "99"), ("/changes", "limit", "0"), ("/changes", "limit", "1001"),
    ("/changes", "collection", "a\0b"), ("/changes", "collection", "x" * 65),
    (f"/collections/{COLLECTION}/items/item-0/versions", "limit", "101"),
    (f"/collections/{COLLECTION}/items/item-0/versions", "token", "1"),
    (f"/collections/{COLLECTION}/items/item-0/versions", "token", "9" * 30),
]  # fmt: skip


@pytest.mark.parametrize(("path", "parameter", "value"), BAD)
def test_a_bad_parameter_is_400_and_named(server, path, parameter, value):
    answer = server.get(path, params={parameter: value})
    assert answer.status_code == 400, answer.text
    assert parameter in answer.json()["description"]


@pytest.mark.parametrize(
    "path", [f"/collections/{COLLECTION}/items/none/versions", "/collections/none/items/item-0/versions",
             "/collections/a%00b/items/item-0/versions", f"/collections/{COLLECTION}/items/a%00b/versions"],
)  # fmt: skip
def test_versions_of_what_is_not_there_are_404(server, path):
    assert server.get(path).status_code == 404
