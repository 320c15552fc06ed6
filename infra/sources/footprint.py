"""Outlines of tiles as GeoJSON, also where they cross the antimeridian."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import shapely
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.ops import unary_union

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry


def outline(positions: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Turn a ring of positions into GeoJSON, cut in two where it crosses the antimeridian (RFC 7946, section 3.1.9).

    Args:
        positions: (longitude, latitude), degrees WGS 84; at least three.

    Returns:
        A Polygon or MultiPolygon.

    Raises:
        ValueError: the positions enclose no area.
    """
    longitudes = [longitude for longitude, _ in positions]
    if max(longitudes) - min(longitudes) > 180:
        positions = [(longitude % 360, latitude) for longitude, latitude in positions]
    ring = shapely.make_valid(Polygon(positions))
    east = shapely.transform(shapely.intersection(ring, box(180, -90, 540, 90)), lambda xy: xy - (360, 0))
    area = unary_union([shapely.intersection(ring, box(-180, -90, 180, 90)), east])
    parts = [part for part in shapely.get_parts(area) if isinstance(part, Polygon) and part.area > 0]
    if not parts:
        msg = "the outline encloses no area"
        raise ValueError(msg)
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(parts[0] if len(parts) == 1 else MultiPolygon(parts)))
    return geometry


def meets(footprint: dict[str, Any], area: BaseGeometry) -> bool:
    """Say whether a footprint and an area share a point; services deliver footprints that cross themselves.

    Args:
        footprint: GeoJSON, WGS 84 degrees.
        area: A valid geometry, WGS 84 degrees.

    Returns:
        Whether they do.
    """
    return bool(shapely.intersects(shapely.make_valid(shape(footprint)), area))
