"""Changing a patch in one known way: something put in front of it, an offset missed, bands swapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.duality import Multispectral
from model.errors import InvalidImage
from model.fusion import down

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSED_OFFSET: Final[float] = 0.1
"""Reflectance by which a product of baseline 04.00 or later is too bright when its offset of -1000 DN is not applied
(ESA, Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD, ``BOA_ADD_OFFSET``)."""

CLOUD: Final[NDArray[np.float64]] = np.array([0.72, 0.72, 0.71, 0.70, 0.70, 0.70, 0.69, 0.69, 0.69, 0.66, 0.52, 0.38])
"""(12,) reflectance of an opaque cloud: white, and lower in B11 and B12 where droplets and ice absorb (Nakajima & King,
"Determination of the optical thickness and effective particle radius of clouds", J. Atmos. Sci. 47, 1990)."""

LARGEST_OPACITY: Final[float] = 0.6

TARGET: Final[int] = 6
"""Edge of an inserted target, 10 m pixels."""


def blend(msi: Multispectral, share: NDArray[np.floating], bands: NDArray[np.floating]) -> Multispectral:
    """Put something in front of a patch, each band at its own resolution.

    Args:
        msi: the patch.
        share: (h, w) part of each 10 m pixel it covers, 0-1.
        bands: (12,) its reflectance in the source bands.

    Returns:
        The patch with it.
    """
    fine = torch.as_tensor(np.asarray(share, np.float32))

    def mixed(source: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
        ratio = resolution // 10
        seen = (fine if ratio == 1 else down(fine[None], ratio)[0]).clamp(0.0, 1.0).numpy()
        rows = [SOURCE_BAND_NAMES.index(name) for name in BANDS_BY_RESOLUTION[resolution]]
        colour = np.asarray(bands, np.float32)[rows][:, None, None]
        return np.asarray((1 - seen) * source + seen * colour, np.float32)

    return Multispectral(mixed(msi.b10, 10), mixed(msi.b20, 20), mixed(msi.b60, 60), msi.platform)


def cloud_opacity(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """(h, w) opacity 0 to `LARGEST_OPACITY` of a cloud from the right with a soft, wavy edge about 400 m wide."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width]
    edge = np.full((height, 1), 0.62 * width)
    for wave in range(1, 5):
        edge = edge + width * 0.07 / wave * np.sin(2 * np.pi * (wave * row[:, :1] / height + rng.random()))
    return np.asarray(LARGEST_OPACITY / (1 + np.exp(-(column - edge) / 8.0)))


def with_offset(msi: Multispectral, offset: float = MISSED_OFFSET) -> Multispectral:
    """Every band too bright by the same reflectance."""
    step = np.float32(offset)
    return Multispectral(msi.b10 + step, msi.b20 + step, msi.b60 + step, msi.platform)


def with_swap(msi: Multispectral, first: str, second: str) -> Multispectral:
    """Two bands of one resolution in each other's place.

    Raises:
        InvalidImage: if the bands have different resolutions or are unknown.
    """
    parts = {10: msi.b10.copy(), 20: msi.b20.copy(), 60: msi.b60.copy()}
    for resolution, names in BANDS_BY_RESOLUTION.items():
        if first in names and second in names:
            rows = [names.index(first), names.index(second)]
            parts[resolution][rows] = parts[resolution][rows[::-1]]
            return Multispectral(parts[10], parts[20], parts[60], msi.platform)
    raise InvalidImage(f"{first} and {second} cannot change places: they must be two bands of one resolution")


def target_share(height: int, width: int, row: int, column: int) -> NDArray[np.float64]:
    """(h, w) 1 on a square of `TARGET` pixels, else 0; off the 60 m grid on purpose."""
    share = np.zeros((height, width))
    share[row : row + TARGET, column : column + TARGET] = 1.0
    return share
