"""Which files can be described, and what their descriptions become."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cog import CogBand, CogProfile, InvalidProfile
from infra.cog.metadata import gdal_metadata, geo_keys
from infra.cog.tiff import TileIndex, build_head


def profile_of(**changes):
    facts = {
        "width": 100, "height": 80, "dtype": "int16", "crs": "EPSG:32633",
        "transform": (10.0, 0.0, 6e5, 0.0, -10.0, 53e5), "nodata": -32768, "bands": (CogBand("one"),), "block": 32,
        "overviews": "mean",
    }  # fmt: skip
    return CogProfile(**(facts | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 0}, "size is 0 x 80"),
        ({"bands": ()}, "with 0 bands"),
        ({"block": 100}, "multiple of 16"),
        ({"block": 0}, "multiple of 16"),
        ({"dtype": "float32"}, "dtype is 'float32'"),
        ({"nodata": -40000}, "int16 holds -32768 to 32767"),
        ({"nodata": 0}, "could equal it"),
        ({"overviews": "average"}, "expected 'mean', 'bitor' or 'none'"),
        ({"overviews": "none", "width": 513}, "needs overviews"),
        ({"level": 0}, "ZSTD knows 1 to 19"),
        ({"transform": (10.0, 0.5, 6e5, 0.0, -10.0, 53e5)}, "north up"),
        ({"transform": (10.0, 0.0, 6e5, 0.0, 10.0, 53e5)}, "north up"),
        ({"transform": (10.0, 0.0)}, "north up"),
    ],
)
def test_impossible_profiles_are_refused(changes, says):
    with pytest.raises(InvalidProfile, match=says):
        profile_of(**changes)


def test_every_problem_is_named_at_once():
    with pytest.raises(InvalidProfile) as caught:
        profile_of(width=0, block=7, level=77)
    for word in ("size", "block", "level"):
        assert word in str(caught.value)


@given(st.integers(1, 12_000), st.integers(1, 12_000), st.sampled_from([16, 96, 192, 512]))
def test_levels_halve_until_one_block_holds_all(width, height, block):
    levels = profile_of(width=width, height=height, block=block).levels
    assert (levels[0].width, levels[0].height) == (width, height)
    for fine, coarse in itertools.pairwise(levels):
        assert max(fine.width, fine.height) > block
        assert (coarse.width, coarse.height) == ((fine.width + 1) // 2, (fine.height + 1) // 2)
        assert (coarse.columns, coarse.rows) == ((fine.columns + 1) // 2, (fine.rows + 1) // 2)
    assert (levels[-1].columns, levels[-1].rows) == (1, 1)


def test_a_file_without_overviews_has_one_level():
    assert len(profile_of(width=400, height=512, overviews="none", block=64).levels) == 1


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30))
def test_any_text_survives_the_xml(text):
    items = ET.fromstring(gdal_metadata(profile_of(tags={"NOTE": text})).rstrip(b"\0").decode())  # noqa: S314 - ours
    once_more = items[0].text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert once_more == text


def test_nothing_to_say_is_no_metadata():
    assert gdal_metadata(profile_of(bands=(CogBand(""),))) == b""


@pytest.mark.parametrize("code", [32601, 32633, 32760, 3035, 2154, 4326, 4258])
def test_geo_keys_carry_the_code(code):
    directory, names = geo_keys(f"EPSG:{code}")
    shorts = [int.from_bytes(directory[at : at + 2], "little") for at in range(0, len(directory), 2)]
    keys = {shorts[at]: shorts[at + 3] for at in range(4, len(shorts), 4)}
    projected = pyproj.CRS.from_epsg(code).is_projected
    assert shorts[3] == len(keys)
    assert list(keys) == sorted(keys)
    assert keys[1024] == (1 if projected else 2)
    assert keys[3072 if projected else 2048] == code
    assert names.endswith(b"|\0")


@pytest.mark.parametrize(
    "crs", ["EPSG:99999", "nonsense", "EPSG:2225", "+proj=utm +zone=33 +a=1000 +b=1000", "EPSG:5773"]
)
def test_unusable_crs_is_refused(crs):
    with pytest.raises(InvalidProfile, match="crs is"):
        geo_keys(crs)


@pytest.mark.parametrize("bands", [1, 3, 172])
def test_the_head_is_known_before_any_tile(bands):
    """Its size depends on the profile alone, and all directories lie within a reader's first 16 kB."""
    profile = profile_of(width=10_980, height=10_980, block=192, bands=tuple(CogBand(f"b{i}") for i in range(bands)))
    empty = [TileIndex.empty(bands, level) for level in profile.levels]
    full = [TileIndex.empty(bands, level) for level in profile.levels]
    for index in full:
        index.offsets[...] = 2**40
        index.sizes[...] = 2**31
    heads = build_head(profile, empty), build_head(profile, full)
    assert len(heads[0]) == len(heads[1])
    at, levels = int.from_bytes(heads[0][8:16], "little"), 0
    while at:
        count = int.from_bytes(heads[0][at : at + 8], "little")
        following = at + 8 + 20 * count
        assert following + 8 <= 16_384
        at, levels = int.from_bytes(heads[0][following : following + 8], "little"), levels + 1
    assert levels == len(profile.levels)
