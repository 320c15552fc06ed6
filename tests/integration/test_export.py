"""The static catalog of real databases: pystac walks it, every document is valid, a run writes what changed."""

import io
import json
import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pystac
import pytest
import shapely
from shapely.geometry import shape

from catalog.deprecation import deprecate
from catalog.export import export_catalog
from catalog.ledger import Ledger
from catalog.publishing import published_item
from catalog.session import connect, migrate
from infra.settings import StorageSettings
from infra.shelf import open_shelf
from tests.contract.stac_schemas import problems, require_schemas
from tests.postgres import Postgres
from tests.unit.catalog import products

COLLECTION = "explains2a-l3-hsi"
TILES = ("29UPU", "33UUP")


class World:
    """A database, a store with a shelf in it, and what to do with them."""

    def __init__(self, address, folder):
        migrate(address)
        self.database, self.settings = connect(address), products.settings(folder)
        self.ledger, self.folder = Ledger(self.database), folder
        self.store = folder.as_uri()
        self.shelf = open_shelf(StorageSettings(url=f"{self.store}/stac"))

    def publish(self, number, version=1, **changes):
        """Publish the number-th item: two tiles in turns, forty days apart."""
        again = products.discovery(number, baseline=f"05.{version:02d}", source_item_id=f"{number}-{version}")
        (found,) = self.ledger.discover([again], actor="watch")
        revision = f"r{number}-{version}"
        sensed = products.SENSED + timedelta(days=40 * number)
        item = products.item(f"item-{number}", revision, tile=TILES[number % 2], sensed=sensed, **changes)
        for name, asset in item["assets"].items():
            asset["href"] = f"{self.store}/{TILES[number % 2]}/{revision}/{name}"
        claim = products.take(self.ledger, found.scene_id, revision)
        products.put_online(self.database, self.ledger, claim, item, self.settings)

    def export(self, shelf=None, **more):
        return export_catalog(
            self.database, shelf or self.shelf, identifier="static", title="Static", description="All of it.",
            store=self.store, **more,
        )  # fmt: skip

    def read(self):
        return pystac.Catalog.from_file(str(self.folder / "stac" / "catalog.json"))


@pytest.fixture(scope="module")
def postgres():
    server = Postgres().start()
    yield server
    server.stop()


