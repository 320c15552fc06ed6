"""Files of the streaming writer, judged by GDAL and rio-cogeo."""

from __future__ import annotations

import itertools
import threading
import time
import unittest.mock as mock
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from infra.cog import (
    BlockMisplaced,
    BlockRepeated,
    BlocksMissing,
    CogBand,
    CogProfile,
    CogWriter,
    Lane,
    WriterClosed,
)
from infra.cog.overviews import halve
from infra.cog.pyramid import Pyramid
from infra.storage import FileStore, ObjectExists
from infra.verify import verify_cog
from model.bands import CENTRE_NM, FWHM_NM

NODATA = {"int16": -32768, "uint16": 65535, "uint8": 0}


def profile_of(width, height, bands, **changes):
    described = tuple(CogBand(f"b{i}") for i in range(bands)) if isinstance(bands, int) else bands
    facts = {
        "width": width, "height": height, "dtype": "int16", "crs": "EPSG:32633",
        "transform": (10.0, 0.0, 6e5, 0.0, -10.0, 53e5), "nodata": -32768, "bands": described, "block": 32,
        "overviews": "mean",
    }  # fmt: skip
    return CogProfile(**(facts | changes))


def cube(profile, seed=0):
    """Random pixels with a hole of nodata across block borders."""
    generator, kind = np.random.default_rng(seed), np.iinfo(profile.dtype)
    shape = (len(profile.bands), profile.height, profile.width)
    values = generator.integers(kind.min, kind.max, shape, dtype=profile.dtype, endpoint=True)
    if profile.nodata is not None:
        values[:, shape[1] // 4 : shape[1] // 2, shape[2] // 3 :] = profile.nodata
    return values


def rectangles(profile, blocks=1):
    """Cut a file into rectangles of so many blocks, row by row."""
    step = blocks * profile.block
    return [(x, y, step) for y in range(0, profile.height, step) for x in range(0, profile.width, step)]


def write(profile, values, store, key, pool, order=None):
    with CogWriter(profile, store, key, pool=pool) as writer:
        for x, y, step in order or rectangles(profile):
            writer.write(x, y, values[:, y : y + step, x : x + step])
        return writer.finish()


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "products")


@st.composite
def files(draw):
    dtype = draw(st.sampled_from(sorted(NODATA)))
    overviews = draw(st.sampled_from(["mean", "bitor", "none"]))
    profile = profile_of(
        draw(st.integers(1, 200)), draw(st.integers(1, 200)), draw(st.integers(1, 9)), dtype=dtype,
        nodata=draw(st.sampled_from([None, NODATA[dtype]])), block=draw(st.sampled_from([16, 32, 96])),
        overviews=overviews, level=draw(st.sampled_from([1, 9])),
    )  # fmt: skip
    return profile, draw(st.permutations(rectangles(profile, draw(st.integers(1, 3)))))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
          deadline=None)  # fmt: skip
@given(files(), st.sampled_from([0, 4_000, 8 << 20]), st.sampled_from([0.0, 0.5, 1.15]))
def test_gdal_reads_what_was_written_in_any_order(store, pool, file, put_off, margin):
    """Also when the body begins at once or late, and when the guess of the head's size is far off."""
    profile, order = file
    values = cube(profile)
    with mock.patch.multiple("infra.cog.placement", _PUT_OFF_BYTES=put_off, _MARGIN=margin):
        summary = write(profile, values, store, "scene/any.tif", pool, order)
    verify_cog(store, "scene/any.tif", profile, summary)
    with rasterio.open(store.gdal_path("scene/any.tif")) as source:
        np.testing.assert_array_equal(source.read(), values)
        assert source.nodata == profile.nodata
        assert source.block_shapes == [(profile.block, profile.block)] * len(profile.bands)
        assert len(source.overviews(1)) == len(profile.levels) - 1
    level = values
    for number in range(len(profile.levels) - 1):
        level = halve(level, profile.overviews, profile.nodata)
        with rasterio.open(store.gdal_path("scene/any.tif"), OVERVIEW_LEVEL=number) as source:
            np.testing.assert_array_equal(source.read(), level)
    assert summary.size == store.stat("scene/any.tif").size
    assert summary.blocks == profile.levels[0].rows * profile.levels[0].columns
    store.delete("scene/any.tif")


