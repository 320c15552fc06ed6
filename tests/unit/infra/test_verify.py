"""A file that differs in any way from what was streamed is found out, and the message says where."""

from __future__ import annotations

import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio

from infra.cog import CogBand, CogProfile, CogWriter
from infra.storage import FileStore, ObjectMissing
from infra.verify import VerificationFailed, hash_object, verify_cog

KEY = "scene/a.tif"


def profile_of(**changes):
    bands = tuple(CogBand(f"b{i}", 1e-4, 0.0, "1", 450.0 + 10 * i, 9.5) for i in range(5))
    facts = {
        "width": 300, "height": 200, "dtype": "int16", "crs": "EPSG:32633",
        "transform": (10.0, 0.0, 6e5, 0.0, -10.0, 53e5), "nodata": -32768, "bands": bands, "block": 64,
        "overviews": "mean", "tags": {"ITEM": "one"},
    }  # fmt: skip
    return CogProfile(**(facts | changes))


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path)


def written(store, profile, key=KEY, seed=0):
    values = np.random.default_rng(seed).integers(-100, 9000, (len(profile.bands), profile.height, profile.width))
    with ThreadPoolExecutor(2) as pool, CogWriter(profile, store, key, pool=pool) as writer:
        writer.write(0, 0, values.astype(profile.dtype))
        return writer.finish()


def replace(store, content, key=KEY):
    store.delete(key)
    store.put(key, content, content_type="image/tiff")


