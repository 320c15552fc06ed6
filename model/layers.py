"""How the integers of a product decode into physical values: one `Layer` per band of an estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NODATA: Final[int] = -32768
"""The int16 value that means "nothing is known here" in every layer."""


@dataclass(frozen=True)
class Layer:
    """One int16 band of a product file: ``value = stored * scale + offset``, `NODATA` excepted."""

    name: str
    """Stable machine name, such as ``h007`` or ``measured_fraction``."""
    title: str
    """What a person reads in a band list."""
    scale: float
    """Physical step of one stored unit."""
    offset: float = 0.0
    """Physical value of a stored zero."""
    unit: str = "1"
    """UCUM unit of the decoded value."""
    centre_nm: float | None = None
    """Centre wavelength where the layer has one, nm."""
    fwhm_nm: float | None = None
    """Full width at half maximum where the layer has one, nm."""
