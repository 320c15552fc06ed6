"""Bad input: a clear error with the band and the reason, never pixels."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from infra.scene import errors, open_scene
from infra.sources import open_source


def _factory():
    spec = importlib.util.spec_from_file_location("scene_factory", Path(__file__).with_name("scene_factory.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("scene_factory", module)
    spec.loader.exec_module(module)
    return module


made = _factory()


@pytest.fixture
def scene(tmp_path):
    factory = made.SceneFactory(tmp_path)
    factory.write()
    return factory


def refused(factory, error: type[errors.SceneError], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        open_scene(factory.acquisition(), factory.settings).close()
    assert not caught.value.transient


def test_missing_asset_names_the_band(scene):
    item = scene.item()
    del item["assets"]["B11"], item["assets"]["B09"]
    scene.write_item(assets=item["assets"])
    refused(scene, errors.MissingBand, "no asset for B09, B11")


def test_band_at_another_resolution_only_is_missing(scene):
    item = scene.item()
    item["assets"]["B01"]["gsd"] = 20
    scene.write_item(assets=item["assets"])
    refused(scene, errors.MissingBand, "B01")


def test_missing_file_names_band_and_asset(scene):
    (scene.folder / "B05.tif").unlink()
    refused(scene, errors.UnreadableRaster, r"band B05 \(\./B05\.tif\) does not exist")


def test_folder_in_place_of_a_file(scene):
    (scene.folder / "B05.tif").unlink()
    (scene.folder / "B05.tif").mkdir()
    refused(scene, errors.UnreadableRaster, "B05")


@pytest.mark.parametrize(
    "content", [b"", b"not a raster at all", b"II*\x00" + b"\xff" * 400, b"\x00\x00\x00\x0cjP  \r\n\x87\n"]
)
def test_garbage_names_band_and_asset(scene, content):
    (scene.folder / "B8A.tif").write_bytes(content)
    refused(scene, errors.UnreadableRaster, r"band B8A \(\./B8A\.tif\)")


def test_vrt_is_never_opened(scene):
    vrt = (
        '<VRTDataset rasterXSize="60" rasterYSize="48"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{scene.folder / "B06.tif"}</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    (scene.folder / "B05.tif").write_text(vrt)
    refused(scene, errors.UnreadableRaster, "B05")


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_truncated_raster_is_never_read_as_pixels(tmp_path, driver, kept):
    """GDAL's JPEG 2000 threads lose this error and leave zeros behind, which would pass as "no data"."""
    factory = made.SceneFactory(tmp_path, width=600, height=600)
    tiling = (
        {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
        if driver == "GTiff"
        else {"BLOCKXSIZE": 256, "BLOCKYSIZE": 256}
    )
    factory.write()
    path = tmp_path / ("B02.tif" if driver == "GTiff" else "B02.jp2")
    made.write_raster(path, factory.stored["B02"], driver=driver, **factory.profile("B02"), **tiling)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    item = factory.item()
    item["assets"]["B02"]["href"] = path.name
    factory.write_item(assets=item["assets"])
    with (
        pytest.raises(errors.UnreadableRaster, match="B02") as caught,
        open_scene(factory.acquisition(), factory.settings) as scene,
    ):
        scene.read(scene.grid.whole)
    assert not caught.value.transient


def test_jpeg2000_decoding_errors_are_not_lost(tmp_path, monkeypatch):
    """The same without looking at the boxes first, as with a remote file: the decoder itself has to say it."""
    monkeypatch.setattr("infra.scene.raster.missing_bytes", lambda _path: 0)
    test_truncated_raster_is_never_read_as_pixels(tmp_path, "JP2OpenJPEG", 0.9)


def test_corrupt_tile_is_found_when_it_is_read(tmp_path):
    factory = made.SceneFactory(tmp_path, width=600, height=600)
    factory.write()
    path = factory.write_band("B04", tiled=True, blockxsize=256, blockysize=256, compress="zstd")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60_000] = bytes(60_000)
    path.write_bytes(content)
    with (
        open_scene(factory.acquisition(), factory.settings) as scene,
        pytest.raises(errors.UnreadableRaster, match=r"band B04 \(\./B04\.tif\) cannot be read"),
    ):
        scene.read(scene.grid.whole)


def test_bands_in_two_zones(scene):
    scene.write_band("B05", crs="EPSG:32630")
    refused(scene, errors.MisalignedBands, r"band B05 is in EPSG:32630 and band B02 in EPSG:32629")


def test_bands_shifted_against_each_other(scene):
    made_transform = scene.profile("B11")["transform"]
    scene.write_band("B11", transform=type(made_transform)(20, 0, scene.left + 10, 0, -20, scene.top))
    refused(scene, errors.MisalignedBands, "band B11 begins at")


def test_bands_of_other_extent(scene):
    scene.stored["B12"] = scene.stored["B12"][:-3]
    scene.write_band("B12")
    refused(scene, errors.MisalignedBands, "band B12 covers")


def test_classes_must_lie_on_the_grid_too(scene):
    scene.stored["SCL"] = scene.stored["SCL"][:, :-3]
    scene.write_band("SCL")
    refused(scene, errors.MisalignedBands, "band SCL covers")


