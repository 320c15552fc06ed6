"""What Sentinel-2 would have seen of a hyperspectral scene.

Spectral tier: all twelve bands of every pixel. Full tier: a contiguous cube whose pixel stands for 10 m, seen through
point-spread function and decimation, so that 20 and 60 m bands are coarse. Both with the source noise of
`model.noise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.duality import Multispectral
from model.errors import InvalidSpectra
from model.fusion import down
from model.inference import GRANULE
from model.noise import source_sigma
from model.residual import ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.spectra import Spectra

SIMULATED_MTF: Final[float] = 0.25
"""Modulation at Nyquist of the simulated 20 and 60 m bands; the cube itself is sharp. Harder than what the model
assumes."""


def simulate_bands(
    spectra: Spectra, responses: NDArray[np.float64], rng: np.random.Generator, rows: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Noisy bands of spectra (spectral tier).

    Args:
        spectra: truth on the product's grid.
        responses: (12, 172) responses; where the instrument sees B01 its own value is used.
        rng: source of noise.
        rows: which spectra; all unless told.

    Returns:
        (12, n) reflectance.
    """
    chosen = np.arange(len(spectra.reflectance)) if rows is None else rows
    bands = clean_bands(spectra.reflectance[chosen], spectra.coastal[chosen], responses)
    return bands + rng.normal(size=bands.shape) * source_sigma(bands)


def clean_bands(
    reflectance: NDArray[np.floating], coastal: NDArray[np.floating], responses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Noise-free bands (12, n) of spectra (n, 172) with B01 (n,) where known."""
    bands = responses @ reflectance.T.astype(np.float64)
    bands[0] = np.where(np.isfinite(coastal), coastal, bands[0])
    return bands


@dataclass(frozen=True)
class SimulatedScene:
    """A scene with known truth."""

    truth: NDArray[np.float32]
    """(172, h, w) reflectance, nan where unknown."""
    msi: Multispectral
    """What Sentinel-2 would deliver."""
    at_10m: NDArray[np.float32]
    """(12, h, w) every band at 10 m with its noise: the bound no fusion can pass."""


def simulate_scene(
    spectra: Spectra,
    responses: NDArray[np.float64],
    platform: str,
    rng: np.random.Generator,
    mtf: float = SIMULATED_MTF,
) -> SimulatedScene:
    """Full tier: decimated, blurred and noisy bands of a contiguous cube, cropped to multiples of six pixels.

    Raises:
        InvalidSpectra: if the spectra are no cube or it is smaller than 24 x 24 pixels.
    """
    if len(spectra.shape) != 2 or min(spectra.shape) < 4 * GRANULE:
        raise InvalidSpectra(
            f"{spectra.name} has shape {spectra.shape}; the full tier needs one contiguous cube, 24 x 24 pixels or more"
        )
    height, width = (size // GRANULE * GRANULE for size in spectra.shape)
    total = spectra.shape[0] * spectra.shape[1]
    truth = np.full((172, total), np.nan, np.float32)
    truth[:, spectra.index] = spectra.reflectance.T
    bands = np.full((12, total), np.nan)
    bands[:, spectra.index] = clean_bands(spectra.reflectance, spectra.coastal, responses)
    truth = truth.reshape(172, *spectra.shape)[:, :height, :width]
    bands = bands.reshape(12, *spectra.shape)[:, :height, :width]
    parts, at_10m = observe(bands, mtf, rng)
    return SimulatedScene(truth, Multispectral(*parts, platform), at_10m)


def observe(
    bands: NDArray[np.floating], mtf: float, rng: np.random.Generator, noise: float = 1.0
) -> tuple[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]:
    """What the sensor delivers of twelve bands known at 10 m.

    Args:
        bands: (12, h, w) reflectance without noise, nan where unknown; h and w multiples of 6.
        mtf: modulation of the 20 and 60 m bands at their own Nyquist frequency.
        rng: source of noise.
        noise: factor on the noise of `model.noise`.

    Returns:
        The bands of 10, 20 and 60 m with noise, nan where any part is unknown, and (12, h, w) all of them at 10 m with
        noise: the bound no fusion can pass.
    """
    height, width = bands.shape[1:]
    valid = np.isfinite(bands).all(axis=0)
    at_10m = (bands + noise * rng.normal(size=bands.shape) * source_sigma(np.nan_to_num(bands))).astype(np.float32)
    parts = [at_10m[list(ROWS[10])]]
    for resolution in (20, 60):
        ratio = resolution // 10
        fine = torch.as_tensor(np.nan_to_num(bands[list(ROWS[resolution])]).astype(np.float32))
        seen = down(fine, ratio, torch.as_tensor(valid.astype(np.float32)), mtf).numpy()
        whole = valid.reshape(height // ratio, ratio, width // ratio, ratio).all(axis=(1, 3))
        full = np.zeros((12, *whole.shape))
        full[list(ROWS[resolution])] = np.nan_to_num(seen)
        sigma = noise * source_sigma(full)[list(ROWS[resolution])]
        parts.append(np.where(whole, seen + rng.normal(size=seen.shape) * sigma, np.nan).astype(np.float32))
    return (parts[0], parts[1], parts[2]), at_10m
