"""Scenes made for tests from real imagery: grown, cut, damaged; never noise where texture matters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

# For measured processes. The kernel's figure for this program alone: `getrusage` carries the high-water mark of the
# process that started it over the start, and pytest itself grows to gigabytes.
PEAK_RSS = """
def peak_rss():
    with open("/proc/self/status", encoding="ascii") as status:
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
"""


def band_files(item_path: Path) -> dict[str, Path]:
    """Return the local band files of a STAC item, by asset key."""
    item = json.loads(item_path.read_text())
    return {name: (item_path.parent / asset["href"]).resolve() for name, asset in item["assets"].items()}


def copy_item(item_path: Path, folder: Path, **properties) -> Path:
    """Copy an item and its files into a folder of its own and change some properties (None removes one)."""
    folder.mkdir(parents=True, exist_ok=True)
    item = json.loads(item_path.read_text())
    for name, source in band_files(item_path).items():
        shutil.copy(source, folder / source.name)
        item["assets"][name]["href"] = source.name
    for key, value in properties.items():
        name = key.replace("__", ":")
        if value is None:
            item["properties"].pop(name, None)
        else:
            item["properties"][name] = value
    target = folder / item_path.name
    target.write_text(json.dumps(item))
    return target


def grow_item(item_path: Path, folder: Path, times: int) -> Path:
    """Make a scene `times` as wide and high by mirroring a real patch, tiled as deliveries are."""
    target = copy_item(item_path, folder)
    for path in band_files(target).values():
        with rasterio.open(path) as file:
            pixels, profile = file.read(1), file.profile
        grown = np.pad(pixels, [(0, edge * (times - 1)) for edge in pixels.shape], mode="symmetric")
        profile.update(
            driver="GTiff", width=grown.shape[1], height=grown.shape[0], tiled=True, blockxsize=256, blockysize=256,
            compress="deflate",
        )  # fmt: skip
        path.unlink()
        with rasterio.open(path, "w", **profile) as file:
            file.write(grown, 1)
    _cover(target, times)
    return target


def edit_band(item_path: Path, band: str, change) -> None:
    """Rewrite one band's file: `change(pixels, profile)` returns the new pixels and may edit the profile."""
    path = band_files(item_path)[band]
    with rasterio.open(path) as file:
        pixels, profile = file.read(1), file.profile
    pixels = change(pixels, profile)
    profile.update(width=pixels.shape[1], height=pixels.shape[0])
    path.unlink()
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels, 1)


def shifted(profile, metres: float) -> None:
    """Move a raster east."""
    profile["transform"] = Affine.translation(metres, 0) @ profile["transform"]


def _cover(item_path: Path, times: int) -> None:
    """Stretch the item's footprint over its grown rasters."""
    item = json.loads(item_path.read_text())
    west, south, east, north = item["bbox"]
    east, south = west + (east - west) * times, north - (north - south) * times
    item["bbox"] = [west, south, east, north]
    corners = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item["geometry"] = {"type": "Polygon", "coordinates": [corners]}
    item_path.write_text(json.dumps(item))
