"""A scene: twelve bands at their own resolution, read lazily by window, as reflectance."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from infra.scene.access import asset_access
from infra.scene.alignment import common_grid
from infra.scene.errors import MissingBand, UnknownPlatform
from infra.scene.grid import ALIGNMENT
from infra.scene.radiometry import NODATA_DN, SATURATED_DN, decide_radiometry
from infra.scene.raster import BandRaster
from infra.scene.secrecy import guard_gdal_logs
from infra.sources.acquisition import SCENE_CLASSES
from infra.stage_clock import StageName
from model.bands import BANDS_BY_RESOLUTION, PLATFORMS, SOURCE_BAND_NAMES, SOURCE_BANDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from infra.scene.access import AssetAccess
    from infra.scene.grid import Grid, Window
    from infra.scene.radiometry import Radiometry
    from infra.scene.raster import Stored
    from infra.settings import SourceSettings
    from infra.sources.acquisition import Acquisition
    from infra.stage_clock import StageClock

logger = logging.getLogger(__name__)

_CLASSES_METRES: Final = 20

_READERS: Final = min(13, 2 * (os.cpu_count() or 1))
"""Threads per scene that decode bands, or wait for them; no more than there are files."""


@dataclass(frozen=True)
class Pixels:
    """What a window of a scene holds; h and w are the window's, in 10 m pixels."""

    window: Window
    b10: NDArray[np.float32]
    """(4, h, w) surface reflectance of B02 B03 B04 B08, 0-1 (slightly outside is kept); nan = no data."""
    b20: NDArray[np.float32]
    """(6, h / 2, w / 2) surface reflectance of B05 B06 B07 B8A B11 B12; nan = no data."""
    b60: NDArray[np.float32]
    """(2, h / 6, w / 6) surface reflectance of B01 B09; nan = no data."""
    valid: NDArray[np.bool_]
    """(h, w) whether a pixel and all its parents at 20 and 60 m have data."""
    saturated: NDArray[np.bool_]
    """(h, w) whether a pixel or any of its parents is saturated in some band."""
    scl: NDArray[np.uint8] | None
    """(h / 2, w / 2) scene classes of Sen2Cor, 0 = no data; None when the scene has none."""