@pytest.mark.parametrize(
    ("width", "height", "bands", "block"),
    [(120, 120, 172, 192), (20, 20, 2, 32), (1, 1, 1, 16), (60, 60, 6, 96), (700, 500, 20, 192), (513, 1025, 3, 64),
     (2048, 300, 1, 192), (384, 192, 40, 192)],
)  # fmt: skip
def test_rio_cogeo_is_strict_and_content(store, pool, width, height, bands, block):
    profile = profile_of(width, height, bands, block=block)
    write(profile, cube(profile), store, "a.tif", pool)
    assert cog_validate(store.gdal_path("a.tif"), strict=True, quiet=True) == (True, [], [])


@pytest.mark.parametrize(("margin", "in_head"), [(0.0, 2), (0.5, 3), (1.15, 4), (3.0, 4)])
def test_first_blocks_lie_in_the_head_as_far_as_they_fit(store, pool, monkeypatch, margin, in_head):
    """A larger file's head is sized by a guess; what does not fit, finest first, goes to the end."""
    monkeypatch.setattr("infra.cog.placement._MARGIN", margin)
    profile = profile_of(768, 768, 40, block=96)
    values = np.random.default_rng(0).integers(0, 5000, (40, 768, 768), np.int16)
    summary = write(profile, values, store, "a.tif", pool)
    verify_cog(store, "a.tif", profile, summary)
    with rasterio.open(store.gdal_path("a.tif")) as source:
        firsts = [
            int(source.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, **({"ovr": n - 1} if n else {})))
            for n in range(len(profile.levels))
        ]
    assert firsts == sorted(firsts, reverse=True)
    assert sum(place < summary.size // 2 for place in firsts) == in_head
    for (offset, size), (following, _size) in itertools.pairwise(tile_places(store.gdal_path("a.tif"), profile)):
        assert offset + size <= following
    assert cog_validate(store.gdal_path("a.tif"), strict=True, quiet=True) == (True, [], [])


def test_small_files_have_no_gap(store, pool):
    """Head, held blocks and body follow each other: no byte of a small file is wasted."""
    profile = profile_of(120, 120, 172, block=192)
    write(profile, cube(profile), store, "a.tif", pool)
    places = tile_places(store.gdal_path("a.tif"), profile)
    for (offset, size), (following, _size) in itertools.pairwise(places):
        assert offset + size == following
    assert sum(places[-1]) == store.stat("a.tif").size


def tile_places(path, profile):
    """Offset and size of every tile, from GDAL, in file order."""
    places = []
    with rasterio.open(path) as source:
        for number, level in enumerate(profile.levels):
            where = {"ovr": number - 1} if number else {}
            for band, row, column in np.ndindex(len(profile.bands), level.rows, level.columns):
                items = (f"BLOCK_OFFSET_{column}_{row}", f"BLOCK_SIZE_{column}_{row}")
                places.append(tuple(int(source.get_tag_item(i, "TIFF", bidx=band + 1, **where)) for i in items))
    return sorted(places)


def test_all_bands_of_a_block_lie_side_by_side(store, pool):
    profile = profile_of(100, 100, 7)
    write(profile, cube(profile), store, "a.tif", pool)
    with rasterio.open(store.gdal_path("a.tif")) as source:
        assert source.interleaving.value == "BAND"
        for row, column in np.ndindex(4, 4):
            for band in range(1, 7):
                start, size, following = (
                    int(source.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=number))
                    for what, number in (("OFFSET", band), ("SIZE", band), ("OFFSET", band + 1))
                )
                assert start + size == following