@pytest.mark.parametrize(
    "changes",
    [{}, {"width": 20, "height": 20}, {"overviews": "bitor", "dtype": "uint16", "nodata": None},
     {"dtype": "uint8", "nodata": 0}, {"overviews": "none"}],
)  # fmt: skip
def test_a_sound_file_passes_with_its_digests(store, changes):
    profile = profile_of(**changes)
    summary = written(store, profile)
    told: list[float] = []
    check = verify_cog(store, KEY, profile, summary, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    digest = hashlib.sha256(store.get(KEY)).hexdigest()
    assert (check.key, check.size) == (KEY, len(store.get(KEY)))
    assert (check.sha256, check.multihash) == (digest, "1220" + digest)
    assert (check.bands, check.blocks) == (5, summary.blocks)
    assert len(check.overviews) == len(profile.levels) - 1


def test_hashing_a_missing_object_is_an_error(store):
    with pytest.raises(ObjectMissing):
        hash_object(store, "none.tif")


def test_values_of_another_scene_are_found(store):
    profile = profile_of()
    summary = written(store, profile)
    other = written(store, profile, "other.tif", seed=1)
    fooled = dataclasses.replace(other, size=summary.size)
    with pytest.raises(VerificationFailed, match="differs from what was written"):
        verify_cog(store, KEY, profile, fooled)


def test_two_swapped_blocks_are_found(store):
    """The index of a file is changed so that two blocks of one band stand in each other's place."""
    profile = profile_of()
    summary = written(store, profile)
    content = bytearray(store.get(KEY))
    at = int.from_bytes(content[8:16], "little")
    entries = {
        int.from_bytes(content[e : e + 2], "little"): int.from_bytes(content[e + 12 : e + 20], "little")
        for e in range(at + 8, at + 8 + 20 * int.from_bytes(content[at : at + 8], "little"), 20)
    }
    for start, width in ((entries[324], 8), (entries[325], 4)):
        one, two = slice(start + width, start + 2 * width), slice(start + 2 * width, start + 3 * width)
        content[one], content[two] = content[two], content[one]
    replace(store, bytes(content))
    with pytest.raises(VerificationFailed, match=r"block at column (64|128), row 0 of band 1 differs"):
        verify_cog(store, KEY, profile, summary)


def place_of_tile(store, band, overview=None):
    where = {} if overview is None else {"ovr": overview}
    with rasterio.open(store.gdal_path(KEY)) as source:
        items = ("BLOCK_OFFSET_0_0", "BLOCK_SIZE_0_0")
        return tuple(int(source.get_tag_item(item, "TIFF", bidx=band, **where)) for item in items)


def test_a_damaged_tile_is_found(store):
    profile = profile_of()
    summary = written(store, profile)
    offset, size = place_of_tile(store, 3)
    content = bytearray(store.get(KEY))
    content[offset + size // 2] ^= 0xFF
    content[offset + size // 2 + 1] ^= 0xFF
    replace(store, bytes(content))
    with pytest.raises(VerificationFailed, match="block at column 0, row 0"):
        verify_cog(store, KEY, profile, summary)


def test_a_wrong_overview_is_found(store, monkeypatch):
    """A writer whose overviews are not the exact mean writes a file that GDAL likes but `verify` does not."""
    import infra.cog.pyramid as pyramid

    halve = pyramid.halve
    monkeypatch.setattr(pyramid, "halve", lambda *given: halve(*given) + 1)
    profile = profile_of()
    summary = written(store, profile)
    with pytest.raises(VerificationFailed, match=r"overview 1, block at column .* is not the exact mean"):
        verify_cog(store, KEY, profile, summary)


def test_a_truncated_file_is_found(store):
    profile = profile_of()
    summary = written(store, profile)
    content = store.get(KEY)
    replace(store, content[:-10])
    with pytest.raises(VerificationFailed, match=f"has {len(content) - 10} bytes in the store"):
        verify_cog(store, KEY, profile, summary)
    shorter = dataclasses.replace(summary, size=len(content) - 10)
    with pytest.raises(VerificationFailed):
        verify_cog(store, KEY, profile, shorter)


def test_what_is_no_raster_is_found(store):
    profile = profile_of()
    summary = written(store, profile)
    replace(store, b"\0" * summary.size)
    with pytest.raises(VerificationFailed, match="cannot be read back by GDAL"):
        verify_cog(store, KEY, profile, summary)


def band(**changes):
    bands = list(profile_of().bands)
    bands[2] = dataclasses.replace(bands[2], **changes)
    return {"bands": tuple(bands)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 301}, "the size is"),
        ({"nodata": 32767}, "nodata is"),
        ({"crs": "EPSG:32632"}, "the EPSG code is 32633; expected 32632"),
        ({"transform": (10.0, 0.0, 6e5, 0.0, -10.0, 54e5)}, "the transform is"),
        ({"block": 32}, "the block shape is"),
        ({"dtype": "uint16", "nodata": None}, "the pixel type is"),
        ({"overviews": "none"}, "the number of overviews is"),
        ({"tags": {"ITEM": "another"}}, "tag ITEM is 'one'; expected 'another'"),
        (band(description="x"), "the description of band 3"),
        (band(scale=1e-3), "the scale of band 3"),
        (band(offset=1.0), "the offset of band 3"),
        (band(unit="K"), "the unit of band 3"),
        (band(centre_nm=470.1), "CENTRAL_WAVELENGTH_UM of band 3 is 0.47; expected 0.4701"),
        (band(centre_nm=None), "CENTRAL_WAVELENGTH_UM of band 3 is '0.47'; expected None"),
        (band(fwhm_nm=10.0), "FWHM_UM of band 3"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_found(store, changes, says):
    summary = written(store, profile_of())
    with pytest.raises(VerificationFailed, match=says) as caught:
        verify_cog(store, KEY, profile_of(**changes), summary)
    assert str(caught.value).startswith(KEY)


def test_a_layout_that_is_not_cloud_optimised_is_found(store, tmp_path):
    """The same pixels in a plain GeoTIFF with its overviews behind the data: readable, but no COG."""
    profile = profile_of(tags={}, bands=tuple(CogBand("") for _ in range(5)))
    summary = written(store, profile)
    path = tmp_path / "plain.tif"
    with rasterio.open(store.gdal_path(KEY)) as source:
        values, facts = source.read(), source.profile
    facts.update(driver="GTiff", compress="zstd", tiled=True, blockxsize=64, blockysize=64, interleave="band")
    with rasterio.open(path, "w", **facts) as target:
        target.write(values)
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2, 4, 8], rasterio.enums.Resampling.average)
    plain = dataclasses.replace(summary, size=path.stat().st_size)
    with pytest.raises(VerificationFailed, match=r"(directories|first blocks) lie at"):
        verify_cog(store, "plain.tif", profile, plain)
