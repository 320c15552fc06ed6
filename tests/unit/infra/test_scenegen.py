"""Generated scenes: real layout, real texture, one ground under all bands, bounded memory, the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from infra.scene import Window, open_scene
from infra.scenegen import Chip, NoChips, generate_scene, read_chips
from infra.scenegen.fields import smooth_field, uniform
from infra.scenegen.ground import GroundPixels
from infra.scenegen.landscape import Landscape
from infra.scenegen.patchwork import Patchwork
from infra.settings import Region
from infra.sources import open_source
from model.bands import BANDS_BY_RESOLUTION, SOURCE_BANDS
from tests.factories import PEAK_RSS

METRES = {band.name: band.resolution_m for band in SOURCE_BANDS} | {"SCL": 20}
WORLD = {"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]}


@pytest.fixture(scope="module")
def chips(demo_scenes):
    return read_chips(demo_scenes.items)


@pytest.fixture(scope="module")
def grown(chips, tmp_path_factory):
    return generate_scene(tmp_path_factory.mktemp("grown"), 960, chips=chips, seed=3)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return generate_scene(tmp_path_factory.mktemp("synthetic"), 960, seed=3)


def stored(folder, band):
    with rasterio.open(folder / f"{band}.tif") as file:
        return file.read(1)


def opened(scene):
    [found] = open_source(scene.source).search(Region(id="world", geometry=WORLD), datetime(1970, 1, 1, tzinfo=UTC))
    return open_scene(found, scene.source)


def test_all_six_real_patches_become_chips_and_the_constructed_one_does_not(chips):
    assert len(chips) == 6
    assert all("constructed" not in chip.origin for chip in chips)
    assert all(chip.pixels.b10.shape == (4, 120, 120) and chip.pixels.b60.shape == (2, 20, 20) for chip in chips)


def test_a_folder_without_scenes_is_told(tmp_path):
    with pytest.raises(NoChips, match="expected STAC items"):
        read_chips(tmp_path)


@pytest.mark.parametrize("which", ["grown", "synthetic"])
def test_every_band_is_a_valid_cog_with_the_blocks_of_the_archive(which, request):
    scene = request.getfixturevalue(which)
    for band, metres in METRES.items():
        path = scene.folder / f"{band}.tif"
        valid, errors, warnings = cog_validate(str(path), strict=True)
        assert valid, (band, errors, warnings)
        with rasterio.open(path) as file:
            edge = 960 * 10 // metres
            assert (file.width, file.height, file.res) == (edge, edge, (metres, metres))
            assert file.block_shapes == [(512, 512)]
            assert file.compression.value == "DEFLATE"
            assert file.crs.to_epsg() == 32633
            assert file.nodata == 0


@pytest.mark.parametrize("which", ["grown", "synthetic"])
def test_the_reader_finds_reflectance_without_a_gap(which, request):
    with opened(request.getfixturevalue(which)) as scene:
        pixels = scene.read(scene.grid.whole)
        assert "declared" in scene.radiometry.rule
    assert pixels.valid.all()
    assert not pixels.saturated.any()
    assert set(np.unique(pixels.scl)) <= {4, 5, 6, 11}
    assert 0.02 < float(np.median(pixels.b10)) < 0.6
    assert float(pixels.b10.min()) > -0.1


@pytest.mark.parametrize("which", ["grown", "synthetic"])
def test_no_piece_of_ground_appears_twice(which, request):
    """Any exact repetition on the 60 m grid, in any orientation, would let a compressor or a cache cheat."""
    pixels = stored(request.getfixturevalue(which).folder, "B04")
    seen = set()
    for row in range(0, 960 - 59, 30):
        for column in range(0, 960 - 59, 30):
            block = pixels[row : row + 60, column : column + 60]
            turned = (np.rot90(side, turn) for turn in range(4) for side in (block, block[:, ::-1]))
            digest = min(hashlib.sha256(np.ascontiguousarray(side)).digest() for side in turned)
            assert digest not in seen, (row, column)
            seen.add(digest)


def test_grown_ground_is_as_rough_as_the_chips(grown, chips):
    """The mean step between neighbours, relative to the brightness, is that of the real pixels within a third."""

    def roughness(plane):
        return float(np.abs(np.diff(plane, axis=-1)).mean() / plane.mean())

    with opened(grown) as scene:
        ours = roughness(scene.read(scene.grid.whole).b10[2])
    theirs = [roughness(chip.pixels.b10[2]) for chip in chips]
    assert min(theirs) / 1.3 < ours < max(theirs) * 1.3


def even_chip(seed):
    """A chip that is grey in every band, in squares of 60 m."""
    squares = np.random.default_rng(seed).uniform(0.05, 0.4, (20, 20)).astype(np.float32)
    stacks = [
        np.broadcast_to(squares.repeat(6 // step, 0).repeat(6 // step, 1), (count, 120 // step, 120 // step))
        for step, count in ((1, 4), (2, 6), (6, 2))
    ]
    return Chip(f"even {seed}", GroundPixels(*stacks))


@pytest.mark.parametrize("kind", ["patchwork", "landscape"])
def test_coarse_bands_are_the_area_means_of_the_same_ground(kind):
    """Where the ground is grey, what 20 m and 60 m bands see are the means of what 10 m bands see."""
    if kind == "patchwork":
        ground = Patchwork([even_chip(seed) for seed in range(3)], 5)
        ground._slope = ground._slope * 0
    else:
        ground = Landscape(5)
        ground._spectra[:] = ground._spectra[:, :1]
    window = Window(600, 1200, 240, 180)
    seen = ground.look(window)
    assert float(seen.b10.std()) > 0.01
    for step, stack in ((2, seen.b20), (6, seen.b60)):
        mean = seen.b10[0].reshape(window.height // step, step, window.width // step, step).mean(axis=(1, 3))
        for plane in stack:
            assert np.allclose(plane, mean, rtol=1e-5)


def test_windows_of_the_ground_fit_together(chips):
    for ground in (Patchwork(chips, 1), Landscape(1)):
        whole = ground.look(Window(120, 60, 360, 240))
        part = ground.look(Window(240, 120, 120, 60))
        assert np.allclose(whole.b10[:, 60:120, 120:240], part.b10, atol=1e-6)
        assert np.allclose(whole.b60[:, 10:20, 20:40], part.b60, atol=1e-6)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(chips, grown, tmp_path):
    again = generate_scene(tmp_path, 960, chips=chips, seed=3)
    assert {p.name: p.read_bytes() for p in again.folder.iterdir()} == {
        p.name: p.read_bytes() for p in grown.folder.iterdir()
    }
    other = generate_scene(tmp_path, 120, chips=chips, seed=4)
    assert not np.array_equal(stored(other.folder, "B04"), stored(grown.folder, "B04")[:120, :120])


def test_a_scene_that_is_there_is_not_made_again(grown, chips):
    steps = []
    found = generate_scene(grown.folder.parent, 960, chips=chips, seed=3, progress=lambda *told: steps.append(told))
    assert not found.made
    assert not steps
    assert found.folder == grown.folder
    assert found.input_bytes == sum(path.stat().st_size for path in grown.folder.iterdir())


def test_a_scene_broken_off_leaves_nothing(tmp_path):
    class StopHere(Exception):
        pass

    def stop(step, _done):
        raise StopHere(step)

    with pytest.raises(StopHere):
        generate_scene(tmp_path, 120, progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 100, 10_986, -6])
def test_sizes_that_no_tile_has_are_refused(size, tmp_path):
    with pytest.raises(ValueError, match="multiple of 6 up to 10980"):
        generate_scene(tmp_path, size)


def test_a_product_folder_holds_the_same_pixels_without_loss(chips, tmp_path):
    """JPEG 2000 in 1024 tiles with its metadata, read through the source that operators use."""
    safe = generate_scene(tmp_path, 1200, layout="safe", chips=chips, seed=3)
    cog = generate_scene(tmp_path, 1200, layout="cog", chips=chips, seed=3)
    for image in sorted(safe.folder.rglob("*.jp2")):
        band = image.stem.split("_")[2]
        with rasterio.open(image) as file:
            assert file.driver == "JP2OpenJPEG"
            assert file.block_shapes == [(min(1024, file.height), min(1024, file.width))]
            assert np.array_equal(file.read(1), stored(cog.folder, band)), band
    with opened(safe) as one, opened(cog) as other:
        window = Window(600, 300, 360, 240)
        ours, theirs = one.read(window), other.read(window)
        assert one.grid == other.grid
    for metres in BANDS_BY_RESOLUTION:
        assert np.allclose(getattr(ours, f"b{metres}"), getattr(theirs, f"b{metres}"), atol=1e-6)
    assert np.array_equal(ours.scl, theirs.scl)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31), column=st.integers(-5000, 20_000), row=st.integers(-5000, 20_000),
    spacing=st.sampled_from([2.0, 7.0, 33.0, 900.0]),
)  # fmt: skip
def test_a_field_is_a_function_of_place_alone(seed, column, row, spacing):
    whole = smooth_field(seed, 0, Window(column, row, 24, 12), [(spacing, 1.0)])
    part = smooth_field(seed, 0, Window(column + 7, row + 3, 9, 5), [(spacing, 1.0)])
    assert np.allclose(whole[3:8, 7:16], part, atol=1e-5)
    assert float(np.abs(whole).max()) <= 3**0.5 + 1e-6


def test_drawn_numbers_are_uniform_and_unrelated_between_neighbours():
    drawn = uniform(9, 1, np.arange(400)[:, None], np.arange(400)[None, :])
    assert drawn.shape == (400, 400)
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert (np.abs(counts - 8000) < 5 * np.sqrt(8000)).all()
    for axis in (0, 1):
        first, second = np.delete(drawn, 0, axis).ravel(), np.delete(drawn, -1, axis).ravel()
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.0125  # five standard errors


RUN = (
    PEAK_RSS
    + """
import json, sys
from pathlib import Path
from infra.scenegen import generate_scene
scene = generate_scene(Path(sys.argv[1]), 4092, seed=1)
print(json.dumps({"peak": peak_rss(), "bytes": scene.input_bytes}))
"""
)


@pytest.mark.slow
def test_a_scene_of_4092_pixels_is_made_in_half_a_gibibyte(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads(ran.stdout)
    assert told["bytes"] > 100e6
    assert told["peak"] < 512 * 1024**2
