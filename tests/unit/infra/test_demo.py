"""The demonstration's imagery: what is written, that it is true, and that it can be read like any other source."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_bounds

from infra.demo import DemoImageryBroken, DemoImageryMissing, archive, build_demo
from infra.scene import open_scene, product_window, survey
from infra.settings import FolderSourceSettings, read_regions
from infra.sources import Acquisition, open_source
from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES, SOURCE_BANDS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMAS = Path(__file__).resolve().parents[4] / "shared" / "data" / "schemas"
LEAST_VALID = 0.05
"""The valid-fraction gate's default."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return build_demo(tmp_path_factory.mktemp("demo"), now=lambda: NOON)


@pytest.fixture(scope="module")
def source(demo):
    return FolderSourceSettings(kind="folder", name="patches", path=demo.items)


@pytest.fixture(scope="module")
def found(demo, source) -> dict[str, list[Acquisition]]:
    """What a watch sees: acquisitions by region."""
    listed = {}
    for region in read_regions(demo.regions_file):
        listed[region.id] = list(open_source(source).search(region, NOON - timedelta(days=1)))
    return listed


@pytest.fixture(scope="module")
def items(demo) -> dict[str, dict]:
    paths = sorted(demo.items.rglob("*.json"))
    return {path.stem: json.loads(path.read_bytes()) for path in paths}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_constructed(item: dict) -> bool:
    return item["properties"]["title"].startswith("Constructed")


def is_redelivered(item: dict) -> bool:
    return item["id"].endswith("_redelivered")


# What a watch finds


def test_every_item_is_understood(found):
    assert all(isinstance(one, Acquisition) for listed in found.values() for one in listed)


def test_six_patches_are_five_acquisitions_in_two_regions(found):
    assert len(found) == 2
    real = [
        (one.key, region)
        for region, listed in found.items()
        for one in listed
        if not is_constructed(one.item) and not is_redelivered(one.item)
    ]
    assert len(real) == len(set(real)) == 6
    assert len({key for key, _ in real}) == 5
    doubled = [key for key, number in Counter(key for key, _ in real).items() if number == 2]
    assert [key.id for key in doubled] == ["S2A_20170617T113321_29UPU_R080"]


def test_one_delivery_comes_a_second_time_after_the_first(found):
    (region,) = [region for region, listed in found.items() if any(is_redelivered(one.item) for one in listed)]
    (again,) = [one for one in found[region] if is_redelivered(one.item)]
    same = [one for one in found[region] if one.key == again.key]
    assert [one.item_id for one in same] == [again.item_id.removesuffix("_redelivered"), again.item_id]
    assert len({(one.revision.baseline, one.revision.generated) for one in same}) == 1
    assert {name: asset.href for name, asset in same[0].assets.items()} == {
        name: asset.href for name, asset in again.assets.items()
    }


def test_the_constructed_scene_collides_with_no_real_one(found):
    constructed = [(one.key, one) for listed in found.values() for one in listed if is_constructed(one.item)]
    ((key, one),) = constructed
    others = {other.key for listed in found.values() for other in listed if other is not one}
    assert key not in others
    assert "Constructed for the demonstration" in one.item["properties"]["description"]


# Pixels


def test_each_product_covers_its_whole_patch_and_only_the_constructed_scene_is_short_of_data(demo, source, found):
    for region in read_regions(demo.regions_file):
        for one in found[region.id]:
            with open_scene(one, source) as scene:
                window = product_window(scene.grid, region)
                assert window == scene.grid.whole
                seen = survey(scene, window)
                assert not scene.has_scl
            if is_constructed(one.item):
                assert 0.01 < seen.valid_fraction < LEAST_VALID
            else:
                assert seen.valid_fraction == 1.0


def test_reflectance_is_a_ten_thousandth_of_the_stored_number(source, found):
    one = next(iter(found.values()))[0]
    with open_scene(one, source) as scene:
        pixels = scene.read(scene.grid.whole)
        assert scene.radiometry.rule == "declared by the item"
    with rasterio.open(source.path / one.assets["B8A"].href) as band:
        stored = band.read(1)
    position = BANDS_BY_RESOLUTION[20].index("B8A")
    np.testing.assert_allclose(pixels.b20[position], stored.astype(np.float64) * 1e-4, rtol=1e-6)


def test_rasters_are_the_archives_own_bytes(demo):
    patches = archive.read_patches(archive.find_archive())
    assert len(patches) == 6
    for patch in patches:
        for band in SOURCE_BAND_NAMES:
            assert (demo.items / patch.name / f"{band}.tif").read_bytes() == patch.files[band]


