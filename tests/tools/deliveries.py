"""Deliveries of a few days in November over three regions, made of the demonstration's real patches, one by one.

Days ago count back from today: yesterday's lake is under cloud, yesterday's snow is a file that arrived cut off, and
yesterday's Austrian crops never come, so that there is something to look for.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import rasterio

from infra.demo.archive import find_archive, read_patches
from infra.demo.items import Delivery, build_item, surroundings
from infra.sources.acquisition import SCENE_CLASSES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PASTURES, _HILLS = "S2A_MSIL2A_20170617T113321_4_55", "S2A_MSIL2A_20171221T112501_56_35"
_FIELDS, _CROPS = "S2A_MSIL2A_20170617T113321_36_85", "S2A_MSIL2A_20170613T101031_87_48"
_LAKE, _SNOW = "S2B_MSIL2A_20170924T93020_69_24", "S2B_MSIL2A_20180204T94161_57_38"

_PLACES: Final = {
    _PASTURES: ("pastures", 11), _FIELDS: ("fields", 21), _CROPS: ("crops", 31), _HILLS: ("hills", 41),
    _LAKE: ("lake", 51), _SNOW: ("snow", 56),
}  # fmt: skip
"""What it shows, and the minute after ten at which it is said to be sensed: patches of one tile are no twins here."""

REGIONS: Final[dict[str, tuple[str, ...]]] = {
    "ireland": (_PASTURES, _FIELDS),
    "alps-and-iberia": (_CROPS, _HILLS),
    "finland": (_LAKE, _SNOW),
}
_MARGIN_M: Final = 200.0
_VEGETATION, _CLOUD = 4, 9
"""Classes of Sentinel-2's scene classification. ESA, Sentinel-2 Level-2A Algorithm Theoretical Basis Document."""


@dataclass(frozen=True)
class Coming:
    """One delivery before it is made."""

    patch: str
    days_ago: int
    kind: str = "good"
    """``good``, ``cloudy``, ``cut off`` (a truncated file), ``twice`` (another id) or ``reprocessed``."""


PLAN: Final = (
    *(Coming(patch, 3) for patch in (_PASTURES, _HILLS, _FIELDS, _CROPS, _LAKE, _SNOW)),
    Coming(_PASTURES, 2), Coming(_HILLS, 2), Coming(_CROPS, 2), Coming(_LAKE, 2, "twice"), Coming(_LAKE, 2),
    Coming(_PASTURES, 1), Coming(_LAKE, 1, "cloudy"), Coming(_SNOW, 1, "cut off"), Coming(_HILLS, 1),
    Coming(_FIELDS, 1), Coming(_CROPS, 3, "reprocessed"), Coming(_FIELDS, 2), Coming(_SNOW, 2, "cloudy"),
    Coming(_PASTURES, 4),
)  # fmt: skip
"""In the order of delivery; the first six are there at the start."""
AT_START: Final = 6


class Deliveries:
    """Writes deliveries into a folder that a folder source reads."""

    def __init__(self, folder: Path) -> None:
        self.items, self.regions_file, self._waiting = folder / "items", folder / "regions.geojson", folder / "waiting"
        self._patches = {patch.name: patch for patch in read_patches(find_archive())}
        for place in (self.items, self._waiting):
            place.mkdir(parents=True)
        self.regions_file.write_text(json.dumps(self._regions()))

    def deliver(self, coming: Coming, now: datetime) -> str:
        """Put one delivery where the source is looked for: all files, then at once visible.

        Args:
            coming: What is delivered.
            now: Its time of publication, aware.

        Returns:
            The item's id.
        """
        patch = self._patches[coming.patch]
        day = (now - timedelta(days=coming.days_ago)).date()
        place, minute = _PLACES[coming.patch]
        patch = replace(patch, sensed=datetime.combine(day, time(10, minute, 31), UTC))
        name = f"{place}_{patch.tile}_{day:%Y%m%d}"
        name += {"twice": "_again", "reprocessed": "_reprocessed"}.get(coming.kind, "")
        folder = self._waiting / name
        folder.mkdir()
        for band, content in patch.files.items():
            damaged = coming.kind == "cut off" and band == "B05"
            (folder / f"{band}.tif").write_bytes(content[: len(content) // 2] if damaged else content)
        _write_classes(folder, cloudy=coming.kind == "cloudy")
        item = build_item(Delivery(patch, name, name, "A redated real patch.", patch.tile, "tests"), now)
        item["properties"]["s2:processing_baseline"] = "05.12" if coming.kind == "reprocessed" else "05.11"
        item["properties"]["view:sun_elevation"] = 35.0
        item["assets"][SCENE_CLASSES] = {"href": "./SCL.tif", "type": "image/tiff; application=geotiff"}
        (folder / f"{name}.json").write_text(json.dumps(item))
        shutil.move(folder, self.items / name)
        return name

    def _regions(self) -> Mapping[str, Any]:
        return {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "id": region,
                    "properties": {"title": region, "cloud_limit": 0.6, "crop": True},
                    "geometry": {
                        "type": "MultiPolygon",
                        "coordinates": [surroundings(self._patches[name], _MARGIN_M) for name in names],
                    },
                }
                for region, names in REGIONS.items()
            ],
        }


def _write_classes(folder: Path, *, cloudy: bool) -> None:
    """Write a scene classification on the grid of a 20 m band: clear, or four fifths cloud."""
    with rasterio.open(folder / "B11.tif") as band:
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": band.crs, "transform": band.transform,
                   "width": band.width, "height": band.height}  # fmt: skip
    classes = np.full((profile["height"], profile["width"]), _VEGETATION, np.uint8)
    if cloudy:
        classes[: profile["height"] * 4 // 5] = _CLOUD
    with rasterio.open(folder / "SCL.tif", "w", **profile) as file:
        file.write(classes, 1)
