"""How good a predictive distribution is: coverage, CRPS, PIT, and climatology to hold them against.

The product states a mean and a standard deviation per channel; as a distribution it is Gaussian. The continuous ranked
probability score (CRPS) is a proper score in the unit of the data, here reflectance: no wider and no narrower interval
than the honest one improves it (Gneiting & Raftery, JASA 102(477), 2007, 359-378, section 4.2). Climatology is what
somebody says who has not seen the pixel: the pool's own spectra, channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS: Final[tuple[int, ...]] = (50, 80, 90, 95)
"""Nominal coverages reported, percent."""


def half_width(level: float) -> float:
    """Half-width, in sigma, of the central Gaussian interval that holds ``level`` percent."""
    return NormalDist().inv_cdf(0.5 + level / 200)


def normal_cdf(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distribution function of the standard normal, to double precision; nan stays nan."""
    values = np.asarray(z, dtype=np.float64) / np.sqrt(2.0)
    return np.asarray(0.5 * (1.0 + np.frompyfunc(erf, 1, 1)(values).astype(np.float64)))


def _error_and_sigma(
    mean: NDArray[np.floating], sigma: NDArray[np.floating], truth: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    error = np.asarray(truth, dtype=np.float64) - mean
    spread = np.broadcast_to(np.asarray(sigma, dtype=np.float64), error.shape)
    if (spread < 0).any():
        raise ValueError(f"a standard deviation of {float(np.nanmin(spread))} was given; none may be negative")
    return error, spread


def crps_gaussian(
    mean: NDArray[np.floating], sigma: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.float64]:
    """CRPS of Gaussian predictions, in closed form (Gneiting & Raftery 2007, equation 21), lower is better.

    ``sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))`` with ``z = (truth - mean) / sigma``.

    Args:
        mean: (...) predicted mean, reflectance.
        sigma: (...) predicted standard deviation, reflectance, not negative; 0 is a point prediction.
        truth: (...) what was there, reflectance.

    Returns:
        (...) float64 scores, reflectance; the absolute error where sigma is 0, nan where an input is nan.

    Raises:
        ValueError: if a standard deviation is negative.
    """
    error, spread = _error_and_sigma(mean, sigma, truth)
    point = spread == 0
    z = error / np.where(point, 1.0, spread)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = spread * (z * (2 * normal_cdf(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return np.asarray(np.where(point, np.abs(error), score))


def coverage(mean: NDArray[np.floating], sigma: NDArray[np.floating], truth: NDArray[np.floating]) -> dict[str, float]:
    """Share of the truth inside the central intervals.

    Args:
        mean: (...) predicted mean.
        sigma: (...) predicted standard deviation, not negative.
        truth: (...) what was there; nan is left out.

    Returns:
        Nominal percent (``50``, ``80``, ``90``, ``95``) -> share, 0-1; nan if nothing is known.

    Raises:
        ValueError: if a standard deviation is negative.
    """
    error, spread = _error_and_sigma(mean, sigma, truth)
    known = np.isfinite(error) & np.isfinite(spread)
    if not known.any():
        return {str(level): float("nan") for level in LEVELS}
    distance, width = np.abs(error[known]), spread[known]
    return {str(level): float((distance <= half_width(level) * width).mean()) for level in LEVELS}


def pit_histogram(
    mean: NDArray[np.floating], sigma: NDArray[np.floating], truth: NDArray[np.floating], bins: int = 10
) -> NDArray[np.float64]:
    """Histogram of the probability integral transform ``Phi((truth - mean) / sigma)``.

    Flat for an honest prediction, a cup for intervals too narrow, a hill for intervals too wide, a slope for a bias
    (Gneiting, Balabdaoui & Raftery, JRSS B 69(2), 2007, 243-268).

    Args:
        mean: (...) predicted mean.
        sigma: (...) predicted standard deviation, positive where it is to count.
        truth: (...) what was there; nan is left out.
        bins: number of equal bins on 0-1.

    Returns:
        (bins,) float64 shares that sum to 1; nan if nothing is known.

    Raises:
        ValueError: if a standard deviation is negative.
    """
    error, spread = _error_and_sigma(mean, sigma, truth)
    known = np.isfinite(error) & (spread > 0)
    if not known.any():
        return np.full(bins, np.nan)
    counts = np.histogram(normal_cdf(error[known] / spread[known]), bins=bins, range=(0.0, 1.0))[0]
    return np.asarray(counts / known.sum())


@dataclass(frozen=True)
class Climatology:
    """What a pool of spectra says about a pixel nobody has looked at: its own distribution in each channel."""

    ordered: NDArray[np.float64]
    """(m, channels) the pool's reflectance, every channel sorted upwards by itself."""

    def interval(self, level: float = 90) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(channels,) lower and (channels,) upper end of the central interval of ``level`` percent, reflectance."""
        tail = 0.5 - level / 200
        return np.quantile(self.ordered, tail, axis=0), np.quantile(self.ordered, 1 - tail, axis=0)

    def width(self, level: float = 90) -> NDArray[np.float64]:
        """(channels,) width of the central interval of ``level`` percent, reflectance."""
        lower, upper = self.interval(level)
        return upper - lower

    def crps(self, truth: NDArray[np.floating]) -> NDArray[np.float64]:
        """CRPS of the pool as the prediction for every pixel (Gneiting & Raftery 2007, equation 20), reflectance.

        ``E |X - y| - E |X - X'| / 2`` with X, X' drawn from the pool; exact, by sorting and running sums.

        Args:
            truth: (channels, n) reflectance.

        Returns:
            (channels, n) float64; nan where the truth is.
        """
        y = np.asarray(truth, dtype=np.float64)
        m = len(self.ordered)
        rank = np.arange(1, m + 1)[:, None]
        # sum_ij |x_i - x_j| = 2 sum_k (2k - m - 1) x_(k)
        half_spread = ((2 * rank - m - 1) * self.ordered).sum(axis=0) / m**2  # (channels,)
        running = np.vstack([np.zeros((1, self.ordered.shape[1])), np.cumsum(self.ordered, axis=0)])
        score = np.empty(y.shape)
        for channel, values in enumerate(y):
            below = np.searchsorted(self.ordered[:, channel], values)  # how many lie below
            lower, total = running[below, channel], running[-1, channel]
            score[channel] = (values * (2 * below - m) + total - 2 * lower) / m - half_spread[channel]
        return score


def climatology(pool: NDArray[np.floating]) -> Climatology:
    """Climatology of a pool of spectra.

    Args:
        pool: (m, channels) reflectance.

    Raises:
        ValueError: if the pool is empty or holds values that are not finite.
    """
    values = np.asarray(pool, dtype=np.float64)
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"a pool of finite spectra (m, channels) is needed, found shape {values.shape}")
    return Climatology(np.sort(values, axis=0))