@pytest.fixture
def world(tmp_path):
    """Four items in SQLite."""
    made = World(f"sqlite:///{tmp_path / 'catalog.sqlite'}", tmp_path / "store")
    for number in range(4):
        made.publish(number)
    yield made
    made.database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request, tmp_path):
    """Four items in a database of either kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("world")
        return
    made = World(request.getfixturevalue("postgres").fresh_database(), tmp_path / "store")
    for number in range(4):
        made.publish(number)
    yield made
    made.database.close()


def documents(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json")) if path.name != "state.json"]


def test_pystac_walks_it_and_every_document_is_valid(world):
    require_schemas()
    done = world.export()
    assert (done.full, done.items, done.tables, done.cursor) == (True, 5, 4, 4)
    catalog = world.read()
    found = {item.id: item for item in catalog.get_items(recursive=True)}
    assert set(found) == {"item-0", "item-1", "item-2", "item-3", products.product().model_id}
    assert {child.id for child in catalog.get_children()} == {COLLECTION, "explains2a-models"}
    for item in found.values():
        assert item.get_collection().id == item.collection_id
        assert item.get_root().id == "static"
        assert item.get_parent() is not None
    for document in documents(world.folder / "stac"):
        if document["type"] == "Catalog":
            pystac.Catalog.from_dict(document).validate()
        else:
            assert problems(document) == [], document["id"]
    model = next(iter(found["item-0"].get_stac_objects("derived_from", typ=pystac.Item)))
    assert model.id == products.product().model_id


def test_an_item_says_what_the_server_says_of_it(world):
    world.export()
    written = json.loads((world.folder / "stac" / COLLECTION / "29UPU" / "item-0.json").read_text())
    stored = published_item(world.database, COLLECTION, "item-0")
    assert written["properties"] == stored["properties"]
    assert written["assets"]["hsi"]["bands"] == stored["assets"]["hsi"]["bands"]
    assert not [link for link in written["links"] if "version" in link["rel"]]
    item = next(each for each in world.read().get_items(recursive=True) if each.id == "item-0")
    assert item.assets["qa"].href == "../../../29UPU/r0-1/qa"
    assert item.assets["qa"].get_absolute_href() == str(world.folder / "29UPU" / "r0-1" / "qa")


def test_a_copy_elsewhere_works_too(world, tmp_path):
    world.export()
    shutil.move(world.folder / "stac", tmp_path / "copy")
    found = pystac.Catalog.from_file(str(tmp_path / "copy" / "catalog.json")).get_items(recursive=True)
    assert len(list(found)) == 5


def test_a_run_writes_only_what_changed(either):
    either.export()
    assert either.export().keys == []
    deprecate(either.database, COLLECTION, "item-1", reason="clouds")
    either.publish(2, version=2, grade="D")
    dry = either.export(dry_run=True)
    assert either.export(dry_run=True).keys == dry.keys
    done = either.export()
    assert done.keys == dry.keys
    assert not done.full
    items = {key for key in done.keys if "/item-" in key}
    assert items == {f"{COLLECTION}/33UUP/item-1.json", f"{COLLECTION}/29UPU/item-2.json"}
    assert done.tables == 2
    assert done.keys[-1] == "state.json"
    with pytest.warns(pystac.errors.DeprecatedWarning, match="item-1"):
        found = {item.id: item.properties for item in either.read().get_items(recursive=True)}
    assert found["item-1"]["deprecated"] is True
    assert (found["item-2"]["version"], found["item-2"]["explains2a:grade"]) == ("2", "D")
    collection = either.read().get_child(COLLECTION)
    assert set(collection.summaries.lists["explains2a:grade"]) == {"B", "D"}
    assert either.export().keys == []


def test_what_is_kept_by_runs_is_what_one_run_writes(either):
    """An export that followed the changes equals one that was made at once."""
    either.export()
    either.publish(7)
    either.publish(1, version=2)
    either.export()
    kept = documents(either.folder / "stac")
    shutil.rmtree(either.folder / "stac")
    assert either.export().full
    assert documents(either.folder / "stac") == kept


@pytest.mark.parametrize(
    "state", ['{"format": 1, "tables": true, "cursor": 99}', "broken", '{"format": 0, "cursor": 4}', "[]"]
)
def test_a_state_that_does_not_fit_makes_everything_anew(world, state):
    world.export()
    (world.folder / "stac" / "state.json").write_text(state)
    assert world.export().full


def test_a_run_that_is_broken_off_is_simply_repeated(world):
    class Full:
        url = world.shelf.url
        left = 3

        def read(self, key):
            return world.shelf.read(key)

        def write(self, key, content, content_type):
            if not self.left:
                raise OSError("disk full")
            self.left -= 1
            world.shelf.write(key, content, content_type)

    with pytest.raises(OSError, match="disk full"):
        world.export(Full())
    assert world.shelf.read("state.json") is None
    assert world.export().full
    assert len(list(world.read().get_items(recursive=True))) == 5


def test_tables_hold_the_items_of_their_month(world):
    world.publish(5, bbox=(179.5, -17.0, -179.5, -16.0))
    world.export()
    collection = world.read().get_child(COLLECTION)
    rows = {}
    for asset in collection.assets.values():
        content = Path(asset.get_absolute_href()).read_bytes()
        file = pq.ParquetFile(io.BytesIO(content))
        metadata = file.schema_arrow.metadata
        assert json.loads(metadata[b"geo"])["columns"]["geometry"]["encoding"] == "WKB"
        assert COLLECTION in json.loads(metadata[b"stac-geoparquet"])["collections"]
        rows |= {row["id"]: row for row in file.read().to_pylist()}
    assert len(rows) == 5
    for name, row in rows.items():
        stored = published_item(world.database, COLLECTION, name)
        assert shapely.from_wkb(row["geometry"]).equals(shape(stored["geometry"]))
        assert list(row["bbox"].values()) == stored["bbox"]
        assert row["datetime"].isoformat().replace("+00:00", "Z") == stored["properties"]["datetime"]
        assert row["explains2a:valid_fraction"] == stored["properties"]["explains2a:valid_fraction"]
        assert row["assets"]["hsi"]["href"] == stored["assets"]["hsi"]["href"]
        assert {link["rel"] for link in row["links"]} == {"license", "derived_from"}
        assert row["assets"]["hsi"]["file:checksum"] == stored["assets"]["hsi"]["file:checksum"]
        assert "bands" not in row["assets"]["hsi"]


def test_without_tables_there_are_none(world):
    assert world.export(tables=False).tables == 0
    assert world.read().get_child(COLLECTION).assets == {}
    assert world.export(tables=True).full


def test_a_bucket_takes_it_too(world, seaweed):
    settings = StorageSettings(
        url="s3://products/stac", endpoint_url=seaweed.endpoint,
        access_key=seaweed.admin.access, secret_key=seaweed.admin.secret,
    )  # fmt: skip
    shelf = open_shelf(settings.model_copy(update={"url": f"s3://products/stac-{id(world)}"}))
    assert world.export(shelf).full
    assert world.export(shelf).keys == []
    world.publish(6)
    assert not world.export(shelf).full
    tile = json.loads(shelf.read(f"{COLLECTION}/29UPU/catalog.json"))
    assert [link["href"] for link in tile["links"] if link["rel"] == "item"] == [
        "./item-0.json", "./item-2.json", "./item-6.json",
    ]  # fmt: skip
    item = json.loads(shelf.read(f"{COLLECTION}/29UPU/item-6.json"))
    assert item["assets"]["qa"]["href"].startswith("file:///"), "files elsewhere keep their address"
