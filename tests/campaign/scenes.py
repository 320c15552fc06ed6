"""Small real scenes as a service delivers them: cut from the demonstration's patches, named as ESA names products."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import Affine

from tests.factories import band_files

COARSE_METRES = 60
WHOLE = (0, 0, 20, 20)
"""Column, row, width and height of a patch, 60 m pixels."""
VEGETATION, CLOUD = 4, 9
CORRUPT_BAND = "B08"


@dataclass(frozen=True)
class Cut:
    """One delivery: which part of which patch, said to be sensed and processed when."""

    patch: Path
    """Item of the demonstration."""
    sensed: datetime
    published: datetime
    baseline: str = "0209"
    generated: datetime | None = None
    window: tuple[int, int, int, int] = WHOLE
    """Column, row, width, height, 60 m pixels."""
    grown: int = 1
    """So many times as wide and high, by mirroring."""
    cloudy: bool = False
    corrupt: bool = False
    datastrip: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def product(self) -> str:
        """The product's name, which is also its item's id."""
        said = json.loads(self.patch.read_text())["properties"]
        platform = said["platform"].removeprefix("sentinel-").upper()
        tile, orbit = said["grid:code"].removeprefix("MGRS-"), said["sat:relative_orbit"]
        made = self.generated or self.sensed + timedelta(hours=2)
        return (
            f"S{platform}_MSIL2A_{self.sensed:%Y%m%dT%H%M%S}_N{self.baseline}_R{orbit:03d}_T{tile}_{made:%Y%m%dT%H%M%S}"
        )

    @property
    def acquisition(self) -> str:
        """The id by which the ledger knows it, parts aside."""
        platform, _, sensed, _, orbit, tile, _ = self.product.split("_")
        return f"{platform}_{sensed}_{tile.removeprefix('T')}_{orbit}"

    def again(self, **changes: Any) -> Cut:
        """Return another delivery of the same acquisition."""
        return replace(self, **changes)


def deliver(cut: Cut, folder: Path, files_url: str) -> dict[str, Any]:
    """Write a delivery's files below a folder that is served and return its STAC item."""
    item = json.loads(cut.patch.read_text())
    place = folder / cut.product
    place.mkdir(parents=True, exist_ok=True)
    assets = {}
    for band, source in band_files(cut.patch).items():
        target = place / f"{band}.tif"
        bounds, crs = _write_band(source, target, cut)
        assets[band] = item["assets"][band] | {"href": f"{files_url}/{cut.product}/{band}.tif"}
        for name in ("proj:shape", "proj:transform"):
            assets[band].pop(name)
    _write_classes(place / "B05.tif", place / "SCL.tif", CLOUD if cut.cloudy else VEGETATION)
    assets["SCL"] = {"href": f"{files_url}/{cut.product}/SCL.tif", "gsd": 20, "roles": ["classification"]}
    if cut.corrupt:
        (place / f"{CORRUPT_BAND}.tif").write_bytes(b"\0not a raster" * 40)
    stamp = cut.published.isoformat().replace("+00:00", "Z")
    geometry, bbox = _outline(bounds, crs)
    kept = {name: item["properties"][name] for name in ("platform", "grid:code", "sat:relative_orbit")}
    properties = kept | {
        "datetime": cut.sensed.isoformat().replace("+00:00", "Z"),
        "created": stamp, "updated": stamp, "published": stamp,
        "s2:product_uri": f"{cut.product}.SAFE",
        "s2:generation_time": (cut.generated or cut.sensed + timedelta(hours=2)).isoformat().replace("+00:00", "Z"),
        **({"s2:datastrip_id": cut.datastrip} if cut.datastrip else {}),
        **cut.facts,
    }  # fmt: skip
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": cut.product, "geometry": geometry, "bbox": bbox,
        "properties": properties, "assets": assets, "links": [],
    }  # fmt: skip


def region(name: str, *items: dict[str, Any], margin: float = 0.002, **properties: Any) -> dict[str, Any]:
    """Return a region's feature that holds some items, degrees."""
    boxes = [item["bbox"] for item in items]
    west, south = min(box[0] for box in boxes) - margin, min(box[1] for box in boxes) - margin
    east, north = max(box[2] for box in boxes) + margin, max(box[3] for box in boxes) + margin
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "id": name, "geometry": geometry, "properties": {"cloud_limit": 0.6, **properties}}


def _write_band(source: Path, target: Path, cut: Cut) -> tuple[tuple[float, float, float, float], str]:
    with rasterio.open(source) as file:
        pixels, profile = file.read(1), file.profile
        metres = file.transform.a
    times = round(COARSE_METRES / metres)
    column, row, width, height = (times * edge for edge in cut.window)
    pixels = pixels[row : row + height, column : column + width]
    pixels = np.pad(pixels, [(0, edge * (cut.grown - 1)) for edge in pixels.shape], mode="symmetric")
    transform = profile["transform"] @ Affine.translation(column, row)
    profile.update(
        driver="GTiff", height=pixels.shape[0], width=pixels.shape[1], transform=transform, compress="deflate",
        tiled=False,
    )  # fmt: skip
    for name in ("blockxsize", "blockysize"):
        profile.pop(name, None)
    with rasterio.open(target, "w", **profile) as file:
        file.write(pixels, 1)
        return tuple(file.bounds), str(file.crs)


def _write_classes(like: Path, target: Path, value: int) -> None:
    with rasterio.open(like) as file:
        profile = file.profile | {"dtype": "uint8", "nodata": 0}
        shape = file.shape
    with rasterio.open(target, "w", **profile) as file:
        file.write(np.full(shape, value, np.uint8), 1)


def _outline(bounds: tuple[float, float, float, float], crs: str) -> tuple[dict[str, Any], list[float]]:
    left, bottom, right, top = bounds
    project = Transformer.from_crs(crs, 4326, always_xy=True)
    corners = ((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom))
    ring = [[round(value, 7) for value in project.transform(*corner)] for corner in corners]
    longitudes, latitudes = zip(*ring, strict=True)
    box = [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]
    return {"type": "Polygon", "coordinates": [ring]}, box
