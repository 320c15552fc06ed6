"""Scene classes of generated ground, by simple rules on its own reflectance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from infra.scenegen.ground import GroundPixels, area_mean
from model.bands import BANDS_BY_RESOLUTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

VEGETATION: Final = 4
BARE: Final = 5
WATER: Final = 6
SNOW: Final = 11
"""Codes of Sen2Cor's scene classification. ESA, Level-2A ATBD."""


def scene_classes(ground: GroundPixels) -> NDArray[np.uint8]:
    """Return (h / 2, w / 2) classes: vegetation, bare, water or snow. Generated ground has no clouds."""
    _, green, red, _ = (area_mean(plane, 2) for plane in ground.b10)
    coarse = BANDS_BY_RESOLUTION[20]
    near, short = ground.b20[coarse.index("B8A")], ground.b20[coarse.index("B11")]
    classes = np.full(near.shape, BARE, np.uint8)
    classes[_difference(near, red) > 0.35] = VEGETATION
    classes[(_difference(green, near) > 0.1) & (near < 0.12)] = WATER
    classes[(_difference(green, short) > 0.4) & (green > 0.35)] = SNOW
    return classes


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the normalised difference of two bands."""
    difference: NDArray[np.float32] = (one - other) / np.maximum(one + other, np.float32(1e-4))
    return difference
