"""Noise of the source bands: ``sigma(rho) = sqrt(a^2 + (b rho)^2)`` per band.

``a`` is the noise-equivalent reflectance at the reference radiance, from the MSI's required signal-to-noise ratio
(ESA, Sentinel-2 MSI User Guide, table of Lref and SNR; the in-flight SNR of both units exceeds it):
``a = pi Lref / (E0 cos(theta) SNR)`` with the sun at 45 degrees and the solar irradiance of Sentinel-2A's metadata,
joined in
quadrature with 0.0005 for what the L2A processor rounds and interpolates (aerosol and terrain tables at coarse steps).

``b`` is what grows with the signal and differs from band to band or pixel to pixel: inter-band calibration, detector
equalisation, resampling, and what atmospheric correction leaves. ESA's Sentinel-2 L1C data quality report gives about
2 % inter-band uncertainty for the land bands (requirement 3 %). B01 and B09 are less certain after atmospheric
correction (aerosol in the blue; water vapour at 945 nm): 5 %, assumed. 1 % was tried: on six real L2A patches it is
too small, the source bands of up to 15 % of the pixels then contradict any spectrum the prior holds.

"Within noise" means an absolute residual of at most three sigma.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WITHIN_NOISE_SIGMAS: Final[float] = 3.0
"""A source band agrees with the product when they differ by at most this many sigma."""

_COS_REFERENCE_SUN: Final[float] = float(np.cos(np.deg2rad(45.0)))
_PROCESSING_FLOOR: Final[float] = 0.0005

_REFERENCE: Final[Mapping[str, tuple[float, float, float, float]]] = MappingProxyType(
    {
        # band: (Lref W/m2/sr/um, required SNR at Lref, solar irradiance W/m2/um, relative part b)
        "B01": (129.0, 129.0, 1884.69, 0.05),
        "B02": (128.0, 154.0, 1959.72, 0.02),
        "B03": (128.0, 168.0, 1823.24, 0.02),
        "B04": (108.0, 142.0, 1512.06, 0.02),
        "B05": (74.5, 117.0, 1424.64, 0.02),
        "B06": (68.0, 89.0, 1287.61, 0.02),
        "B07": (67.0, 105.0, 1162.08, 0.02),
        "B08": (103.0, 174.0, 1041.63, 0.02),
        "B8A": (52.5, 72.0, 955.32, 0.02),
        "B09": (9.0, 114.0, 812.92, 0.05),
        "B11": (4.0, 100.0, 245.59, 0.02),
        "B12": (1.5, 100.0, 85.25, 0.02),
    }
)


def noise_equivalent(radiance: float, snr: float, irradiance: float) -> float:
    """Noise-equivalent reflectance ``a`` of a band at its reference radiance, the processor's floor included.

    Args:
        radiance: reference radiance, W/m2/sr/um.
        snr: signal-to-noise ratio there.
        irradiance: solar irradiance of the band, W/m2/um.

    Returns:
        ``a``, reflectance, with the sun at 45 degrees.
    """
    return float(np.hypot(np.pi * radiance / (irradiance * _COS_REFERENCE_SUN * snr), _PROCESSING_FLOOR))


NOISE_ABSOLUTE: Final[NDArray[np.float64]] = np.array(
    [noise_equivalent(*_REFERENCE[name][:3]) for name in SOURCE_BAND_NAMES]
)
"""(12,) a, reflectance."""

NOISE_RELATIVE: Final[NDArray[np.float64]] = np.array([_REFERENCE[name][3] for name in SOURCE_BAND_NAMES])
"""(12,) b, fraction of the reflectance."""

NOISE_ABSOLUTE.setflags(write=False)
NOISE_RELATIVE.setflags(write=False)


def source_sigma(reflectance: NDArray[np.floating]) -> NDArray[np.float64]:
    """Standard deviation of the source bands' noise.

    Args:
        reflectance: (12, ...) surface reflectance, 0-1.

    Returns:
        (12, ...) one sigma, reflectance.
    """
    return noise_sigma(reflectance, NOISE_ABSOLUTE, NOISE_RELATIVE)


def noise_sigma(
    reflectance: NDArray[np.floating], absolute: NDArray[np.float64], relative: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard deviation ``sqrt(a^2 + (b rho)^2)`` of any instrument's noise.

    Args:
        reflectance: (bands, ...) surface reflectance, 0-1.
        absolute: (bands,) a, reflectance.
        relative: (bands,) b.

    Returns:
        (bands, ...) one sigma, reflectance.
    """
    shape = (-1,) + (1,) * (np.ndim(reflectance) - 1)
    a, b = absolute.reshape(shape), relative.reshape(shape)
    return np.asarray(np.sqrt(a**2 + (b * reflectance) ** 2))
