"""The footprint of a window on the ground, as STAC items carry it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyproj import Transformer

if TYPE_CHECKING:
    from infra.scene.grid import Grid, Window

_POINTS: Final = 8
"""Points along each side: a UTM rectangle's sides bend in degrees."""

_DIGITS: Final = 7
"""About a centimetre."""


@dataclass(frozen=True)
class Footprint:
    """Where a product lies, WGS 84 degrees."""

    geometry: dict[str, Any]
    """GeoJSON Polygon, counter-clockwise; a MultiPolygon where it crosses the antimeridian."""
    bbox: tuple[float, float, float, float]
    """West, south, east, north; west is greater than east across the antimeridian."""


def window_footprint(grid: Grid, window: Window) -> Footprint:
    """Return the outline of a window.

    Args:
        grid: The scene's grid.
        window: On it.

    Returns:
        The footprint; split at the antimeridian as GeoJSON asks (RFC 7946, section 3.1.9).
    """
    ring = _outline(grid, window)
    longitudes = [x for x, _ in ring]
    south, north = min(y for _, y in ring), max(y for _, y in ring)
    if max(longitudes) - min(longitudes) <= 180:
        bbox = (min(longitudes), south, max(longitudes), north)
        return Footprint({"type": "Polygon", "coordinates": [[list(point) for point in ring]]}, bbox)
    unwrapped = [(x + 360 if x < 0 else x, y) for x, y in ring]
    west, east = min(x for x, _ in unwrapped), max(x for x, _ in unwrapped) - 360
    return Footprint(_split(unwrapped), (west, south, east, north))


def _outline(grid: Grid, window: Window) -> list[tuple[float, float]]:
    a, _, c, _, e, f = grid.transform
    left, top = c + a * window.column, f + e * window.row
    right, bottom = left + a * window.width, top + e * window.height
    steps = [number / _POINTS for number in range(_POINTS)]
    corners = [(left, top), (left, bottom), (right, bottom), (right, top)]
    points = [
        (x0 + (x1 - x0) * t, y0 + (y1 - y0) * t)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True)
        for t in steps
    ]
    project = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    xs, ys = project.transform([x for x, _ in points], [y for _, y in points])
    ring = [(round(float(x), _DIGITS), round(float(y), _DIGITS)) for x, y in zip(xs, ys, strict=True)]
    return [*ring, ring[0]]


def _split(ring: list[tuple[float, float]]) -> dict[str, Any]:
    from shapely import box, geometry
    from shapely.affinity import translate

    area = geometry.Polygon(ring)
    east = translate(area.intersection(box(180, -90, 540, 90)), xoff=-360)
    west = area.intersection(box(-180, -90, 180, 90))
    parts = [geometry.mapping(geometry.polygon.orient(part)) for part in (west, east) if not part.is_empty]
    return {"type": "MultiPolygon", "coordinates": [part["coordinates"] for part in parts]}
