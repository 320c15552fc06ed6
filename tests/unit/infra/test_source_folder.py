"""A folder of STAC items as a source."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.scene import Window, open_scene
from infra.settings import FolderSourceSettings
from infra.sources import Acquisition, Unreadable, open_source
from infra.sources.errors import SourceUnavailable


def _factory():
    spec = importlib.util.spec_from_file_location("scene_factory", Path(__file__).with_name("scene_factory.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("scene_factory", module)
    spec.loader.exec_module(module)
    return module


made = _factory()
LONG_AGO = made.LONG_AGO


@pytest.fixture
def scene(tmp_path):
    factory = made.SceneFactory(tmp_path / "items")
    factory.write()
    return factory


def found(factory, since=LONG_AGO, where=None):
    return list(open_source(factory.settings).search(where or made.region(), since))


def test_items_are_found_with_their_facts(scene):
    [one] = found(scene)
    assert isinstance(one, Acquisition)
    assert one.key.id == "S2A_20230617T113341_29UPU_R080"
    assert one.source == "made"
    assert len(one.assets) == 13


def test_missing_folder_is_an_outage_not_an_empty_answer(tmp_path):
    settings = FolderSourceSettings(name="gone", path=tmp_path / "nowhere")
    with pytest.raises(SourceUnavailable, match="nowhere") as caught:
        list(open_source(settings).search(made.region(), LONG_AGO))
    assert caught.value.transient


def test_bad_files_do_not_stop_the_rest(scene):
    for name, text in {
        "a_truncated": '{"type": "Feature", ',
        "b_text": '"hello"',
        "c_nodate": json.dumps(scene.item(properties={"datetime": None})),
        "d_binary": "\x00\x01",
        "e_deep": "[" * 100_000,
        "z_list": "[]",
    }.items():
        (scene.folder / f"{name}.json").write_text(text)
    answers = found(scene)
    assert [one.item_id for one in answers if isinstance(one, Acquisition)] == ["made-for-a-test"]
    unreadable = {one.item_id: one.reason for one in answers if isinstance(one, Unreadable)}
    assert set(unreadable) == {"a_truncated.json", "c_nodate.json", "d_binary.json", "e_deep.json"}
    assert "neither datetime" in unreadable["c_nodate.json"]
    assert "JSON" in unreadable["a_truncated.json"]


def test_catalogs_and_collections_are_passed_over(scene):
    for kind in ("Catalog", "Collection"):
        (scene.folder / f"{kind}.json").write_text(json.dumps({"type": kind, "id": "x"}))
    assert len(found(scene)) == 1


def test_region_decides(scene):
    west, south, east, north = found(scene)[0].bbox
    assert found(scene, where=made.region(west + 0.001, south, east, north))
    assert not found(scene, where=made.region(west + 3, south, east + 3, north))


def test_modification_time_stands_in_for_publication(scene):
    written = datetime(2024, 5, 1, tzinfo=UTC)
    os.utime(scene.folder / "item.json", (written.timestamp(),) * 2)
    assert not found(scene, since=written + timedelta(seconds=1))
    [one] = found(scene, since=written)
    assert one.published == written
    assert open_source(scene.settings).restore(json.loads(json.dumps(one.item))) == one


def test_the_newest_of_arrival_and_the_items_own_times_counts(scene):
    scene.properties |= {"created": "2024-01-01T00:00:00Z", "updated": "2024-06-01T00:00:00Z"}
    scene.write_item()
    long_before = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
    os.utime(scene.folder / "item.json", (long_before, long_before))
    assert found(scene, since=datetime(2024, 5, 31, tzinfo=UTC))
    assert not found(scene, since=datetime(2024, 6, 2, tzinfo=UTC))
    assert found(scene)[0].published == datetime(2024, 6, 1, tzinfo=UTC)


def test_an_old_item_copied_in_today_is_found_today(scene):
    scene.properties |= {"created": "2018-01-01T00:00:00Z"}
    scene.write_item()
    began = datetime.now(UTC) - timedelta(minutes=1)
    [one] = found(scene, since=began)
    assert one.published >= began


@pytest.mark.usefixtures("scene")
def test_items_in_subfolders_name_their_assets_from_there(tmp_path):
    settings = FolderSourceSettings(name="parent", path=tmp_path)
    [one] = open_source(settings).search(made.region(), LONG_AGO)
    assert one.assets["B02"].href == "items/B02.tif"
    restored = open_source(settings).restore(json.loads(json.dumps(one.item)))
    with open_scene(restored, settings) as opened:
        assert opened.read(Window(0, 0, 12, 12)).valid.all()


def test_restored_acquisition_equals_the_found_one(scene):
    [one] = found(scene)
    assert open_source(scene.settings).restore(json.loads(json.dumps(one.item))) == one


def test_huge_item_is_refused_before_it_is_parsed(scene):
    with (scene.folder / "huge.json").open("wb") as file:
        file.truncate(9 * 1024 * 1024)
    assert "larger" in next(one.reason for one in found(scene) if isinstance(one, Unreadable))


def test_footprint_that_crosses_itself_is_still_compared(scene):
    west, south, east, north = found(scene)[0].bbox
    ring = [[west, south], [east, north], [east, south], [west, north], [west, south]]
    scene.write_item(geometry={"type": "Polygon", "coordinates": [ring]})
    assert found(scene, where=made.region(west, south, east, north))
    assert not found(scene, where=made.region(west + 3, south, east + 3, north))


def test_nan_in_an_item_is_kept_as_null(scene):
    text = json.dumps(scene.item()).replace('"links"', '"note": NaN, "links"')
    (scene.folder / "item.json").write_text(text)
    [one] = found(scene)
    assert one.item["note"] is None
