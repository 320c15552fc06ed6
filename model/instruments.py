"""The multispectral instruments the model can be trained for: everything a sensor pair is configured by.

An instrument brings its bands, its noise and its platforms; the responses come as a table when the model is trained
(`model.srf.integrate`) and travel with the weights. Nothing else in the spectral model knows which sensor it serves.

**The first band** is a coastal one that lies outside the product's grid (B01 of the MSI at 443 nm, B1 of OLI at
443 nm; the grid starts at 458 nm): it informs the estimate by regression and never constrains it. `train_pair` checks
that it is so.

**Noise of OLI**, ``sigma(rho) = sqrt(a^2 + (b rho)^2)`` as for the MSI (`model.noise`). ``a`` is the noise-equivalent
reflectance at the typical radiance from the signal-to-noise *requirement* of the Landsat Data Continuity Mission
(Irons, Dwyer and Barsi 2012, Remote Sensing of Environment 122, 11-21, table of OLI's specifications; the same for
OLI-2 of Landsat 9), with the sun at 45 degrees. In flight all bands met or exceeded their requirement (Morfitt et al.
2015, Remote Sensing 7, 2208-2237), so ``a`` is pessimistic. The band's solar irradiance is Thuillier's spectrum
through OLI's responses as in common use (USGS publishes none for OLI: its reflectance is calibrated directly); it is
known to a few per cent, far better than needed here. ``b`` is *assumed*: 2 % and 5 % in the coastal band, the working
figures of the MSI, so that the two sensors differ by their bands and not by a guess; the 0.0005 of the surface
reflectance processor likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import PLATFORMS, SOURCE_BANDS
from model.noise import NOISE_ABSOLUTE, NOISE_RELATIVE, noise_equivalent, noise_sigma

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Instrument:
    """One multispectral instrument, on one or several platforms."""

    name: str
    """Stable name, such as ``landsat-oli``; stands on the model card."""
    bands: tuple[str, ...]
    """Band names in wavelength order, the coastal one first: the order of every (bands, ...) array."""
    resolution_m: tuple[int, ...]
    """(bands,) native pixel size of each band, metres."""
    noise_absolute: NDArray[np.float64]
    """(bands,) a, reflectance."""
    noise_relative: NDArray[np.float64]
    """(bands,) b, fraction of the reflectance."""
    platforms: tuple[str, ...]
    """Platform names as STAC writes them."""
    reference_platform: str
    """The platform whose responses define illumination scale and classes, and that judges the model."""
    noise_source: str
    """Where the noise comes from, for the model card."""

    def __post_init__(self) -> None:
        counts = {
            len(self.bands),
            len(self.resolution_m),
            self.noise_absolute.size,
            self.noise_relative.size,
        }
        if len(counts) != 1 or len(self.bands) < 2:
            raise ValueError(
                f"{self.name}: {len(self.bands)} bands, {len(self.resolution_m)} resolutions, "
                f"{self.noise_absolute.size} and {self.noise_relative.size} noise terms; expected the same number of "
                "each, at least 2"
            )
        if self.reference_platform not in self.platforms:
            raise ValueError(
                f"{self.name}: reference platform {self.reference_platform!r} is not one of {', '.join(self.platforms)}"
            )
        if not (self.noise_absolute > 0).all() or not (self.noise_relative >= 0).all():
            raise ValueError(f"{self.name}: the noise must be positive in every band, also at zero reflectance")

    def sigma(self, reflectance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Standard deviation of the bands' noise.

        Args:
            reflectance: (bands, ...) surface reflectance, 0-1.

        Returns:
            (bands, ...) one sigma, reflectance.
        """
        return noise_sigma(reflectance, self.noise_absolute, self.noise_relative)


SENTINEL2_MSI: Final[Instrument] = Instrument(
    name="sentinel-2-msi",
    bands=tuple(band.name for band in SOURCE_BANDS),
    resolution_m=tuple(band.resolution_m for band in SOURCE_BANDS),
    noise_absolute=NOISE_ABSOLUTE,
    noise_relative=NOISE_RELATIVE,
    platforms=PLATFORMS,
    reference_platform="sentinel-2a",
    noise_source="a: ESA Sentinel-2 MSI User Guide, required SNR at Lref, sun at 45 degrees; b: assumed",
)
"""The twelve L2A bands of Sentinel-2."""

_OLI: Final[Mapping[str, tuple[float, float, float, float]]] = MappingProxyType(
    {
        # band: (typical radiance W/m2/sr/um, required SNR there, solar irradiance W/m2/um, relative part b)
        "B1": (40.0, 130.0, 1895.33, 0.05),
        "B2": (40.0, 130.0, 2004.57, 0.02),
        "B3": (30.0, 100.0, 1820.75, 0.02),
        "B4": (22.0, 90.0, 1549.49, 0.02),
        "B5": (14.0, 90.0, 951.76, 0.02),
        "B6": (4.0, 100.0, 247.55, 0.02),
        "B7": (1.7, 100.0, 85.46, 0.02),
    }
)


def _fixed(values: list[float]) -> NDArray[np.float64]:
    array = np.array(values)
    array.setflags(write=False)
    return array


LANDSAT_OLI: Final[Instrument] = Instrument(
    name="landsat-oli",
    bands=tuple(_OLI),
    resolution_m=(30,) * len(_OLI),
    noise_absolute=_fixed([noise_equivalent(*reference[:3]) for reference in _OLI.values()]),
    noise_relative=_fixed([reference[3] for reference in _OLI.values()]),
    platforms=("landsat-8", "landsat-9"),
    reference_platform="landsat-8",
    noise_source="a: LDCM signal-to-noise requirement at typical radiance (Irons et al. 2012), sun at 45 degrees; "
    "b: assumed, as for Sentinel-2",
)
"""The seven reflective 30 m bands of the Operational Land Imager; no panchromatic, cirrus or thermal band."""

INSTRUMENTS: Final[Mapping[str, Instrument]] = MappingProxyType(
    {instrument.name: instrument for instrument in (SENTINEL2_MSI, LANDSAT_OLI)}
)
"""Name -> instrument."""
