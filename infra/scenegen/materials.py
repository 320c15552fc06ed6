"""Spectra of made-up surfaces, from which the synthetic landscape is mixed.

They have the broad shapes of the real ones (a green peak and a red edge, soil that brightens towards the short-wave
infrared, water that goes dark) and claim no more: nothing is trained or judged on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import SOURCE_BANDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MATERIALS: Final = (
    "crop",
    "grass",
    "forest",
    "stubble",
    "dark soil",
    "bright soil",
    "water",
    "asphalt",
    "roof",
    "sand",
)

_NM: Final = np.array([band.centre_nm for band in SOURCE_BANDS])


def material_reflectance() -> NDArray[np.float32]:
    """Return (materials, 12) reflectance, 0-1, in the order of `MATERIALS` and `SOURCE_BANDS`."""
    return np.stack(
        [
            _leaves(0.45, 0.05, 0.22),
            _leaves(0.34, 0.07, 0.25),
            _leaves(0.24, 0.025, 0.11),
            _soil(0.10, 0.34, 0.30),
            _soil(0.05, 0.19, 0.16),
            _soil(0.13, 0.40, 0.36),
            0.055 * np.exp(-(((_NM - 480) / 190) ** 2)) + 0.012,
            0.09 + 0.05 * _step(700, 500),
            0.07 + 0.20 * _step(620, 60) + 0.05 * _step(1500, 300),
            _soil(0.19, 0.52, 0.47),
        ]
    ).astype(np.float32)


def _step(centre: float, width: float) -> NDArray[np.float64]:
    """Rise from 0 to 1 around a wavelength, nm."""
    rise: NDArray[np.float64] = 1 / (1 + np.exp(-(_NM - centre) / (width / 4)))
    return rise


def _dip(centre: float, width: float, depth: float) -> NDArray[np.float64]:
    dip: NDArray[np.float64] = 1 - depth * np.exp(-(((_NM - centre) / width) ** 2))
    return dip


def _leaves(plateau: float, visible: float, far: float) -> NDArray[np.float64]:
    green = 0.6 * visible * np.exp(-(((_NM - 555) / 35) ** 2))
    near = visible + green + (plateau - visible) * _step(722, 45)
    return near * _dip(945, 30, 0.06) * (1 - (1 - far / plateau) * _step(1400, 300)) * _dip(2202, 200, 0.45)


def _soil(blue: float, peak: float, far: float) -> NDArray[np.float64]:
    rise: NDArray[np.float64] = blue + (peak - blue) * (1 - np.exp(-(_NM - 440) / 600))
    return rise * _dip(945, 30, 0.02) * (1 - (1 - far / peak) * _step(2000, 300))
