"""Write a whole Sentinel-2 L2A scene, made window by window, in the layout in which archives deliver it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window as RasterWindow

from infra.scene import Window
from infra.scene.grid import ALIGNMENT
from infra.scenegen.classes import scene_classes
from infra.scenegen.description import (
    ADD_OFFSET,
    METRES,
    PRODUCT,
    QUANTIFICATION,
    image_path,
    scene_grid,
    write_item,
    write_product_metadata,
)
from infra.scenegen.landscape import Landscape
from infra.scenegen.patchwork import Patchwork
from infra.settings import FolderSourceSettings, SafeSourceSettings
from infra.sources.acquisition import SCENE_CLASSES
from model.bands import SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from infra.scenegen.chips import Chip
    from infra.scenegen.ground import Ground, GroundPixels
    from infra.settings import SourceSettings

Layout = Literal["cog", "safe"]
"""GeoTIFFs with a STAC item, or JPEG 2000 in a product folder."""

TILE: Final = 10_980
"""Edge of a Sentinel-2 tile, pixels."""

_CELL: Final = 768
"""Edge of what is made at once, 10 m pixels; a multiple of 60 m pixels."""

_CACHE_BYTES: Final = 64 * 1024 * 1024
_ENVIRONMENT: Final = {
    "GDAL_CACHEMAX": _CACHE_BYTES,
    "GDAL_NUM_THREADS": "1",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_TIFF_INTERNAL_MASK": "NO",
}
_WRITERS: Final = 2

_COG: Final = {"driver": "COG", "COMPRESS": "DEFLATE", "PREDICTOR": "YES", "BLOCKSIZE": "512", "BIGTIFF": "NO"}
"""As Earth Search delivers bands."""
_JP2: Final = {
    "driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": "1024", "BLOCKYSIZE": "1024",
    "PROGRESSION": "LRCP",
}  # fmt: skip
"""Without loss, in tiles of 1024, as ESA's products hold 10 m bands."""

_DARKEST: Final = 1
_BRIGHTEST: Final = 65_534
"""Stored values that are neither missing nor saturated."""

_NOISE_FLOOR: Final = 0.0008
_NOISE_SLOPE: Final = 0.006
"""Noise of a pixel, reflectance: floor + slope * reflectance; signal-to-noise ratios of 80-170, about the sensor's."""

Progress = Callable[[str, float], object]


@dataclass(frozen=True)
class GeneratedScene:
    """A scene on disk."""

    folder: Path
    layout: Layout
    size: int
    """Pixels at 10 m along one edge."""
    texture: str
    """What it was grown from, for people."""
    made: bool
    """Whether this call made it; else it was there."""

    @property
    def source(self) -> SourceSettings:
        """Return the source that finds it."""
        if self.layout == "safe":
            return SafeSourceSettings(name="generated", path=self.folder)
        return FolderSourceSettings(name="generated", path=self.folder)

    @property
    def input_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def generate_scene(
    folder: Path,
    size: int,
    *,
    layout: Layout = "cog",
    chips: Sequence[Chip] = (),
    seed: int = 0,
    progress: Progress = lambda _step, _done: None,
) -> GeneratedScene:
    """Make a scene, or find the one that the same call made before.

    Memory is bounded whatever the size: one cell of ground, and GDAL's cache of 64 MiB. The disk holds each band once
    more, uncompressed, until it is encoded.

    Args:
        folder: Where scenes lie; each goes into a subfolder named by what decides its pixels.
        size: Pixels at 10 m along one edge: a multiple of 6, up to 10 980.
        layout: How it is delivered.
        chips: Real ground to grow it from; none for a synthetic landscape.
        seed: Same seed, chips and versions of numpy and GDAL: same bytes.
        progress: Told the step and the fraction of it that is done, 0-1.

    Returns:
        The scene.

    Raises:
        ValueError: the size is no tile's.
    """
    if not (0 < size <= TILE and size % ALIGNMENT == 0):
        msg = f"a scene of {size} pixels cannot be made; expected a multiple of {ALIGNMENT} up to {TILE}"
        raise ValueError(msg)
    digest = hashlib.sha256()
    for chip in chips:
        digest.update(chip.pixels.b10.tobytes())
    texture = f"{len(chips)} real chips" if chips else "a synthetic landscape"
    kind = digest.hexdigest()[:8] if chips else "synthetic"
    target = folder / f"{layout}-{size}-{kind}-{seed}"
    if target.is_dir():
        return GeneratedScene(target, layout, size, texture, made=False)
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    ground: Ground = Patchwork(chips, seed) if chips else Landscape(seed)
    try:
        with rasterio.Env(**_ENVIRONMENT):
            _draw(partial, size, ground, seed, progress)
        _encode(partial, size, layout, progress)
        if layout == "cog":
            write_item(partial, size, f"Generated scene of {size} x {size} pixels from {texture}")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return GeneratedScene(target, layout, size, texture, made=True)