@pytest.mark.parametrize("name", ["B02", "B06", "B09"])
def test_wrong_pixel_size(scene, name):
    transform = scene.profile(name)["transform"]
    scene.write_band(name, transform=type(transform)(30, 0, scene.left, 0, -30, scene.top))
    refused(scene, errors.WrongGrid, rf"band {name} has pixels of 30 x -30 m")


def test_south_up_and_rotated_rasters_are_refused(scene):
    transform = scene.profile("B03")["transform"]
    scene.write_band("B03", transform=type(transform)(10, 0, scene.left, 0, 10, scene.top))
    refused(scene, errors.WrongGrid, "band B03")
    scene.write_band("B03", transform=type(transform)(10, 1, scene.left, 1, -10, scene.top))
    refused(scene, errors.WrongGrid, "rotation")


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3035", None])
def test_wrong_projection(scene, crs):
    for name in scene.stored:
        scene.write_band(name, crs=crs)
    refused(scene, errors.WrongGrid, "expected a UTM zone")


def test_item_that_declares_another_projection(scene):
    scene.properties["proj:epsg"] = 32630
    scene.write_item()
    refused(scene, errors.WrongGrid, "declares EPSG:32630")


def test_raster_that_is_no_whole_number_of_coarse_pixels(tmp_path):
    factory = made.SceneFactory(tmp_path, width=120, height=96)
    for name in factory.stored:
        step = factory.metres(name) // 10
        factory.stored[name] = factory.stored[name][: 92 // step]
    factory.write()
    refused(factory, errors.MisalignedBands, "B01")


def test_absurd_size_is_refused_before_a_pixel_is_read(scene):
    """Two million pixels squared, sparse: a few kilobytes that would be eight terabytes in memory."""
    import rasterio

    profile = scene.profile("B02", width=2_000_000, height=2_000_000)
    with rasterio.open(
        scene.folder / "B02.tif", "w", driver="GTiff", tiled=True, blockxsize=65536, blockysize=65536,
        SPARSE_OK=True, BIGTIFF="YES", **profile,
    ):  # fmt: skip
        pass
    refused(scene, errors.AbsurdRaster, "claims 2000000 x 2000000 pixels")


def test_absurd_block_is_refused(tmp_path):
    factory = made.SceneFactory(tmp_path, width=6000, height=6000)
    factory.stored = {name: array[:1, :1] for name, array in factory.stored.items()}
    import rasterio

    factory.write()
    profile = factory.profile("B02", width=6000, height=6000)
    with rasterio.open(tmp_path / "B02.tif", "w", driver="GTiff", tiled=True, blockxsize=8192, blockysize=8192,
                       SPARSE_OK=True, **profile):  # fmt: skip
        pass
    refused(factory, errors.AbsurdRaster, "blocks of 8192 x 8192")


def test_several_bands_in_one_file_are_refused(scene):
    import rasterio

    with rasterio.open(scene.folder / "B02.tif", "w", driver="GTiff", **scene.profile("B02", count=3)) as file:
        file.write(np.repeat(scene.stored["B02"][None], 3, axis=0))
    refused(scene, errors.UnreadableRaster, "holds 3 bands of uint16")


def test_floating_point_is_refused(scene):
    scene.stored["B02"] = scene.stored["B02"].astype(np.float32)
    scene.write_band("B02")
    refused(scene, errors.UnreadableRaster, "float32")


def test_unknown_platform_is_a_rejection(scene):
    scene.properties["platform"] = "sentinel-2d"
    scene.write_item()
    refused(scene, errors.UnknownPlatform, "'sentinel-2d'; expected one of sentinel-2a")
    assert issubclass(errors.UnknownPlatform, errors.SceneRefused)


def test_unknown_radiometry_is_a_rejection(scene):
    scene.declare = {}
    scene.write_item()
    refused(scene, errors.RadiometryUnknown, "declare raster:scale")


def test_path_out_of_the_folder_is_never_opened(scene):
    outside = scene.folder.parent / "outside.tif"
    outside.write_bytes((scene.folder / "B02.tif").read_bytes())
    item = scene.item()
    item["assets"]["B02"]["href"] = "../outside.tif"
    scene.write_item(assets=item["assets"])
    refused(scene, errors.ForbiddenAsset, "outside the source's folder")


def test_side_car_files_are_not_read(scene):
    """A file beside the raster must not change what it is taken for."""
    (scene.folder / "B02.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:4326</SRS></PAMDataset>")
    (scene.folder / "B02.tfw").write_text("30\n0\n0\n-30\n0\n0\n")
    with open_scene(scene.acquisition(), scene.settings) as opened:
        assert opened.grid.crs == "EPSG:32629"


def test_failed_opening_leaves_no_file_open(scene):
    import psutil

    scene.write_band("B12", crs="EPSG:32630")
    acquisition = open_source(scene.settings).restore(json.loads(json.dumps(scene.acquisition().item)))
    with pytest.raises(errors.MisalignedBands):
        open_scene(acquisition, scene.settings)
    assert not [file.path for file in psutil.Process().open_files() if str(scene.folder) in file.path]