def test_bytes_depend_on_the_order_of_blocks_alone(store):
    """Neither threads nor the size of the rectangles change a byte when the blocks come in Z-order."""
    profile = profile_of(256, 256, 9, block=32)
    values = cube(profile)
    for threads, blocks in ((1, 8), (3, 8), (2, 2), (2, 4), (2, 1)):
        order = sorted(rectangles(profile, blocks), key=lambda at: z_order(at[0] // 32, at[1] // 32))
        with ThreadPoolExecutor(threads) as pool:
            write(profile, values, store, f"{threads}-{blocks}.tif", pool, order)
    contents = {store.get(found.key) for found in store.list()}
    assert len(contents) == 1


def z_order(column, row):
    return sum(((column >> bit & 1) + 2 * (row >> bit & 1)) << 2 * bit for bit in range(8))


def test_checksum_is_the_same_in_any_order_and_differs_when_a_value_or_place_does(store, pool):
    profile = profile_of(64, 64, 2)
    values = cube(profile)
    sums = [
        write(profile, values, store, f"{number}.tif", pool, order).checksum_of_values
        for number, order in enumerate((rectangles(profile), rectangles(profile)[::-1], rectangles(profile, 2)))
    ]
    changed, swapped = values.copy(), values.copy()
    changed[1, 63, 63] ^= 1
    swapped[:, :32, :32], swapped[:, :32, 32:] = values[:, :32, 32:], values[:, :32, :32]
    sums += [
        write(profile, other, store, f"{n}.tif", pool).checksum_of_values for n, other in ((8, changed), (9, swapped))
    ]
    assert len(set(sums[:3])) == 1
    assert len(set(sums)) == 3


def test_what_readers_look_for_comes_back(store, pool):
    bands = tuple(
        CogBand(f"channel {i} & <more>", 1e-4, 0.0, "1", float(CENTRE_NM[i]), float(FWHM_NM[i]), bbl=i % 2)
        for i in range(172)
    )
    tags = {"ITEM": "S2A_29UPU", "NOTICE": 'contains "modified" <Copernicus> data & more — 2026'}
    profile = profile_of(120, 90, bands, block=192, tags=tags, crs="EPSG:32729")
    write(profile, cube(profile), store, "a.tif", pool)
    with rasterio.open(store.gdal_path("a.tif")) as source:
        assert source.descriptions == tuple(band.description for band in bands)
        assert set(source.scales) == {1e-4}
        assert set(source.offsets) == {0.0}
        assert set(source.units) == {"1"}
        assert source.crs.to_epsg() == 32729
        assert tuple(source.transform)[:6] == profile.transform
        assert source.tags() == tags | {"AREA_OR_POINT": "Area"}
        assert source.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "ZSTD"
        for number in range(1, 173):
            imagery = source.tags(number, ns="IMAGERY")
            assert float(imagery["CENTRAL_WAVELENGTH_UM"]) * 1000 == pytest.approx(CENTRE_NM[number - 1], abs=1e-6)
            assert float(imagery["FWHM_UM"]) * 1000 == pytest.approx(FWHM_NM[number - 1], abs=1e-6)
            assert source.tags(number)["bbl"] == str((number - 1) % 2)


def test_offsets_and_odd_scales_are_exact(store, pool):
    bands = (CogBand("a", 0.1 + 0.2, -1 / 3, "K"), CogBand("b", 1e-9, 1234567.891), CogBand("c"))
    profile = profile_of(10, 10, bands)
    write(profile, cube(profile), store, "a.tif", pool)
    with rasterio.open(store.gdal_path("a.tif")) as source:
        assert source.scales == (0.1 + 0.2, 1e-9, 1.0)
        assert source.offsets == (-1 / 3, 1234567.891, 0.0)
        assert source.units == ("K", None, None)


def test_rgb_is_shown_as_rgb(store, pool):
    profile = profile_of(50, 50, tuple(map(CogBand, ("red", "green", "blue"))), dtype="uint8", nodata=0)
    write(profile, cube(profile), store, "a.tif", pool)
    with rasterio.open(store.gdal_path("a.tif")) as source:
        assert [interpretation.name for interpretation in source.colorinterp] == ["red", "green", "blue"]


def test_an_all_nodata_file_is_whole(store, pool):
    profile = profile_of(300, 300, 3)
    values = np.full((3, 300, 300), -32768, np.int16)
    summary = write(profile, values, store, "a.tif", pool)
    verify_cog(store, "a.tif", profile, summary)
    assert summary.size < 50_000
    assert cog_validate(store.gdal_path("a.tif"), strict=True, quiet=True) == (True, [], [])


def test_the_caller_may_reuse_its_array(store, pool):
    profile = profile_of(128, 128, 4)
    values = cube(profile)
    buffer = np.empty((4, 32, 32), np.int16)
    with CogWriter(profile, store, "a.tif", pool=pool) as writer:
        for x, y, step in rectangles(profile):
            buffer[...] = values[:, y : y + step, x : x + step]
            writer.write(x, y, buffer)
            buffer[...] = 0
        writer.finish()
    with rasterio.open(store.gdal_path("a.tif")) as source:
        np.testing.assert_array_equal(source.read(), values)


@pytest.mark.parametrize(
    ("column", "row", "shape", "dtype"),
    [
        (0, 0, (2, 32, 32), "int16"),  # a band too few
        (0, 0, (3, 32, 32), "uint16"),
        (0, 0, (3, 32, 32), ">i2"),  # big endian is another type
        (0, 0, (32, 32), "int16"),
        (16, 0, (3, 32, 32), "int16"),
        (0, -32, (3, 32, 32), "int16"),
        (0, 0, (3, 32, 30), "int16"),  # ends inside a block
        (96, 0, (3, 32, 32), "int16"),  # reaches beyond the edge
        (128, 0, (3, 32, 32), "int16"),
        (0, 0, (3, 0, 32), "int16"),
    ],
)
def test_misplaced_blocks_are_refused(store, pool, column, row, shape, dtype):
    profile = profile_of(100, 100, 3)
    writer = CogWriter(profile, store, "a.tif", pool=pool)
    with pytest.raises(BlockMisplaced, match=r"a\.tif: found"):
        writer.write(column, row, np.zeros(shape, dtype))
    writer.abort()


def test_a_block_written_twice_is_refused(store, pool):
    profile = profile_of(100, 100, 3)
    values = cube(profile)
    writer = CogWriter(profile, store, "a.tif", pool=pool)
    writer.write(32, 32, values[:, 32:64, 32:64])
    with pytest.raises(BlockRepeated):
        writer.write(0, 0, values[:, :64, :64])
    writer.abort()


def test_missing_blocks_are_named_and_nothing_is_left(store, tmp_path, pool):
    profile = profile_of(100, 100, 3)
    values = cube(profile)
    writer = CogWriter(profile, store, "a.tif", pool=pool)
    for x, y, step in rectangles(profile)[:-1]:
        writer.write(x, y, values[:, y : y + step, x : x + step])
    with pytest.raises(BlocksMissing, match="1 of 16 blocks are missing, the first at column 96, row 96"):
        writer.finish()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(WriterClosed):
        writer.write(0, 0, values[:, :32, :32])


def test_an_exception_on_the_way_leaves_nothing(store, tmp_path, pool):
    profile = profile_of(600, 600, 60, block=96)
    values = cube(profile)

    def fail_late():
        with CogWriter(profile, store, "scene/a.tif", pool=pool) as writer:
            for x, y, step in rectangles(profile):
                writer.write(x, y, values[:, y : y + step, x : x + step])
            writer._lane.drain()
            assert list(tmp_path.rglob("a.tif.partial-*"))  # it is under way
            raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        fail_late()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_writer_left_unfinished_leaves_nothing(store, tmp_path, pool):
    profile = profile_of(100, 100, 3)
    with CogWriter(profile, store, "a.tif", pool=pool) as writer:
        writer.write(0, 0, cube(profile))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(WriterClosed):
        writer.finish()


def test_an_error_in_the_pool_reaches_the_caller(store, tmp_path, pool, monkeypatch):
    def broken(_self, _values):
        raise MemoryError("no room to compress")

    monkeypatch.setattr("infra.cog.encoding.TileEncoder.encode", broken)
    profile = profile_of(100, 100, 3)
    with pytest.raises(MemoryError, match="no room to compress"):
        write(profile, cube(profile), store, "a.tif", pool)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_failing_file_stops_all_writers_of_a_lane_and_is_named(store, tmp_path, pool, monkeypatch):
    """The other writer's next `write` raises the first cause, and neither leaves anything."""
    profile = profile_of(300, 300, 3)
    values, work = cube(profile), Pyramid.work

    def broken(self, block, group, pixels):
        if self is bad._pyramid:
            raise OSError("the first cause")
        return work(self, block, group, pixels)

    monkeypatch.setattr(Pyramid, "work", broken)
    with (
        Lane(pool) as lane,
        CogWriter(profile, store, "good.tif", pool=lane) as good,
        CogWriter(profile, store, "bad.tif", pool=lane) as bad,
    ):
        bad.write(32, 32, values[:, 32:64, 32:64])
        lane.drain()
        with pytest.raises(OSError, match="the first cause"):
            good.write(0, 0, values)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_compressing_and_uploading_cost_is_counted(store, pool):
    profile = profile_of(600, 600, 20, block=96)
    values = cube(profile)
    with Lane(pool) as lane, CogWriter(profile, store, "a.tif", pool=lane) as writer:
        writer.write(0, 0, values)
        summary = writer.finish()
        spent = lane.clock.spent()
    assert list(spent) == ["compress", "upload"]
    assert spent["compress"].core_seconds > spent["upload"].core_seconds > 0
    assert writer.laid_bytes <= summary.size


def test_a_taken_key_is_not_overwritten(store, pool, tmp_path):
    profile = profile_of(100, 100, 3)
    store.put("a.tif", b"theirs", content_type="image/tiff")
    with pytest.raises(ObjectExists):
        write(profile, cube(profile), store, "a.tif", pool)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tif"]
    assert store.get("a.tif") == b"theirs"


def test_pixels_in_flight_are_bounded_over_all_writers(store):
    """With a pool that stands still, `write` stops taking blocks: back-pressure, not growth."""
    profile = profile_of(1024, 1024, 2, block=64)
    values = np.zeros((2, 1024, 1024), np.int16)
    gate, taken = threading.Event(), []

    def feed(pool):
        with (
            Lane(pool, limit=1 << 20) as lane,
            CogWriter(profile, store, "a.tif", pool=lane) as one,
            CogWriter(profile, store, "b.tif", pool=lane) as other,
        ):
            for x, y, step in rectangles(profile):
                for writer in (one, other):
                    writer.write(x, y, values[:, y : y + step, x : x + step])
                    taken.append((x, y))
                assert lane.in_flight <= 1 << 20
            other.finish()
            return one.finish()

    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as caller:
        pool.submit(gate.wait)
        result = caller.submit(feed, pool)
        time.sleep(0.5)
        stuck = len(taken)
        gate.set()
        summary = result.result()
    raw_block = 2 * 64 * 64 * 2
    assert 2 <= stuck <= (1 << 20) // raw_block + 1
    assert len(taken) == 2 * 256
    assert summary.peak_pending_bytes < 4 << 20


def test_pending_overviews_stay_small_in_z_order(store):
    """In Z-order each level waits for at most one block; row by row for half a row of blocks."""
    profile = profile_of(1024, 1024, 8, block=32)
    values = cube(profile)
    peaks = {}
    for name, blocks, key in (("z", 1, lambda at: z_order(at[0] // 32, at[1] // 32)), ("rows", 1, lambda at: at[1])):
        with ThreadPoolExecutor(1) as pool, CogWriter(profile, store, f"{name}.tif", pool=pool) as writer:
            peak = 0
            for x, y, step in sorted(rectangles(profile, blocks), key=key):
                writer.write(x, y, values[:, y : y + step, x : x + step])
                writer._lane.drain()
                peak = max(peak, writer._pyramid.pending_bytes)
            writer.finish()
            assert writer._pyramid.pending_bytes == 0
            peaks[name] = peak
    block = 8 * 32 * 32 * 2
    assert peaks["z"] <= len(profile.levels) * block
    assert peaks["rows"] > 3 * peaks["z"]
