"""Colour from spectra: which channels stand for red, green, blue and infrared, and how bright they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import CENTRE_NM
from model.layers import NODATA

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFLECTANCE_SCALE: Final = 1e-4
"""Reflectance per stored unit of the 172-band file."""


def nearest_channel(centre_nm: float) -> int:
    """Return the zero-based product channel whose centre is nearest to a wavelength (nm)."""
    return int(np.argmin(np.abs(CENTRE_NM - centre_nm)))


TRUE_COLOUR: Final = tuple(nearest_channel(nm) for nm in (665.0, 560.0, 490.0))
"""Channels drawn as red, green and blue: the centres of B04, B03 and B02."""

INFRARED: Final = nearest_channel(842.0)
"""Channel of the near-infrared plateau, at the centre of B08."""

_KNEE: Final = 0.05
"""Reflectance below which the fixed stretch is close to linear; dark land and water keep their contrast."""


def fixed_stretch(reflectance: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Draw reflectance with one curve for every scene, so that neighbouring products match.

    ``v = 1 + 254 asinh(r / 0.05) / asinh(1 / 0.05)`` for r clipped to 0-1: vegetation, soil and snow are all told
    apart, nothing below a reflectance of 1 saturates. The asinh stretch: Lupton et al. 2004, PASP 116, 133.

    Args:
        reflectance: Any shape; nan = no data.

    Returns:
        The same shape, uint8; 0 means no data and nothing else.
    """
    known = np.isfinite(reflectance)
    bright = np.arcsinh(np.clip(np.where(known, reflectance, 0.0), 0.0, 1.0) / _KNEE) / np.arcsinh(1.0 / _KNEE)
    return np.where(known, np.rint(1.0 + 254.0 * bright), 0.0).astype(np.uint8)


def visual_rgb(hsi: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return the true-colour picture of a product with `fixed_stretch`.

    Args:
        hsi: (172, h, w) int16 stored reflectance, `NODATA` where nothing is known.

    Returns:
        (3, h, w) uint8 red, green, blue; 0 in all three where any of them is not known.
    """
    stored = hsi[list(TRUE_COLOUR)]
    known = (stored != NODATA).all(axis=0)
    return fixed_stretch(np.where(known, stored * np.float32(REFLECTANCE_SCALE), np.float32(np.nan)))


def scene_limits(reflectance: NDArray[np.floating], *, narrowest: float) -> tuple[float, float]:
    """Return the reflectances to draw as black and white for one scene's own contrast.

    Args:
        reflectance: Any shape; nan = no data.
        narrowest: Smallest distance between the two, so that noise on snow or water is not blown up to colour.

    Returns:
        The 1st and 99th percentile, the lower at most half of the higher (so that snow stays bright), widened to
        `narrowest`; (0, `narrowest`) when nothing is known.
    """
    known = reflectance[np.isfinite(reflectance)]
    if not known.size:
        return 0.0, narrowest
    low, high = (float(value) for value in np.percentile(known, (1.0, 99.0)))
    low = min(low, high / 2)
    return low, max(high, low + narrowest)