class Scene:
    """An open scene. Use `open_scene`; read from any thread; close it, or use it as a context."""

    def __init__(
        self,
        platform: str,
        grid: Grid,
        radiometry: Radiometry,
        rasters: Mapping[str, BandRaster],
        nodata: Mapping[str, float | None],
        access: AssetAccess,
    ) -> None:
        self.platform = platform
        self.grid = grid
        self.radiometry = radiometry
        self._rasters = rasters
        self._nodata = nodata
        self._access = access
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="band")

    @property
    def has_scl(self) -> bool:
        """Whether the scene carries classes."""
        return SCENE_CLASSES in self._rasters

    def read(self, window: Window, clock: StageClock | None = None) -> Pixels:
        """Read a window of all bands.

        Args:
            window: Aligned to 60 m; may reach beyond the raster, where there is no data.
            clock: Told what the threads that decode bands cost; the caller's own thread is the caller's to count.

        Returns:
            The window's pixels.

        Raises:
            ValueError: the window is not aligned to 60 m or is empty.
            UnreadableRaster: a file is truncated or corrupt.
            RasterUnreachable: the network failed; worth another try.
        """
        if not window.aligned or window.width <= 0 or window.height <= 0:
            raise ValueError(f"{window} is empty or does not begin and end on multiples of {ALIGNMENT} pixels")
        valid = np.ones((window.height, window.width), np.bool_)
        saturated = np.zeros_like(valid)
        stored = self._fetch(window, self._rasters, clock)
        b10, b20, b60 = (self._stack(stored, metres, valid, saturated) for metres in BANDS_BY_RESOLUTION)
        return Pixels(window, b10, b20, b60, valid, saturated, _classes(stored))

    def read_classes(self, window: Window) -> NDArray[np.uint8] | None:
        """Read only the scene classes of a window.

        Args:
            window: As for `read`.

        Returns:
            (h / 2, w / 2) uint8, 0 = no data; None when the scene has none.
        """
        return _classes(self._fetch(window, [SCENE_CLASSES] if self.has_scl else []))

    def read_coarse_validity(self, window: Window) -> NDArray[np.bool_]:
        """Read where the 60 m bands have data: a cheap estimate of `Pixels.valid` for large windows.

        Args:
            window: As for `read`.

        Returns:
            (h / 6, w / 6) whether every 60 m band has data.
        """
        valid = np.ones((window.height // ALIGNMENT, window.width // ALIGNMENT), np.bool_)
        for name, stored in self._fetch(window, BANDS_BY_RESOLUTION[60]).items():
            valid &= ~self._is_nodata(name, stored)
        return valid

    def close(self) -> None:
        """Close all files, after the reads that are under way."""
        self._pool.shutdown()
        for raster in self._rasters.values():
            raster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fetch(self, window: Window, names: Iterable[str], clock: StageClock | None = None) -> dict[str, Stored]:
        """Read the stored values of several bands at once: decoding and waiting for the network overlap."""
        asked = {name: self._pool.submit(self._stored, name, window, clock) for name in names}
        wait(asked.values())
        return {name: future.result() for name, future in asked.items()}

    def _stored(self, name: str, window: Window, clock: StageClock | None) -> Stored:
        raster = self._rasters[name]
        step = raster.metres // 10
        worked = time.thread_time()
        try:
            with self._access.environment():  # GDAL's settings belong to the thread
                return raster.read(
                    window.column // step, window.row // step, window.width // step, window.height // step
                )
        finally:
            if clock is not None:
                clock.add(StageName.READ, time.thread_time() - worked)

    def _stack(
        self, stored: Mapping[str, Stored], metres: int, valid: NDArray[np.bool_], saturated: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Decode all bands of one resolution; narrows `valid` and widens `saturated` in place."""
        names, step = BANDS_BY_RESOLUTION[metres], metres // 10
        out = np.empty((len(names), *stored[names[0]].shape), np.float32)
        for plane, name in zip(out, names, strict=True):
            missing = self._is_nodata(name, stored[name])
            _spread(valid, step)[...] &= ~missing[:, None, :, None]
            _spread(saturated, step)[...] |= (stored[name] == SATURATED_DN)[:, None, :, None]
            scale, offset = self.radiometry.scale[name], self.radiometry.offset[name]
            plane[...] = stored[name].astype(np.float64) * scale + offset
            plane[missing] = np.nan
        return out

    def _is_nodata(self, name: str, stored: Stored) -> NDArray[np.bool_]:
        missing: NDArray[np.bool_] = np.equal(stored, NODATA_DN)
        declared = self._nodata[name]
        if declared is not None:
            missing |= np.equal(stored, declared)
        return missing


def _classes(stored: Mapping[str, Stored]) -> NDArray[np.uint8] | None:
    return stored[SCENE_CLASSES].astype(np.uint8) if SCENE_CLASSES in stored else None


def _spread(plane: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    """View (h, w) as (h / step, step, w / step, step), so that coarse pixels reach their children."""
    height, width = plane.shape
    return plane.reshape(height // step, step, width // step, step)


def open_scene(acquisition: Acquisition, source: SourceSettings) -> Scene:
    """Open a scene's files and check them against each other before a pixel is read.

    Args:
        acquisition: What the source delivered.
        source: The source's settings: where assets may lie, and the credentials.

    Returns:
        The scene; close it.

    Raises:
        SceneRefused: platform or radiometry is not understood; a rejection.
        SceneError: a band is missing, unreadable, forbidden, absurd or misaligned; `transient` tells whether to retry.
    """
    if acquisition.key.platform not in PLATFORMS:
        raise UnknownPlatform(
            f"{acquisition.item_id}: platform is {acquisition.key.platform!r}; expected one of {', '.join(PLATFORMS)}"
        )
    missing = [name for name in SOURCE_BAND_NAMES if name not in acquisition.assets]
    if missing:
        raise MissingBand(
            f"{acquisition.item_id}: no asset for {', '.join(missing)} at the band's own resolution; "
            f"found {', '.join(acquisition.assets) or 'none'}"
        )
    radiometry = decide_radiometry(acquisition)
    access = asset_access(source)
    guard_gdal_logs()
    with ExitStack() as opened, access.environment():
        rasters = {}
        for name, metres in _files(acquisition):
            raster = BandRaster(name, access.locate(acquisition.assets[name].href), metres)
            opened.callback(raster.close)
            rasters[name] = raster
        grid = common_grid(rasters, acquisition)
        opened.pop_all()
    logger.debug("opened %s: %s, %s", acquisition.item_id, grid, radiometry.rule)
    nodata = {name: asset.nodata for name, asset in acquisition.assets.items()}
    return Scene(acquisition.key.platform, grid, radiometry, rasters, nodata, access)


def _files(acquisition: Acquisition) -> list[tuple[str, int]]:
    files = [(band.name, band.resolution_m) for band in SOURCE_BANDS]
    return [*files, (SCENE_CLASSES, _CLASSES_METRES)] if SCENE_CLASSES in acquisition.assets else files