def _draw(folder: Path, size: int, ground: Ground, seed: int, progress: Progress) -> None:
    """Write every band uncompressed, cell by cell."""
    grid = scene_grid(size)
    cells = list(_cells(size))
    with ExitStack() as stack:
        files = {}
        for name, metres in METRES.items():
            profile = {
                "driver": "GTiff", "count": 1, "crs": grid.crs, "dtype": "uint8" if name == SCENE_CLASSES else "uint16",
                "width": size * 10 // metres, "height": size * 10 // metres, "bigtiff": "NO",
                "transform": rasterio.Affine(metres, 0, grid.transform[2], 0, -metres, grid.transform[5]),
            }  # fmt: skip
            files[name] = stack.enter_context(rasterio.open(_raw(folder, name), "w", **profile))
        for position, cell in enumerate(cells):
            for name, stored in _stored(ground.look(cell), cell, noisy=ground.noise_free, seed=seed).items():
                step = METRES[name] // 10
                place = RasterWindow(cell.column // step, cell.row // step, cell.width // step, cell.height // step)
                files[name].write(stored, 1, window=place)
            progress("drawing the ground", (position + 1) / len(cells))


def _stored(pixels: GroundPixels, cell: Window, *, noisy: bool, seed: int) -> dict[str, NDArray[Any]]:
    """Return what each file holds of a cell: stored numbers with the offset, and the classes."""
    stored: dict[str, NDArray[Any]] = {SCENE_CLASSES: scene_classes(pixels)}
    for name, plane in pixels.planes().items():
        seen = plane
        if noisy:
            generator = np.random.default_rng([seed, SOURCE_BAND_NAMES.index(name), cell.column, cell.row])
            noise = generator.standard_normal(plane.shape, np.float32)
            seen = plane + noise * (_NOISE_FLOOR + _NOISE_SLOPE * plane)
        number = np.rint(seen * QUANTIFICATION) + ADD_OFFSET
        stored[name] = np.clip(number, _DARKEST, _BRIGHTEST).astype(np.uint16)
    return stored


def _encode(folder: Path, size: int, layout: Layout, progress: Progress) -> None:
    """Turn the uncompressed bands into what is delivered, two at a time; each writes the same bytes alone."""
    product = folder / f"{PRODUCT}.SAFE"

    def encode(name: str) -> None:
        target = folder / f"{name}.tif" if layout == "cog" else product / image_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = _raw(folder, name)
        with rasterio.Env(**_ENVIRONMENT):  # GDAL's settings belong to the thread
            if layout == "cog":
                overviews = "NEAREST" if name == SCENE_CLASSES else "AVERAGE"
                with rasterio.open(raw, "r+") as source:
                    source.nodata = 0
                rasterio.shutil.copy(raw, target, OVERVIEW_RESAMPLING=overviews, **_COG)
            else:
                rasterio.shutil.copy(raw, target, **_JP2)
        raw.unlink()

    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="encode") as pool:
        for position, _ in enumerate(pool.map(encode, METRES)):
            progress("encoding the bands", (position + 1) / len(METRES))
    if layout == "safe":
        write_product_metadata(product, size)


def _raw(folder: Path, name: str) -> Path:
    return folder / f"raw-{name}.tif"


def _cells(size: int) -> Iterator[Window]:
    for row in range(0, size, _CELL):
        for column in range(0, size, _CELL):
            yield Window(column, row, min(_CELL, size - column), min(_CELL, size - row))
