"""Items and collections against the published schemas, and against what readers of STAC 1.1 rely on."""

import json

import pystac
import pytest

from catalog.api.client import linked_collection, linked_item
from catalog.assets import ASSET_KINDS, COG, QUALITY_BITS
from catalog.collection import build_collection, widen
from catalog.hydration import dehydrate, hydrate
from catalog.model_item import build_model_collection, build_model_item
from model.bands import CHANNELS
from tests.contract.stac_schemas import faults, problems, require_schemas
from tests.unit.catalog import products


@pytest.fixture
def collection(tmp_path):
    return build_collection(products.settings(tmp_path), products.CARD)


@pytest.fixture
def published(collection):
    """The collection as the first publication leaves it, and that item as it is served."""
    item = products.item()
    return widen(collection, item), item


BASE = "https://catalog.example.org/"


def served(item, _collection):
    return linked_item(item, BASE)


def item_of_a_taciturn_source():
    return products.item(relative_orbit=None, cloud_cover=None, sun_zenith=None, source_href=None)


DOCUMENTS = {
    "the empty collection": lambda c: linked_collection(c, BASE),
    "the collection with an item": lambda c: linked_collection(widen(c, products.item()), BASE),
    "the collection as stored": lambda c: widen(c, products.item()),
    "an item": lambda c: served(products.item(), c),
    "an item of a source that says little": lambda c: served(item_of_a_taciturn_source(), c),
    "an item across the antimeridian": lambda c: served(products.item(bbox=(179.9, -10.0, -179.8, -9.5)), c),
    "the model's item": lambda _: linked_item(build_model_item(products.CARD), BASE),
    "the models' collection": lambda _: linked_collection(build_model_collection(), BASE),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_valid_by_core_and_extension_schemas(name, collection):
    require_schemas()
    document = json.loads(json.dumps(DOCUMENTS[name](collection), allow_nan=False))
    assert problems(document) == []
    assert faults(document) == []


@pytest.mark.parametrize(
    ("place", "value", "schema"),
    [
        (("properties", "proj:code"), 32629, "projection"),
        (("properties", "sat:relative_orbit"), "80", "sat"),
        (("assets", "hsi", "file:checksum"), "not hex", "file"),
        (("assets", "qa", "classification:bitfields"), [], "classification"),
        (("properties", "grid:code"), "29UPU", "grid"),
        (("properties", "datetime"), "yesterday", "json-schema"),
    ],
)
def test_the_check_itself_finds_what_is_wrong(place, value, schema, collection):
    require_schemas()
    document = json.loads(json.dumps(DOCUMENTS["an item"](collection)))
    *path, last = place
    inner = document
    for key in path:
        inner = inner[key]
    inner[last] = value
    assert any(schema in problem for problem in problems(document))
    assert faults(document) == problems(document)


PREFIXES = ("eo", "raster", "proj", "processing", "file", "view", "sat", "mgrs", "classification", "mlm", "sci")


def test_every_used_extension_is_declared(published):
    for document in (*published, build_model_item(products.CARD)):
        text = json.dumps(document)
        for prefix in PREFIXES:
            folder = {"proj": "projection", "sci": "scientific"}.get(prefix, prefix)
            declared = any(f"/{folder}/" in url for url in document["stac_extensions"])
            assert declared == (f'"{prefix}:' in text), (document["id"], prefix)


def test_the_spectrum_has_172_bands_with_wavelengths_in_micrometres(published):
    _, item = published
    bands = item["assets"]["hsi"]["bands"]
    assert len(bands) == 172
    for band, channel in zip(bands, CHANNELS, strict=True):
        assert band["eo:center_wavelength"] == pytest.approx(channel.centre_nm / 1000, abs=1e-6)
        assert 0.005 < band["eo:full_width_half_max"] < 0.02


def test_stored_items_are_free_of_bands_and_read_back_as_they_were():
    item = products.item()
    before = json.dumps(item)
    stored, tables = dehydrate(item)
    assert json.dumps(hydrate(stored, tables)) == json.dumps(item) == before
    for asset in stored["assets"].values():
        assert not isinstance(asset.get("bands"), list)
        assert not isinstance(asset.get("classification:bitfields"), list)
    assert len(json.dumps(stored)) < len(before) / 3
    assert dehydrate(products.item("another", "r2"))[1] == tables, "lists are shared between items"


def test_every_raster_asset_says_how_its_numbers_decode(published):
    _, item = published
    for key, kind in ASSET_KINDS.items():
        asset = item["assets"][key]
        assert asset["file:size"] > 0
        if kind.media_type != COG:
            continue
        assert asset["data_type"] in {"int16", "uint16", "uint8"}
        assert asset["proj:shape"]
        assert len(asset["proj:transform"]) in {6, 9}
        if key not in {"qa", "visual"}:
            bands = asset["bands"]
            assert "raster:scale" in asset or all("raster:scale" in band for band in bands)


def test_quality_bits_are_described_once_and_in_order(published):
    _, item = published
    fields = item["assets"]["qa"]["classification:bitfields"]
    assert [(f["offset"], f["name"]) for f in fields] == [(bit, name) for bit, name, _ in QUALITY_BITS]


def test_renders_name_bands_that_exist_near_their_wavelength(published):
    collection, _ = published
    red, green, blue = collection["renders"]["true-colour"]["bidx"]
    centres = [CHANNELS[index - 1].centre_nm for index in (red, green, blue)]
    assert centres == pytest.approx([665, 560, 490], abs=6)


def test_the_collection_says_that_spectra_are_estimated_and_whose_data_they_contain(published):
    collection, item = published
    assert "not measured" in collection["description"]
    assert "modified Copernicus Sentinel data [2024]" in collection["description"]
    assert "modified Copernicus Sentinel data 2024" in item["properties"]["description"]


def test_extents_and_summaries_grow_with_the_items(collection):
    near = widen(collection, products.item(bbox=(1.0, 2.0, 3.0, 4.0)))
    assert near["extent"]["spatial"]["bbox"] == [[1.0, 2.0, 3.0, 4.0]]
    far = widen(near, products.item(bbox=(-5.0, 3.0, 2.0, 9.0), sensed=products.SENSED.replace(year=2021), grade="C"))
    assert far["extent"]["spatial"]["bbox"] == [[-5.0, 2.0, 3.0, 9.0]]
    assert [time[:4] for time in far["extent"]["temporal"]["interval"][0]] == ["2021", "2024"]
    assert "[2021-2024]" in far["description"]
    assert far["summaries"]["explains2a:grade"] == ["B", "C"]
    assert widen(far, products.item(bbox=(179.0, 0.0, -179.0, 1.0)))["extent"]["spatial"]["bbox"][0][::2] == [179, 3]


def test_summaries_list_the_names_and_range_the_numbers_of_the_items(collection):
    quality = {"valid_fraction": 0.98, "resimulation_rmse": 0.002}
    first = widen(collection, products.item(quality=quality, cloud_cover=None))
    both = widen(first, products.item(quality=quality | {"resimulation_rmse": 0.005}, platform="sentinel-2b"))
    summaries = both["summaries"]
    assert summaries["platform"] == ["sentinel-2a", "sentinel-2b"]
    assert summaries["explains2a:model"] == [products.product().model_id]
    assert summaries["explains2a:resimulation_rmse"] == {"minimum": 0.002, "maximum": 0.005}
    assert summaries["explains2a:valid_fraction"] == {"minimum": 0.98, "maximum": 0.98}
    assert summaries["eo:cloud_cover"] == {"minimum": 12.5, "maximum": 12.5}


def test_licences_and_the_notice_are_stated(published):
    collection, item = published
    assert set(collection["explains2a:licences"]) == {"software", "weights", "products"}
    assert collection["sci:citation"]
    for document in (collection, item):
        (notice,) = [link for link in document["links"] if link["rel"] == "license"]
        assert "Sentinel_Data_Legal_Notice" in notice["href"]


def test_times_of_mixed_precision_are_compared_as_times(collection):
    later = products.SENSED.replace(microsecond=24000)
    first = widen(collection, products.item(sensed=later))
    both = widen(first, products.item(sensed=products.SENSED))
    assert both["extent"]["temporal"]["interval"][0][0] == "2024-06-17T11:33:21Z"
    assert both["extent"]["temporal"]["interval"][0][1] == "2024-06-17T11:33:21.024000Z"


def test_pystac_reads_what_we_write(published):
    collection, item = published
    read = pystac.Item.from_dict(item)
    assert len(read.assets["hsi"].to_dict()["bands"]) == 172
    assert pystac.Collection.from_dict(collection).extent.to_dict() == collection["extent"]
