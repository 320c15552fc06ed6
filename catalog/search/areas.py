"""Areas that searches name: boxes and GeoJSON, across the antimeridian too, and what SQL can say about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import shapely
from shapely.geometry import box, shape
from sqlalchemy import and_, false, or_

from catalog.search.errors import InvalidSearch
from catalog.tables import item_search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry
    from sqlalchemy import ColumnElement

MAX_VERTICES: Final = 10_000
_MAX_WINDOWS: Final = 8
_TURN: Final = 360.0


def area_of_bbox(bbox: Sequence[float], parameter: str = "bbox") -> BaseGeometry:
    """Return the area of a STAC bbox, which crosses the antimeridian when west is greater than east.

    Args:
        bbox: Four numbers, or six with heights, which are left out.
        parameter: Named in errors.

    Raises:
        InvalidSearch: it has not four or six numbers, or not in degrees.
    """
    if len(bbox) not in {4, 6}:
        raise InvalidSearch(parameter, f"has {len(bbox)} numbers; expected west,south,east,north")
    west, south, east, north = (bbox[0], bbox[1], *bbox[len(bbox) // 2 :][:2])
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise InvalidSearch(parameter, f"is {list(bbox)}; expected degrees with south not above north")
    if west > east:
        return box(west, south, 180, north) | box(-180, south, east, north)
    return box(west, south, east, north)


def area_of_geometry(geometry: dict[str, Any], parameter: str = "intersects") -> BaseGeometry:
    """Return the area of a GeoJSON geometry of any kind, repaired where its rings are untidy.

    Args:
        geometry: GeoJSON, WGS 84.
        parameter: Named in errors.

    Raises:
        InvalidSearch: it is no geometry, is empty, or has too many vertices.
    """
    try:
        area = shape(geometry)
        vertices, bounds = int(shapely.get_num_coordinates(area)), area.bounds
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InvalidSearch(parameter, f"is not a GeoJSON geometry: {error}") from error
    if area.is_empty or not all(map(_finite, bounds)):
        raise InvalidSearch(parameter, "is an empty geometry")
    if vertices > MAX_VERTICES:
        raise InvalidSearch(parameter, f"has {vertices} vertices; at most {MAX_VERTICES} are accepted")
    return area if area.is_valid else shapely.make_valid(area)


def _finite(value: float) -> bool:
    return abs(value) <= 1e6


def windows(area: BaseGeometry) -> list[tuple[float, float, float, float]]:
    """Return the few boxes that hold an area: one for each part, or one for all of very many."""
    parts = list(getattr(area, "geoms", [area]))
    return [part.bounds for part in (parts if len(parts) <= _MAX_WINDOWS else [area])]


def near(area: BaseGeometry) -> ColumnElement[bool]:
    """Return in SQL whether an item's box meets one of an area's boxes.

    Boxes across the antimeridian end east of 180 degrees, so they are asked twice, the second time a turn further east.
    """
    return or_(false(), *(_meets(*window) for window in windows(area)))


def _meets(west: float, south: float, east: float, north: float) -> ColumnElement[bool]:
    rows = item_search.c
    along = or_(and_(rows.west <= east, rows.east >= west), rows.east >= west + _TURN)
    return and_(along, rows.south <= north, rows.north >= south)
