"""What the gates ask of a scene before the model sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from infra.scene.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from infra.scene.reader import Scene

CLOUD_CLASSES: Final = (8, 9, 10)
"""Cloud of medium and high probability, thin cirrus. ESA, Level-2A ATBD, scene classification."""

SHADOW_CLASSES: Final = (3,)
"""Cloud shadow. Same source."""

_CELL: Final = 768
_EXACT_PIXELS: Final = 4096 * 4096


@dataclass(frozen=True)
class Survey:
    """What a window holds, as fractions."""

    valid_fraction: float
    """Share of the window's pixels with data in every band, 0-1."""
    cloud_fraction: float | None
    """Share of the valid pixels under cloud or cirrus by the scene's own classes, 0-1; None without classes, 0 without
    valid pixels."""
    shadow_fraction: float | None
    """Share of the valid pixels in cloud shadow, likewise."""
    exact: bool
    """Whether every band was read; else validity is that of the 60 m bands and the scene classes."""


def survey(scene: Scene, window: Window, *, exact: bool | None = None) -> Survey:
    """Measure validity, cloud and shadow over a window.

    Args:
        scene: The open scene.
        window: Aligned to 60 m and inside the raster.
        exact: Read every band; by default only for windows up to 4096 x 4096 pixels, so that a whole tile is not
            fetched twice.

    Returns:
        The fractions.
    """
    exact = window.width * window.height <= _EXACT_PIXELS if exact is None else exact
    valid = cloud = shadow = 0
    for cell in _cells(window):
        weight, classes = _exact_cell(scene, cell) if exact else _coarse_cell(scene, cell)
        valid += int(weight.sum())
        if classes is not None:
            cloud += int(weight[np.isin(classes, CLOUD_CLASSES)].sum())
            shadow += int(weight[np.isin(classes, SHADOW_CLASSES)].sum())

    def share(pixels: int) -> float | None:
        if not scene.has_scl:
            return None
        return pixels / valid if valid else 0.0

    return Survey(valid / (window.width * window.height), share(cloud), share(shadow), exact)


def _exact_cell(scene: Scene, cell: Window) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
    """Return the number of valid 10 m pixels in each 20 m pixel, and the classes there."""
    pixels = scene.read(cell)
    pairs = pixels.valid.reshape(cell.height // 2, 2, cell.width // 2, 2)
    return pairs.sum(axis=(1, 3), dtype=np.int64), pixels.scl


def _coarse_cell(scene: Scene, cell: Window) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
    """Estimate the same from the 60 m bands and the classes alone."""
    valid = np.repeat(np.repeat(scene.read_coarse_validity(cell), 3, axis=0), 3, axis=1)
    classes = scene.read_classes(cell)
    if classes is not None:
        valid &= classes != 0
    return valid.astype(np.int64) * 4, classes


def _cells(window: Window) -> Iterator[Window]:
    for row in range(window.row, window.row + window.height, _CELL):
        height = min(_CELL, window.row + window.height - row)
        for column in range(window.column, window.column + window.width, _CELL):
            yield Window(column, row, min(_CELL, window.column + window.width - column), height)
