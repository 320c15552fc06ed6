"""The 10 m grid of a scene, windows on it, and the window of a product."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import shapely
from pyproj import Transformer
from shapely.geometry import box, shape

from infra.scene.errors import RegionOutsideScene

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from infra.settings import Region

ALIGNMENT: Final = 6
"""Pixels at 10 m in one pixel at 60 m; windows begin and end on multiples of it."""

_PIXEL: Final = 10.0
_TOLERANCE: Final = 1e-3
"""Pixels; an edge this close to a block's edge is on it (reprojection is good to far less)."""

_DENSIFY_DEGREES: Final = 0.01
"""Longest straight piece of a region's outline before it is projected, degrees: off by < 1 m from the true line."""

_MAX_VERTICES: Final = 200_000


@dataclass(frozen=True)
class Grid:
    """A scene's pixel grid at 10 m."""

    crs: str
    """Such as ``EPSG:32633``."""
    transform: tuple[float, float, float, float, float, float]
    """Affine a, b, c, d, e, f as rasterio orders them: x = a*column + b*row + c, y = d*column + e*row + f, metres."""
    width: int
    """Pixels; a multiple of 6."""
    height: int
    """Pixels; a multiple of 6."""

    @property
    def whole(self) -> Window:
        """The window of the whole raster."""
        return Window(0, 0, self.width, self.height)


@dataclass(frozen=True)
class Window:
    """A rectangle of 10 m pixels on a scene's grid; it may reach beyond the raster."""

    column: int
    """Left edge; negative left of the raster."""
    row: int
    """Upper edge; negative above the raster."""
    width: int
    height: int

    @property
    def aligned(self) -> bool:
        """Whether all edges lie on the 60 m grid, so that every band can be cut exactly."""
        return not any(edge % ALIGNMENT for edge in (self.column, self.row, self.width, self.height))


def product_window(grid: Grid, region: Region, block: int = 192) -> Window:
    """Return the window that a product of a region covers: region and raster, snapped outward to whole blocks.

    A region's blocks are therefore the full tile's own blocks, bit for bit.

    Args:
        grid: The scene's grid.
        region: Its ``crop`` decides between the region and the whole raster.
        block: Block edge of the product, pixels at 10 m.

    Returns:
        The window, clipped to the raster.

    Raises:
        RegionOutsideScene: region and raster share no area, or only less than a pixel's rounding.
    """
    raster = box(0, 0, grid.width, grid.height)
    inside = shapely.intersection(_region_pixels(grid, region), raster)
    if inside.is_empty or inside.area <= _TOLERANCE**2:
        raise RegionOutsideScene(
            f"region {region.id!r} does not meet the scene's raster ({_outline(grid)}); "
            "check the region's outline, or that the item's footprint is its raster's"
        )
    if not region.crop:
        return grid.whole
    left, top, right, bottom = inside.bounds
    column, row = _down(left, block), _down(top, block)
    return Window(column, row, min(_up(right, block), grid.width) - column, min(_up(bottom, block), grid.height) - row)


def _region_pixels(grid: Grid, region: Region) -> BaseGeometry:
    """Return the region in fractional 10 m pixels of the grid: x = columns, y = rows downward."""
    area = shapely.intersection(shapely.make_valid(shape(region.geometry)), _surroundings(grid))
    if area.is_empty:
        return area
    longest = max(_DENSIFY_DEGREES, area.length / _MAX_VERTICES)
    project = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
    _, _, left, _, _, top = grid.transform

    def to_pixels(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = project.transform(coordinates[:, 0], coordinates[:, 1])
        return np.column_stack(((x - left) / _PIXEL, (top - y) / _PIXEL))

    return shapely.make_valid(shapely.transform(shapely.segmentize(area, longest), to_pixels))


def _surroundings(grid: Grid) -> BaseGeometry:
    """Return a box around the raster, WGS 84 degrees, so that nothing far outside its zone is projected."""
    west, south, east, north = _bounds(grid)
    margin = 0.1
    if west <= east:
        return box(west - margin, south - margin, east + margin, north + margin)
    return box(west - margin, south - margin, 180, north + margin) | box(-180, south - margin, east + margin, north)


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    _, _, left, _, _, top = grid.transform
    project = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    right, bottom = left + grid.width * _PIXEL, top - grid.height * _PIXEL
    west, south, east, north = project.transform_bounds(left, bottom, right, top, densify_pts=41)
    return west, south, east, north


def _outline(grid: Grid) -> str:
    west, south, east, north = _bounds(grid)
    return f"{west:.4f} to {east:.4f} degrees east, {south:.4f} to {north:.4f} degrees north"


def _down(edge: float, block: int) -> int:
    return math.floor((edge + _TOLERANCE) / block) * block


def _up(edge: float, block: int) -> int:
    return math.ceil((edge - _TOLERANCE) / block) * block
