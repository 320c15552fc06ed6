"""Identity: what makes two deliveries one acquisition, whatever the services call them."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.sources.acquisition import AcquisitionKey, SourceRevision
from infra.sources.errors import ItemUnreadable
from infra.sources.items import read_item
from infra.sources.product_name import parse_datatake, parse_product_name

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "stac"

NAME = "S2B_MSIL2A_20250731T130249_N0511_R095_T24MVV_20250731T132745.SAFE"
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}


def item(item_id: str = "an-item", assets: dict | None = None, **properties: object) -> dict:
    return {
        "type": "Feature",
        "id": item_id,
        "geometry": SQUARE,
        "properties": {"datetime": "2025-07-31T13:03:25.899Z", **properties},
        "assets": assets or {},
    }


def test_name_gives_every_field():
    name = parse_product_name(NAME)
    assert name is not None
    assert (name.platform, name.level, name.tile, name.relative_orbit) == ("sentinel-2b", "2A", "24MVV", 95)
    assert name.baseline == "05.11"
    assert name.sensed == datetime(2025, 7, 31, 13, 2, 49, tzinfo=UTC)
    assert name.generated == datetime(2025, 7, 31, 13, 27, 45, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "S2B_MSIL2A",
        NAME + "x",
        "x" + NAME,
        NAME.replace("20250731T130249", "20251331T130249"),
        NAME.replace("T24MVV", "T24OVV"),
        NAME.replace("T24MVV", "T24IVV"),
        NAME + "\n",
        "LC09_L2SP_193026_20230615",
    ],
)
def test_other_names_are_none(text: str):
    assert parse_product_name(text) is None


@settings(deadline=None)
@given(st.text(max_size=90))
def test_no_text_breaks_the_parsers(text: str):
    assert parse_product_name(text) is None or text.startswith("S2")
    assert parse_datatake(text) is None or text.startswith("GS2")


def test_planetary_computer_ids_lack_the_baseline():
    name = parse_product_name("S2A_MSIL2A_20190101T000001_R116_T58UFE_20201007T214651")
    assert name is not None
    assert name.baseline == ""
    assert name.tile == "58UFE"


def test_key_id_is_readable_and_stable():
    key = AcquisitionKey("sentinel-2a", datetime(2017, 6, 17, 11, 33, 21, tzinfo=UTC), "29UPU", 80)
    assert key.id == "S2A_20170617T113321_29UPU_R080"
    assert AcquisitionKey("sentinel-2a", key.sensed, "29UPU", None).id == "S2A_20170617T113321_29UPU_R---"


def test_identity_comes_from_the_name_not_from_datetime():
    one = read_item(item(**{"s2:product_uri": NAME}), "a")
    other = read_item(item(item_id=NAME.removesuffix(".SAFE"), datetime="2025-07-31T13:02:49.024Z"), "b")
    assert one.key == other.key
    assert one.key.id == "S2B_20250731T130249_24MVV_R095"
    assert one.datetime != other.datetime


def test_product_uri_wins_over_the_item_id():
    found = read_item(item("S2A_MSIL2A_20190101T000001_R116_T58UFE_20201007T214651", **{"s2:product_uri": NAME}), "a")
    assert found.key.tile == "24MVV"
    assert found.revision.provider_id == NAME.removesuffix(".SAFE")


def test_datatake_gives_the_sensing_start_without_a_name():
    found = read_item(
        item(**{"s2:datatake_id": "GS2B_20250731T130249_043879_N05.11", "s2:mgrs_tile": "24MVV", "platform": "x"}), "a"
    )
    assert found.key.id == "S2B_20250731T130249_24MVV_R---"


@pytest.mark.parametrize(
    "place",
    [
        {"grid:code": "MGRS-05QKB"},
        {"s2:mgrs_tile": "05QKB"},
        {"mgrs:utm_zone": 5, "mgrs:latitude_band": "Q", "mgrs:grid_square": "KB"},
    ],
)
def test_own_items_may_give_platform_time_and_tile(place: dict):
    found = read_item(
        item(platform="Sentinel-2A", **place, **{"sat:relative_orbit": 80}), "a", sensed_from_datetime=True
    )
    assert found.key.id == "S2A_20250731T130325_05QKB_R080"
    assert found.revision == SourceRevision("", None, "an-item")


def test_service_items_never_take_identity_from_datetime():
    with pytest.raises(ItemUnreadable, match="sensing start"):
        read_item(item(platform="sentinel-2a", **{"grid:code": "MGRS-29UPU"}), "a")


@pytest.mark.parametrize("lacking", ["platform", "grid:code"])
def test_what_is_missing_is_named(lacking: str):
    properties = {"platform": "sentinel-2a", "grid:code": "MGRS-29UPU"}
    del properties[lacking]
    with pytest.raises(ItemUnreadable, match="tile" if lacking == "grid:code" else "platform"):
        read_item(item(**properties), "a", sensed_from_datetime=True)


def test_level_1c_is_refused():
    with pytest.raises(ItemUnreadable, match="level 1C"):
        read_item(item(**{"s2:product_uri": NAME.replace("MSIL2A", "MSIL1C")}), "a")


def test_item_without_datetime_is_unreadable():
    broken = item(**{"s2:product_uri": NAME})
    broken["properties"]["datetime"] = None
    with pytest.raises(ItemUnreadable, match="neither datetime nor start_datetime"):
        read_item(broken, "a")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "Collection"}, "not a STAC item"),
        ({"properties": None}, "properties or assets"),
        ({"assets": []}, "properties or assets"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 300}, "id"),
        ({"id": "line\nbreak"}, "id"),
        ({"note": float("nan")}, "kept as JSON"),
        ({"note": "\ud800"}, "kept as JSON"),
        ({"note": "a\0b"}, "zero characters"),
        ({"geometry": None}, "no geometry"),
        ({"geometry": {"type": "Polygon", "coordinates": "here"}}, "geometry"),
        ({"geometry": {"type": "Polygon", "coordinates": []}}, "empty"),
        ({"assets": {"B02": {"title": "no href"}}}, "href"),
        ({"assets": {"B02": "text"}}, "href"),
        ({"assets": {"B02": {"href": "b.tif", "raster:scale": "a lot"}}}, "finite number"),
        ({"assets": {"B02": {"href": "b.tif", "raster:offset": True}}}, "finite number"),
        ({"assets": {"B02_10m": {"href": "a.tif"}, "B02": {"href": "b.tif"}}}, "both claim"),
        ({"assets": {"B02": {"href": "https://me:secret@host/b.tif"}}}, "credential"),
        ({"assets": {"thumb": {"href": "https://host/b.png?sv=1&sig=abc"}}}, "credential"),
        ({"assets": {"B02": {"href": "https://h/b.tif?X-Amz-Signature=abc"}}}, "credential"),
    ],
)
def test_malformed_items_say_why(change: dict, reason: str):
    with pytest.raises(ItemUnreadable, match=reason) as caught:
        read_item(item(**{"s2:product_uri": NAME}) | change, "a")
    assert "secret" not in str(caught.value)
    assert not caught.value.transient


def test_malformed_times_say_which():
    with pytest.raises(ItemUnreadable, match="created"):
        read_item(item(created="yesterday", **{"s2:product_uri": NAME}), "a")


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(_JSON, st.sampled_from(["id", "geometry", "properties", "assets", "type", None]))
def test_any_json_is_read_or_unreadable(value: object, place: str | None):
    candidate = item(**{"s2:product_uri": NAME}) | {place: value} if place else value
    with contextlib.suppress(ItemUnreadable):  # nothing else may come out
        assert read_item(candidate, "a").source == "a"


@settings(deadline=None)
@given(_JSON, st.sampled_from(["B02", "scl", "nir"]), st.sampled_from(["eo:bands", "bands", "raster:bands", "gsd"]))
def test_any_asset_is_read_or_unreadable(value: object, key: str, place: str):
    candidate = item(assets={key: {"href": "b.tif", place: value}}, **{"s2:product_uri": NAME})
    with contextlib.suppress(ItemUnreadable):  # nothing else may come out
        assert read_item(candidate, "a").source == "a"


@settings(deadline=None)
@given(
    st.sampled_from(["sat:relative_orbit", "eo:cloud_cover", "view:sun_elevation", "platform", "mgrs:utm_zone"]), _JSON
)
def test_any_property_is_read_or_unreadable(key: str, value: object):
    properties = {"platform": "sentinel-2a", "grid:code": "MGRS-29UPU", key: value}
    with contextlib.suppress(ItemUnreadable):  # nothing else may come out
        assert read_item(item(**properties), "a", sensed_from_datetime=True).source == "a"


def test_newest_baseline_then_newest_generation_wins():
    early, late = datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    ordered = [
        SourceRevision("", None, "z"),
        SourceRevision("", early, "y"),
        SourceRevision("02.14", late, "x"),
        SourceRevision("05.09", early, "w"),
        SourceRevision("05.09", late, "v"),
        SourceRevision("05.11", early, "u"),
    ]
    assert sorted([*ordered[3:], *ordered[:3]]) == ordered
    assert ordered[-1] > ordered[0]
    assert SourceRevision("05.10", None, "a") > SourceRevision("05.9", None, "a")


def test_facts_have_the_units_they_say():
    found = read_item(item(**{"s2:product_uri": NAME, "eo:cloud_cover": 34.76, "view:sun_elevation": 60}), "a")
    assert found.cloud_cover == pytest.approx(0.3476)
    assert found.sun_zenith == pytest.approx(30)
    assert read_item(item(**{"s2:product_uri": NAME}), "a").cloud_cover is None


def test_publication_is_the_service_s_own_word():
    times = {"created": "2025-08-01T00:00:00Z", "published": "2025-08-02T00:00:00Z", "updated": "2025-08-03T00:00:00Z"}
    assert read_item(item(**{"s2:product_uri": NAME}, **times), "a").published == datetime(2025, 8, 2, tzinfo=UTC)
    assert read_item(item(**{"s2:product_uri": NAME}), "a").published is None


def test_native_resolution_is_chosen_among_several():
    assets = {key: {"href": f"{key}.jp2"} for key in ("B02_10m", "B02_20m", "B02_60m", "B01_20m", "B01_60m", "SCL_60m")}
    found = read_item(item(assets=assets, **{"s2:product_uri": NAME}), "a")
    assert {band: asset.href for band, asset in found.assets.items()} == {"B01": "B01_60m.jp2", "B02": "B02_10m.jp2"}


def test_pictures_are_not_mistaken_for_bands():
    bands = [{"name": name} for name in ("B04", "B03", "B02")]
    found = read_item(item(assets={"red": {"href": "TCI.tif", "eo:bands": bands}}, **{"s2:product_uri": NAME}), "a")
    assert not found.assets


def test_geotiff_is_preferred_to_the_original():
    band = {"eo:bands": [{"name": "B02"}]}
    assets = {"blue-jp2": {"href": "s3://sentinel-s2-l2a/B02.jp2", **band}, "blue": {"href": "B02.tif", **band}}
    for order in (assets, dict(reversed(assets.items()))):
        assert read_item(item(assets=order, **{"s2:product_uri": NAME}), "a").assets["B02"].href == "B02.tif"


@pytest.mark.parametrize(
    "asset",
    [
        {"raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]},
        {"raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0},
        {"bands": [{"name": "B02", "raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0}]},
    ],
)
def test_scale_and_offset_are_found_in_every_stac_version(asset: dict):
    found = read_item(item(assets={"B02": {"href": "b.tif", **asset}}, **{"s2:product_uri": NAME}), "a").assets["B02"]
    assert (found.scale, found.offset, found.nodata, found.conflict) == (1e-4, -0.1, 0, "")


def test_two_statements_that_differ_are_a_conflict():
    asset = {"href": "b.tif", "raster:offset": 0, "raster:bands": [{"offset": -0.1}]}
    found = read_item(item(assets={"B02": asset}, **{"s2:product_uri": NAME}), "a").assets["B02"]
    assert "offset is stated as 0.0 and -0.1" in found.conflict


def recorded() -> list[Path]:
    return sorted(SHARED.glob("*/sentinel-2-*__*.json"))


def test_recorded_items_are_there_in_ci():
    if os.environ.get("CI") == "true":
        assert len(recorded()) >= 19
    elif not recorded():
        pytest.skip("the recorded items are not on this machine")


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
def test_recorded_items_give_twelve_bands_and_their_identity(path: Path):
    source = json.loads(path.read_text())
    found = read_item(copy.deepcopy(source), "recorded")
    assert len(found.assets) == 13
    properties = source["properties"]
    datatake = properties.get("s2:datatake_id") or properties["eopf:datatake_id"]
    assert found.key.sensed.strftime("%Y%m%dT%H%M%S") == datatake.split("_")[1]
    assert found.key.platform == properties["platform"].lower()
    assert found.revision.baseline == datatake[-5:]
    assert found.item == source
    assert found.sun_zenith is not None
    assert found.cloud_cover is not None
    assert read_item(json.loads(json.dumps(found.item)), "recorded") == found


def test_one_product_in_two_collections_is_one_acquisition_and_revision():
    if not recorded():
        pytest.skip("the recorded items are not on this machine")
    pairs: dict[str, set] = {}
    for path in (SHARED / "earth_search").glob("sentinel-2-*__*24MVV*.json"):
        found = read_item(json.loads(path.read_text()), path.stem)
        pairs.setdefault(found.key.id, set()).add(found.revision)
    assert len(list((SHARED / "earth_search").glob("sentinel-2-*__*24MVV*.json"))) == 2
    assert [len(revisions) for revisions in pairs.values()] == [1]
