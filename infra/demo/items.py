"""Describe a patch as a STAC 1.1 item, saying only what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyproj import Transformer

from model.bands import SOURCE_BANDS

if TYPE_CHECKING:
    from datetime import datetime

    from infra.demo.archive import Patch

_EXTENSIONS: Final = (
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/sat/v1.2.0/schema.json",
    "https://stac-extensions.github.io/grid/v1.1.0/schema.json",
)
_METRES_PER_DEGREE: Final = 111_320.0
_DECIMALS: Final = 7


@dataclass(frozen=True)
class Delivery:
    """One item: a patch, under an id, with what is particular to this delivery."""

    patch: Patch
    item_id: str
    title: str
    description: str
    tile: str
    """MGRS tile that the item names; the patch's own, or its neighbour where tiles overlap."""
    host: str
    """Who hands the files out."""


def footprint(patch: Patch) -> dict[str, Any]:
    """Return a patch's outline as a GeoJSON polygon, WGS 84, counter-clockwise."""
    left, bottom, right, top = patch.bounds
    project = Transformer.from_crs(patch.epsg, 4326, always_xy=True)
    corners = ((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom))
    ring = [[round(value, _DECIMALS) for value in project.transform(*corner)] for corner in corners]
    return {"type": "Polygon", "coordinates": [ring]}


def build_item(delivery: Delivery, created: datetime) -> dict[str, Any]:
    """Build the item.

    No cloud mask, sun angle, cloud cover or processing baseline is given: the archive has none. (The baseline in the
    L1C product's name is not that of the L2A pixels.)

    Args:
        delivery: What is delivered.
        created: When the item was made, aware.

    Returns:
        The item; its assets lie beside it.
    """
    patch = delivery.patch
    geometry = footprint(patch)
    longitudes, latitudes = zip(*geometry["coordinates"][0], strict=True)
    stamp = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": delivery.item_id,
        "geometry": geometry,
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "properties": {
            "title": delivery.title,
            "description": delivery.description,
            "datetime": patch.sensed.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "created": stamp,
            "updated": stamp,
            "platform": patch.platform,
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "gsd": 10,
            "grid:code": f"MGRS-{delivery.tile}",
            "sat:relative_orbit": patch.relative_orbit,
            "proj:code": f"EPSG:{patch.epsg}",
            "providers": [
                {"name": "ESA", "roles": ["producer"], "url": "https://sentinels.copernicus.eu"},
                {"name": "BigEarthNet", "roles": ["processor"], "url": "https://bigearth.net"},
                {"name": delivery.host, "roles": ["host"]},
            ],
            "bigearthnet:patch": patch.name,
            "bigearthnet:tile_source": patch.tile_source,
            "bigearthnet:labels": list(patch.labels),
        },
        "links": [],
        "assets": {band.name: _asset(patch, position) for position, band in enumerate(SOURCE_BANDS)},
    }


def _asset(patch: Patch, position: int) -> dict[str, Any]:
    band = SOURCE_BANDS[position]
    left, bottom, right, top = patch.bounds
    metres = band.resolution_m
    return {
        "href": f"./{band.name}.tif",
        "type": "image/tiff; application=geotiff",
        "title": f"{band.name}, {band.centre_nm:.0f} nm, surface reflectance",
        "roles": ["data", "reflectance"],
        "gsd": metres,
        "data_type": "uint16",
        "nodata": 0,
        "raster:scale": 1e-4,
        "raster:offset": 0,
        "proj:shape": [round((top - bottom) / metres), round((right - left) / metres)],
        "proj:transform": [metres, 0, left, 0, -metres, top],
        "bands": [
            {
                "name": band.name,
                "eo:common_name": band.common_name,
                "eo:center_wavelength": round(band.centre_nm / 1000, 4),
                "eo:full_width_half_max": round(band.fwhm_nm / 1000, 4),
            }
        ],
    }


def surroundings(patch: Patch, metres: float) -> list[list[list[float]]]:
    """Return the coordinates of a polygon: the box around a patch with a margin, WGS 84 degrees, counter-clockwise."""
    ring = footprint(patch)["coordinates"][0]
    longitudes, latitudes = zip(*ring, strict=True)
    margin = metres / _METRES_PER_DEGREE
    west, east = min(longitudes) - 2 * margin, max(longitudes) + 2 * margin
    south, north = min(latitudes) - margin, max(latitudes) + margin
    box = ((west, south), (east, south), (east, north), (west, north), (west, south))
    return [[[round(x, 4), round(y, 4)] for x, y in box]]
