"""Names for what a pixel probably is, from simple rules on the source bands. For labels only; never for the product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Reflectances = dict[str, NDArray[np.float32]]


def _index(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (first - second) / (first + second) of reflectances, 0 where their sum is not positive."""
    total = first + second
    quotient: NDArray[np.float32] = np.divide(first - second, total, out=np.zeros_like(total), where=total > 0)
    return quotient


def ndvi(source: Reflectances) -> NDArray[np.float32]:
    """Return the vegetation index of B08 and B04. Rouse et al. 1974."""
    return _index(source["B08"], source["B04"])


def _ndsi(source: Reflectances) -> NDArray[np.float32]:
    """Return the snow index of B03 and B11. Hall et al. 1995, Remote Sens. Environ. 54, 127."""
    return _index(source["B03"], source["B11"])


def _is_snow(source: Reflectances) -> NDArray[np.bool_]:
    return (_ndsi(source) >= 0.4) & (source["B03"] >= 0.25) & (source["B8A"] >= 0.2)


def _is_water(source: Reflectances) -> NDArray[np.bool_]:
    # Black in all 10 m bands, as brown lakes are up to the shore; or NDWI (McFeeters 1996, Int. J. Remote Sens. 17,
    # 1425) for turbid water, with limits that keep shaded snow and roofs out.
    black = (source["B08"] < 0.04) & (source["B02"] < 0.06) & (ndvi(source) < 0.5)
    turbid = (_index(source["B03"], source["B8A"]) >= 0.1) & (source["B8A"] < 0.1) & (source["B11"] < 0.05)
    return black | (turbid & (source["B02"] < 0.12))


def _is_dim_snow(source: Reflectances) -> NDArray[np.bool_]:
    return (_ndsi(source) >= 0.4) & (source["B03"] >= 0.08) & (ndvi(source) < 0.5)


def _is_bare(source: Reflectances) -> NDArray[np.bool_]:
    # Bare-soil index above zero. Rikimaru et al. 2002, Trop. Ecol. 43, 39.
    return _index(source["B11"] + source["B04"], source["B08"] + source["B02"]) > 0


@dataclass(frozen=True)
class Surface:
    """One kind of ground that people have a word for."""

    label: str
    rule: Callable[[Reflectances], NDArray[np.bool_]]
    """Given the source bands' reflectance by name, says which pixels it is."""
    colour: str


SURFACES: Final = (
    Surface("snow", _is_snow, "#56b4e9"),
    Surface("water or deep shade", _is_water, "#0072b2"),
    Surface("snow in shade or under trees", _is_dim_snow, "#6a5acd"),
    Surface("dense vegetation", lambda s: (ndvi(s) >= 0.7) & (s["B8A"] >= 0.28), "#009e73"),
    Surface("dense vegetation, dark", lambda s: ndvi(s) >= 0.7, "#00664a"),
    Surface("open vegetation", lambda s: ndvi(s) >= 0.4, "#8f8a00"),
    Surface("bare or dry ground", _is_bare, "#d55e00"),
    Surface("bright surface", lambda s: s["B04"] >= 0.15, "#cc79a7"),
    Surface("dark surface", lambda s: s["B04"] < 0.15, "#555555"),
)
"""The first rule that holds wins. Colours after Okabe and Ito, darkened where they would be faint on white."""


def classify(source: NDArray[np.float32]) -> NDArray[np.int8]:
    """Name pixels.

    Args:
        source: (12, n) float32 reflectance of the source bands; finite.

    Returns:
        (n,) int8 positions in `SURFACES`; one of them always holds.
    """
    bands = dict(zip(SOURCE_BAND_NAMES, source, strict=True))
    kind = np.full(source.shape[1], -1, np.int8)
    for position, surface in enumerate(SURFACES):
        kind[(kind < 0) & surface.rule(bands)] = position
    return kind