def test_the_cut_scene_holds_real_pixels_inside_and_no_data_outside_in_every_band_alike(demo, items):
    (item,) = [item for item in items.values() if is_constructed(item)]
    whole = demo.items / item["properties"]["bigearthnet:patch"]
    masks = []
    for band in SOURCE_BANDS:
        parents = 60 // band.resolution_m
        with (
            rasterio.open(demo.items / item["id"] / f"{band.name}.tif") as cut,
            rasterio.open(whole / f"{band.name}.tif") as source,
        ):
            assert (cut.crs, cut.transform, cut.nodata) == (source.crs, source.transform, 0)
            left, was = cut.read(1), source.read(1)
        inside = left != 0
        np.testing.assert_array_equal(left[inside], was[inside])
        coarse = inside.reshape(20, parents, 20, parents)
        assert (coarse.all(axis=(1, 3)) == coarse.any(axis=(1, 3))).all()
        masks.append(coarse.any(axis=(1, 3)))
    assert all((mask == masks[0]).all() for mask in masks)


def test_the_cut_scenes_tile_really_holds_its_pixels(items):
    # Tile 29UNU: 109.8 km from 499 980 m east, upper edge 5 900 040 m north, in the same zone; ESA's tiling grid.
    (item,) = [item for item in items.values() if is_constructed(item)]
    assert (item["properties"]["grid:code"], item["properties"]["proj:code"]) == ("MGRS-29UNU", "EPSG:32629")
    metres, _, left, _, _, top = item["assets"]["B01"]["proj:transform"]
    assert 499_980 <= left
    assert left + 20 * metres <= 499_980 + 109_800
    assert (left - 499_980) % 60 == (5_900_040 - top) % 60 == 0


# Statements of the items


def test_footprints_are_the_rasters_outlines(demo, items):
    for name, item in items.items():
        (path,) = demo.items.rglob(f"{name}.json")
        with rasterio.open(path.parent / item["assets"]["B02"]["href"]) as band:
            outline = transform_bounds(band.crs, "EPSG:4326", *band.bounds, densify_pts=2)
            assert item["properties"]["proj:code"] == f"EPSG:{band.crs.to_epsg()}"
        np.testing.assert_allclose(item["bbox"], outline, atol=2e-6)


def test_declared_grids_are_the_files_own(demo, items):
    for name, item in items.items():
        (path,) = demo.items.rglob(f"{name}.json")
        for band in SOURCE_BANDS:
            asset = item["assets"][band.name]
            with rasterio.open(path.parent / asset["href"]) as raster:
                assert asset["proj:shape"] == list(raster.shape)
                assert asset["proj:transform"] == list(raster.transform)[:6]
                assert asset["gsd"] == raster.res[0] == band.resolution_m
                assert asset["data_type"] == raster.dtypes[0]


def test_times_orbits_and_platforms_are_those_in_the_names(items):
    for item in items.values():
        said = item["properties"]
        name = re.match(r"(S2[AB])_MSIL1C_(\d{8})T(\d+)_N\d{4}_R(\d{3})_T(\w{5})_", said["bigearthnet:tile_source"])
        platform, day, clock, orbit, tile = name.groups()
        assert said["platform"] == f"sentinel-{platform[1:].lower()}"
        assert said["sat:relative_orbit"] == int(orbit)
        assert said["datetime"].startswith(f"{day[:4]}-{day[4:6]}-{day[6:]}T")
        hour, minute, second = clock.rjust(6, "0")[:2], clock.rjust(6, "0")[2:4], clock.rjust(6, "0")[4:]
        if int(second) < 60:  # one name says T94161, which is no time; its metadata say 09:41:56
            assert said["datetime"].endswith(f"T{hour}:{minute}:{second}Z")
        else:
            assert said["datetime"].endswith("T09:41:56Z")
        if not is_constructed(item):
            assert said["grid:code"] == f"MGRS-{tile}"


def test_nothing_is_invented(items):
    unknown = {
        "eo:cloud_cover",
        "view:sun_elevation",
        "s2:mean_solar_zenith",
        "s2:processing_baseline",
        "s2:product_uri",
    }
    for item in items.values():
        assert not unknown & set(item["properties"])
        assert set(item["assets"]) == set(SOURCE_BAND_NAMES)


def test_asset_paths_are_relative_and_stay_beside_the_item(demo, items):
    for name, item in items.items():
        (path,) = demo.items.rglob(f"{name}.json")
        for asset in item["assets"].values():
            assert not asset["href"].startswith("/")
            assert (path.parent / asset["href"]).resolve().parent == path.parent.resolve()


def test_items_are_published_when_they_are_written(items):
    assert {item["properties"]["created"] for item in items.values()} == {"2026-03-01T12:00:00Z"}


