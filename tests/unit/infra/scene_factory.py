"""Small scenes made on the spot: twelve bands of known numbers, as GeoTIFF or JPEG 2000, with their STAC item."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.errors import NotGeoreferencedWarning

from infra.settings import FolderSourceSettings, Region
from infra.sources import Acquisition, open_source
from model.bands import SOURCE_BANDS

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
METRES = {band.name: band.resolution_m for band in SOURCE_BANDS}
SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def polygon(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def region(west=-180.0, south=-89.0, east=180.0, north=89.0, *, crop=True) -> Region:
    return Region(id="here", geometry=polygon(west, south, east, north), crop=crop)


@dataclass
class SceneFactory:
    """Writes a scene into a folder; change its fields, or the files, before opening it."""

    folder: Path
    width: int = 120
    height: int = 96
    epsg: int = 32629
    left: float = 600_000.0
    top: float = 5_000_040.0
    classes: bool = True
    properties: dict[str, Any] = field(default_factory=dict)
    declare: dict[str, float] = field(default_factory=lambda: {"raster:scale": 1e-4, "raster:offset": 0})
    stored: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        for band in SOURCE_BANDS:
            shape = (self.height * 10 // band.resolution_m, self.width * 10 // band.resolution_m)
            self.stored[band.name] = rng.integers(1, 12_000, shape, dtype=np.uint16)
        if self.classes:
            self.stored["SCL"] = rng.integers(4, 7, (self.height // 2, self.width // 2), dtype=np.uint8)

    def metres(self, name: str) -> int:
        return METRES.get(name, 20)

    def profile(self, name: str, **changes: Any) -> dict[str, Any]:
        metres, array = self.metres(name), self.stored[name]
        return {
            "width": array.shape[1],
            "height": array.shape[0],
            "count": 1,
            "dtype": array.dtype.name,
            "crs": f"EPSG:{self.epsg}",
            "transform": rasterio.Affine(metres, 0, self.left, 0, -metres, self.top),
        } | changes

    def write_band(self, name: str, **changes: Any) -> Path:
        path = self.folder / f"{name}.tif"
        write_raster(path, self.stored[name], driver="GTiff", **self.profile(name, **changes))
        return path

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.stored:
            self.write_band(name)
        self.write_item()

    def footprint(self) -> dict[str, Any]:
        project = Transformer.from_crs(self.epsg, 4326, always_xy=True)
        return polygon(
            *project.transform_bounds(
                self.left, self.top - self.height * 10, self.left + self.width * 10, self.top, densify_pts=21
            )
        )

    def item(self, **changes: Any) -> dict[str, Any]:
        assets = {
            name: {"href": f"./{name}.tif", "gsd": self.metres(name), **({} if name == "SCL" else self.declare)}
            for name in self.stored
        }
        properties = {
            "datetime": "2023-06-17T11:33:41.024Z",
            "platform": "sentinel-2a",
            "grid:code": "MGRS-29UPU",
            "sat:relative_orbit": 80,
        }
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": "made-for-a-test",
            "geometry": self.footprint(),
            "properties": properties | self.properties,
            "links": [],
            "assets": assets,
        } | changes

    def write_item(self, **changes: Any) -> None:
        (self.folder / "item.json").write_text(json.dumps(self.item(**changes)), encoding="utf-8")

    @property
    def settings(self) -> FolderSourceSettings:
        return FolderSourceSettings(name="made", path=self.folder)

    def acquisition(self) -> Acquisition:
        [found] = open_source(self.settings).search(region(), LONG_AGO)
        assert isinstance(found, Acquisition), found
        return found


def write_raster(path: Path, array: np.ndarray, **profile: Any) -> None:
    """Write one band; JPEG 2000 without loss."""
    if profile["driver"] == "JP2OpenJPEG":
        profile |= {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            file.write(array, 1)


def whole(stored: np.ndarray, scale: float = 1e-4, offset: float = 0.0) -> np.ndarray:
    """Decode stored values in float64: the oracle of every read."""
    return np.where(stored == 0, np.nan, stored.astype(np.float64) * scale + offset)
