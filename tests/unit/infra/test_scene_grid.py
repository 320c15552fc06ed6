"""The window of a product: region and raster, snapped outward to blocks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from infra.scene import Grid, Window, product_window
from infra.scene.errors import RegionOutsideScene, SceneRefused
from infra.settings import Region

TILE = Grid("EPSG:32633", (10.0, 0.0, 399_960.0, 0.0, -10.0, 5_300_040.0), 10_980, 10_980)


def outlined(grid: Grid, left: float, top: float, right: float, bottom: float, *, crop: bool = True) -> Region:
    """A region whose outline follows pixel edges of a grid, finely enough for its projection."""
    steps = [n / 50 for n in range(50)]
    ring = [(left + t * (right - left), top) for t in steps] + [(right, top + t * (bottom - top)) for t in steps]
    ring += [(right - t * (right - left), bottom) for t in steps] + [(left, bottom - t * (bottom - top)) for t in steps]
    project = Transformer.from_crs(grid.crs, 4326, always_xy=True)
    positions = [project.transform(grid.transform[2] + 10 * x, grid.transform[5] - 10 * y) for x, y in ring]
    polygon = {"type": "Polygon", "coordinates": [[list(position) for position in [*positions, positions[0]]]]}
    return Region(id="outlined", geometry=polygon, crop=crop)


def test_window_is_snapped_outward_to_blocks():
    assert product_window(TILE, outlined(TILE, 400, 600, 500, 610)) == Window(384, 576, 192, 192)


def test_edges_on_block_edges_do_not_grow():
    assert product_window(TILE, outlined(TILE, 384, 576, 768, 960)) == Window(384, 576, 384, 384)


def test_window_is_clipped_to_the_raster():
    window = product_window(TILE, outlined(TILE, 10_900, 10_900, 11_500, 11_500))
    assert window == Window(10_752, 10_752, 228, 228)
    assert window.aligned


def test_region_without_crop_takes_the_whole_tile():
    assert product_window(TILE, outlined(TILE, 400, 600, 500, 610, crop=False)) == Window(0, 0, 10_980, 10_980)


def test_hole_or_gap_does_not_matter_but_the_shape_does():
    """A region that reaches around the raster without meeting it is outside, though its bounding box is not."""
    corner = {"type": "MultiPolygon", "coordinates": []}
    for west in (10.0, 18.0):
        ring = [[west, 46.0], [west + 1, 46.0], [west + 1, 49.0], [west, 49.0], [west, 46.0]]
        corner["coordinates"].append([ring])
    with pytest.raises(RegionOutsideScene, match="does not meet"):
        product_window(TILE, Region(id="around", geometry=corner))


@pytest.mark.parametrize("crop", [True, False])
def test_region_elsewhere_is_refused_with_the_rasters_outline(crop):
    with pytest.raises(RegionOutsideScene, match=r"degrees east") as caught:
        product_window(TILE, outlined(TILE, 11_100, 0, 11_200, 100, crop=crop))
    assert isinstance(caught.value, SceneRefused)
    assert caught.value.gate == "region"
    assert not caught.value.transient


def test_region_that_only_touches_is_outside():
    with pytest.raises(RegionOutsideScene):
        product_window(TILE, outlined(TILE, -500, 0, 0, 100))


def test_the_whole_world_is_the_whole_tile():
    ring = [[-180, -89], [180, -89], [180, 89], [-180, 89], [-180, -89]]
    world = Region(id="world", geometry={"type": "Polygon", "coordinates": [ring]})
    assert product_window(TILE, world) == TILE.whole


def test_tile_across_the_antimeridian():
    grid = Grid("EPSG:32601", (10.0, 0.0, 300_000.0, 0.0, -10.0, 7_400_040.0), 10_980, 10_980)
    for west in (-180.0, 179.0):
        ring = [[west, 65.9], [west + 1, 65.9], [west + 1, 66.5], [west, 66.5], [west, 65.9]]
        window = product_window(grid, Region(id="east", geometry={"type": "Polygon", "coordinates": [ring]}))
        assert window.aligned
        assert 0 < window.width < 10_980


@settings(max_examples=40, deadline=None)
@given(
    left=st.floats(-300, 10_900),
    top=st.floats(-300, 10_900),
    width=st.floats(1, 3000),
    height=st.floats(1, 3000),
    block=st.sampled_from([48, 96, 192, 384]),
)
def test_window_holds_the_region_and_lies_on_blocks(left, top, width, height, block):
    right, bottom = left + width, top + height
    if right < 1 or bottom < 1:
        return
    window = product_window(TILE, outlined(TILE, left, top, right, bottom), block)
    assert window.column % block == window.row % block == 0
    assert window.column <= max(left, 0) + 0.01
    assert window.row <= max(top, 0) + 0.01
    assert window.column + window.width >= min(right, 10_980) - 0.01
    assert window.row + window.height >= min(bottom, 10_980) - 0.01
    assert window.column + window.width <= 10_980
    assert window.aligned
    assert max(left, 0) - window.column < block + 0.01
    assert window.column + window.width - min(right, 10_980) < block + 0.01