@pytest.mark.parametrize("name", ["eo-v2.0.0", "raster-v2.0.0", "sat-v1.2.0", "grid-v1.1.0"])
def test_items_satisfy_the_published_schemas(items, name):
    import jsonschema

    path = SCHEMAS / f"{name}.json"
    if not path.is_file():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{path} is required in CI")
        pytest.skip(f"{path.name} is not beside this checkout")
    schema = json.loads(path.read_bytes())
    address = schema["$id"].removesuffix("#")
    for item in items.values():
        assert address in item["stac_extensions"]
        jsonschema.Draft7Validator(schema).validate(item)


def test_items_satisfy_the_core_schema_of_pystac(items):
    pystac = pytest.importorskip("pystac")
    for item in items.values():
        pystac.Item.from_dict({**item, "stac_extensions": []}, preserve_dict=True).validate()


# Writing


def test_a_second_call_writes_nothing(tmp_path):
    first = build_demo(tmp_path, now=lambda: NOON)
    before, times = content(tmp_path), {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    said: list[str] = []
    second = build_demo(tmp_path, now=lambda: NOON + timedelta(days=3), progress=said.append)
    assert first.written == len(before)
    assert second.written == 0
    assert content(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    assert said == ["all 8 deliveries are there already"]
    assert second.deliveries == first.deliveries


def test_the_same_clock_gives_the_same_bytes(tmp_path, demo):
    build_demo(tmp_path, now=lambda: NOON)
    assert content(tmp_path) == content(demo.folder)


def test_what_was_damaged_is_written_again_and_keeps_its_time_of_publication(tmp_path):
    whole = build_demo(tmp_path, now=lambda: NOON)
    before = content(tmp_path)
    (band,) = tmp_path.glob("items/S2A_MSIL2A_20170613*/B04.tif")
    band.write_bytes(band.read_bytes()[:1000])
    (item,) = tmp_path.glob("items/S2A_MSIL2A_20170613*/*.json")
    item.write_text(item.read_text().replace("S2A_MSIL1C", "S2X_MSIL1C"))
    whole.regions_file.unlink()
    assert build_demo(tmp_path, now=lambda: NOON + timedelta(days=3)).written == 3
    assert content(tmp_path) == before


def test_the_package_itself_is_never_imported(tmp_path):
    code = (
        "import sys, pathlib\nfrom infra.demo import build_demo\n"
        f"build_demo(pathlib.Path({str(tmp_path)!r}))\n"
        "assert 'bigearthnet_common' not in sys.modules\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, timeout=120, env={**os.environ, "HOME": str(home)}
    )
    assert not list(home.iterdir())


# Bad input


def packed(path: Path, members: list[tarfile.TarInfo], data: bytes = b"x") -> Path:
    with tarfile.open(path, "w:bz2") as tar:
        for member in members:
            member.size = member.size or len(data)
            tar.addfile(member, io.BytesIO(data * member.size))
    return path


def test_without_the_extra_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(archive.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DemoImageryMissing, match=r"explains2a\[demo\]"):
        build_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "BigEarthNet-S2-Example/../../S2A_MSIL2A_x/S2A_MSIL2A_x_B02.tif",
        "BigEarthNet-S2-Example/S2A_MSIL2A_x/S2A_MSIL2A_y_B02.tif",
    ],
)
def test_members_with_other_names_are_not_looked_at(tmp_path, name):
    with pytest.raises(DemoImageryBroken, match="holds no patches"):
        archive.read_patches(packed(tmp_path / "a.tar.bz2", [tarfile.TarInfo(name)]))


def test_links_and_giants_are_not_looked_at(tmp_path):
    link = tarfile.TarInfo("BigEarthNet-S2-Example/S2A_MSIL2A_x/S2A_MSIL2A_x_B02.tif")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    giant = tarfile.TarInfo("BigEarthNet-S2-Example/S2A_MSIL2A_x/S2A_MSIL2A_x_B03.tif")
    giant.size = 2 * 1024 * 1024
    with pytest.raises(DemoImageryBroken, match="holds no patches"):
        archive.read_patches(packed(tmp_path / "a.tar.bz2", [link, giant]))


def test_an_incomplete_patch_is_named(tmp_path):
    member = tarfile.TarInfo("BigEarthNet-S2-Example/S2A_MSIL2A_x/S2A_MSIL2A_x_B02.tif")
    with pytest.raises(DemoImageryBroken, match="S2A_MSIL2A_x lacks B01, B03"):
        archive.read_patches(packed(tmp_path / "a.tar.bz2", [member]))


def test_a_truncated_archive_is_an_error_of_its_own(tmp_path):
    whole = archive.find_archive().read_bytes()
    broken = tmp_path / "a.tar.bz2"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DemoImageryBroken, match="cannot be read"):
        archive.read_patches(broken)
