"""Bad scenes end as a recorded rejection or a named failure; nothing is lost, nothing is published by half."""

import json
import shutil

import numpy as np
import pytest
import rasterio

from catalog.ledger import NotClaimable
from flows.assembly import assemble
from flows.processing import SceneFailed, process_scene
from flows.watching import watch_sources
from infra.settings import load_settings
from tests.factories import band_files, copy_item, edit_band, shifted

CROPS = "S2A_MSIL2A_20170613T101031_87_48"


@pytest.fixture
def crops(demo_scenes, tmp_path):
    """One real scene in a folder of its own, free to be damaged."""
    (item,) = [path for path in demo_scenes.items.rglob("*.json") if json.loads(path.read_text())["id"] == CROPS]
    return copy_item(item, tmp_path / "inbox")


@pytest.fixture
def house(crops, tmp_path, demo_scenes):
    """A system that watches only the folder of `crops`."""
    settings = load_settings(
        home=tmp_path / "home",
        regions_file=demo_scenes.regions_file,
        sources=({"kind": "folder", "name": "inbox", "path": str(crops.parent)},),
        processing={"first_look_back_days": 36500},
    )
    with assemble(settings) as assembly:
        yield assembly


def only_scene(house):
    report = watch_sources(house, actor="test")
    assert report.unreadable == []
    (row,) = house.ledger.due(10)
    return row


def truncate(path, keep=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def drop_asset(item_path, name):
    item = json.loads(item_path.read_text())
    del item["assets"][name]
    item_path.write_text(json.dumps(item))


def edit_item(item_path, change):
    item = json.loads(item_path.read_text())
    change(item)
    item_path.write_text(json.dumps(item))


def other_zone(pixels, profile):
    profile["crs"] = rasterio.crs.CRS.from_epsg(32632)
    return pixels


def shift_by_half(pixels, profile):
    shifted(profile, 5.0)
    return pixels


FAILURES = {
    "missing band": (lambda item: drop_asset(item, "B11"), "MissingBand", "B11"),
    "missing file": (lambda item: band_files(item)["B03"].unlink(), "UnreadableRaster", "B03"),
    "truncated file": (lambda item: truncate(band_files(item)["B08"]), "UnreadableRaster", "B08"),
    "not an image": (lambda item: band_files(item)["B8A"].write_text("not found"), "UnreadableRaster", "B8A"),
    "other zone": (lambda item: edit_band(item, "B05", other_zone), "MisalignedBands", "B05"),
    "unaligned": (lambda item: edit_band(item, "B12", shift_by_half), "MisalignedBands", "B12"),
    "cropped band": (lambda item: edit_band(item, "B04", lambda p, _: p[:60]), "MisalignedBands", "B04"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_damaged_scene_fails_with_its_cause_and_leaves_nothing(house, crops, name):
    damage, cause, said = FAILURES[name]
    damage(crops)
    row = only_scene(house)
    with pytest.raises(SceneFailed, match=cause) as failure:
        process_scene(house, row.id, actor="test")
    assert said in str(failure.value)
    after = house.ledger.scene(row.id)
    assert after.state == "quarantined"
    assert after.error_class == cause
    assert list(house.store.list()) == []
    assert house.ledger.history(row.id)[-1].why


def test_a_scene_without_any_data_is_rejected(house, crops):
    for band in band_files(crops):
        edit_band(crops, band, lambda pixels, _: np.zeros_like(pixels))
    outcome = process_scene(house, only_scene(house).id, actor="test")
    assert (outcome.state, outcome.gates[0].measured) == ("rejected", 0.0)


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda item: item["properties"].update({"s2:processing_baseline": "05.11"}), None),
        (lambda item: [a.pop("raster:scale", None) for a in item["assets"].values()], "radiometry"),
    ],
)
def test_radiometry_is_declared_or_refused_never_guessed(house, crops, change, gate):
    def strip_or_change(item):
        change(item)
        if gate:
            for asset in item["assets"].values():
                for band in asset.get("bands", asset.get("raster:bands", [])):
                    band.pop("raster:scale", None)
                    band.pop("raster:offset", None)
                    band.pop("scale", None)
                    band.pop("offset", None)
                asset.pop("raster:offset", None)

    edit_item(crops, strip_or_change)
    outcome = process_scene(house, only_scene(house).id, actor="test")
    assert outcome.state == ("rejected" if gate else "published")
    if gate:
        assert outcome.reason.startswith(gate)


def test_an_unknown_platform_is_rejected_by_name(house, crops):
    edit_item(crops, lambda item: item["properties"].update(platform="sentinel-2z"))
    outcome = process_scene(house, only_scene(house).id, actor="test")
    assert (outcome.state, outcome.reason.split(":")[0]) == ("rejected", "platform")


def test_an_item_without_a_time_is_told_and_stops_nobody(house, crops):
    broken = crops.parent / "broken.json"
    shutil.copy(crops, broken)

    def forget_time(item):
        item["id"] = "timeless"
        item["properties"].pop("datetime", None)
        item["properties"].pop("s2:product_uri", None)

    edit_item(broken, forget_time)
    report = watch_sources(house, actor="test")
    assert len(report.unreadable) == 1
    assert "broken.json" in report.unreadable[0]
    assert report.outcomes == {"new": 1}


@pytest.mark.parametrize("href", ["../../../../etc/passwd", "file:///etc/passwd", "/etc/passwd", "http://127.0.0.1/x"])
def test_an_asset_outside_its_folder_is_never_opened(house, crops, href):
    edit_item(crops, lambda item: item["assets"]["B02"].update(href=href))
    scene = only_scene(house)
    with pytest.raises(SceneFailed, match="ForbiddenAsset"):
        process_scene(house, scene.id, actor="test")
    assert list(house.store.list()) == []


def test_two_workers_on_one_scene_make_one_product(house):
    row = only_scene(house)
    refused = []

    def try_too(stage):
        if stage == "writing":
            with pytest.raises(NotClaimable) as error:
                process_scene(house, row.id, actor="second")
            refused.append(error.value)

    assert process_scene(house, row.id, actor="first", on_stage=try_too).state == "published"
    assert len(refused) == 1


def test_a_newer_baseline_becomes_the_next_version_and_the_old_one_stays_readable(house, crops):
    first = only_scene(house)
    process_scene(house, first.id, actor="test")
    again = crops.parent / "again.json"
    shutil.copy(crops, again)

    def reprocess(item):
        item["id"] += "_reprocessed"
        item["properties"]["s2:processing_baseline"] = "05.00"

    edit_item(again, reprocess)
    report = watch_sources(house, actor="test")
    assert report.outcomes == {"known": 1, "reprocessing": 1}
    (second,) = house.ledger.due(10)
    process_scene(house, second.id, actor="test")

    item = house.published_item(house.ledger.scene(second.id))
    assert item["properties"]["version"] == "2"
    assert any(link["rel"] == "predecessor-version" for link in item["links"])
    assert house.ledger.scene(first.id).state == "superseded"
    assert len(list(house.store.list())) == 2 * len(item["assets"])


def test_an_unwritable_store_is_named_and_the_scene_is_tried_again_or_kept(house, tmp_path):
    row = only_scene(house)
    products = tmp_path / "home" / "products"
    if products.exists():
        shutil.rmtree(products)
    products.write_text("a file where the folder should be")
    with pytest.raises(SceneFailed, match="StorageUnwritable"):
        process_scene(house, row.id, actor="test")
    assert house.ledger.scene(row.id).state in {"failed", "quarantined"}
