"""Does the product still say what the sensor saw? Source bands minus the product seen through the sensor.

The product's spectra are integrated with the sensor's spectral responses, brought to each band's own resolution
through its point-spread function, and subtracted from the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch

from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.fusion import all_finite, down
from model.layers import Layer
from model.noise import NOISE_ABSOLUTE, NOISE_RELATIVE, WITHIN_NOISE_SIGMAS

if TYPE_CHECKING:
    from collections.abc import Mapping

RESIDUAL_STEP: Final[float] = 1e-4

JUDGED_MTF: Final[float] = 0.36
"""Modulation at a coarse band's Nyquist frequency, relative to the 10 m bands', through which the product is compared
with its source. It is known as a range only, 0.25-0.45 over bands and platforms; the middle claims no contradiction
that lies in the point-spread function alone."""

ROWS: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {m: tuple(SOURCE_BAND_NAMES.index(name) for name in names) for m, names in BANDS_BY_RESOLUTION.items()}
)
"""Resolution in metres -> positions of its bands among the twelve."""


def residual_layers() -> dict[int, tuple[Layer, ...]]:
    """Resolution in metres -> how its stored residuals decode."""
    return {
        m: tuple(
            Layer(f"residual_{name}", f"{name} minus the product seen through it", RESIDUAL_STEP) for name in names
        )
        for m, names in BANDS_BY_RESOLUTION.items()
    }


@dataclass(frozen=True)
class Residual:
    """Source minus product at one resolution."""

    value: torch.Tensor
    """(bands, h, w) reflectance; nan where the source or the product is invalid."""
    sigma: torch.Tensor
    """(bands, h, w) one sigma of the source's noise, reflectance; 0 where the source is invalid."""
    within: torch.Tensor
    """(h, w) bool: every band but B01 agrees within noise; True where invalid."""
    squares: torch.Tensor
    """(h, w) mean squared residual over the bands but B01; 0 where invalid."""
    known: torch.Tensor
    """(h, w) bool: there is a residual."""


def noise_of(source: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """One sigma of the noise of some source bands (bands, h, w), reflectance; 0 where the source is nan."""
    a = torch.as_tensor(NOISE_ABSOLUTE[rows], dtype=source.dtype, device=source.device)[:, None, None]
    b = torch.as_tensor(NOISE_RELATIVE[rows], dtype=source.dtype, device=source.device)[:, None, None]
    return torch.nan_to_num((a.square() + (b * source).square()).sqrt(), nan=0.0)


def residual(source: torch.Tensor, simulated: torch.Tensor, valid: torch.Tensor, resolution: int) -> Residual:
    """Compare one resolution's source bands with the product.

    Args:
        source: (bands, h, w) source reflectance at its own resolution, nan = nodata.
        simulated: (12, H, W) the product seen through the responses at 10 m.
        valid: (H, W) bool product validity at 10 m.
        resolution: 10, 20 or 60 m.

    Returns:
        The residual and whether it is within noise.
    """
    rows = list(ROWS[resolution])
    seen = simulated[rows]
    everywhere = bool(valid.all())
    if resolution == 10:
        value = source - seen
        if not everywhere:
            value = torch.where(valid, value, torch.nan)
    else:
        value = source - down(seen, resolution // 10, None if everywhere else valid.to(seen.dtype), JUDGED_MTF)
    sigma = noise_of(source, rows)
    first = next(i for i, row in enumerate(rows) if row != 0)
    off = value[first:]
    excess = off.abs().sub_(sigma[first:], alpha=WITHIN_NOISE_SIGMAS).amax(dim=0)
    squares = off.square().mean(dim=0)
    known = torch.isfinite(excess)
    if not all_finite(value):
        known = torch.isfinite(value).all(dim=0)
        squares = torch.where(known, squares, 0.0)
    within = ~(excess > 0.0)  # nan is no contradiction
    return Residual(value, sigma, within, squares, known)
