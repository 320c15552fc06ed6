"""Where places lie on a product: pixels by longitude and latitude, from what the item says of its grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import shapely
from pyproj import Transformer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

MAX_AREA_PIXELS: Final = 10_000
"""Pixels of the largest area whose mean is worked out: 1 km2 at 10 m."""

_WGS84: Final = "EPSG:4326"


class TooLarge(ValueError):
    """An area has more pixels than are read at once."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Pixels:
    """Some pixels of a product's grid."""

    columns: NDArray[np.int64]
    """(n,) from the left, counted from zero."""
    rows: NDArray[np.int64]
    """(n,) from the top, counted from zero."""

    def __len__(self) -> int:
        return self.columns.size


@dataclass(frozen=True)
class ProductGrid:
    """The 10 m grid of a product."""

    crs: str
    """Such as ``EPSG:32633``."""
    transform: tuple[float, ...]
    """Pixel to CRS: (a, b, c, d, e, f), without rotation."""
    height: int
    width: int

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> ProductGrid:
        """Read the grid from an item's properties."""
        said = item["properties"]
        height, width = said["proj:shape"]
        return cls(said["proj:code"], tuple(said["proj:transform"][:6]), height, width)

    def locate(self, points: Sequence[tuple[float, float]]) -> tuple[Pixels, NDArray[np.bool_]]:
        """Find the pixels that hold places.

        Args:
            points: (n, 2) longitude and latitude, degrees.

        Returns:
            The pixels of those that lie on the grid, and (n,) which do.
        """
        x, y = np.asarray(points, np.float64).reshape(-1, 2).T
        column, row = self._fractions(*_transformer(_WGS84, self.crs).transform(x, y))
        with np.errstate(invalid="ignore"):  # what cannot be projected is infinite
            inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        return Pixels(column[inside].astype(np.int64), row[inside].astype(np.int64)), inside

    def cover(self, area: BaseGeometry) -> Pixels:
        """Find the pixels whose centres lie in an area; of a smaller one the pixel that holds it.

        Args:
            area: Polygon or polygons, longitude and latitude.

        Returns:
            The pixels, row by row; none where the area lies elsewhere.

        Raises:
            TooLarge: it has more than `MAX_AREA_PIXELS`.
        """
        project = _transformer(_WGS84, self.crs)
        placed = shapely.transform(
            area, lambda points: np.stack(self._fractions(*project.transform(*points.T)), axis=1)
        )
        if not np.isfinite(shapely.get_coordinates(placed)).all():
            return Pixels(np.empty(0, np.int64), np.empty(0, np.int64))
        if not placed.is_valid:
            placed = shapely.make_valid(placed)
        west, north, east, south = placed.bounds  # rows grow to the south
        left, right = max(0, int(np.floor(west))), min(self.width, int(np.ceil(east)))
        top, bottom = max(0, int(np.floor(north))), min(self.height, int(np.ceil(south)))
        if left >= right or top >= bottom:
            return Pixels(np.empty(0, np.int64), np.empty(0, np.int64))
        if placed.area > MAX_AREA_PIXELS or (right - left) * (bottom - top) > 16 * MAX_AREA_PIXELS:
            raise TooLarge(f"covers about {placed.area:.0f} pixels; at most {MAX_AREA_PIXELS} are read")
        rows, columns = np.mgrid[top:bottom, left:right].reshape(2, -1)
        shapely.prepare(placed)
        inside = shapely.contains_xy(placed, columns + 0.5, rows + 0.5)
        if inside.any():
            return Pixels(columns[inside], rows[inside])
        point = placed.representative_point()
        column, row = np.array([int(point.x)]), np.array([int(point.y)])
        held = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        return Pixels(column[held], row[held])

    def centres(self, pixels: Pixels) -> NDArray[np.float64]:
        """Return the longitude and latitude (n, 2) of the centres of pixels, degrees."""
        a, _b, left, _d, e, top = self.transform
        x, y = left + a * (pixels.columns + 0.5), top + e * (pixels.rows + 0.5)
        return np.stack(_transformer(self.crs, _WGS84).transform(x, y), axis=1)

    def _fractions(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        a, _b, left, _d, e, top = self.transform
        return (x - left) / a, (y - top) / e


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
