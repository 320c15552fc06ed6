"""Figures of merit of estimated spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BRIGHT: Final[float] = 0.05
"""Mean reflectance above which the spectral angle of a pixel means something."""


def spectral_angle(estimate: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angle in degrees between spectra (channels, n), channel by channel; nan channels of `truth` are left out."""
    known = np.isfinite(truth)
    a, b = np.where(known, estimate, 0.0).astype(np.float64), np.where(known, truth, 0.0).astype(np.float64)
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    cosine = (a * b).sum(axis=0) / np.maximum(norm, 1e-12)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def spectral_errors(estimate: NDArray[np.floating], truth: NDArray[np.floating]) -> dict[str, float]:
    """RMSE, spectral angles, PSNR and ERGAS of spectra.

    Args:
        estimate: (channels, n) reflectance.
        truth: (channels, n) reflectance, nan where unknown.

    Returns:
        ``rmse``, ``rmse_median`` and ``rmse_p95`` over pixels (reflectance); ``sam_deg`` over all pixels and
        ``sam_bright_deg`` over those brighter than `BRIGHT`; ``psnr_db`` with peak 1; ``ergas`` of a 1:1 ratio,
        percent.
    """
    error = np.asarray(estimate, dtype=np.float64) - truth
    pixel = np.sqrt(np.nanmean(error**2, axis=0))
    angle = spectral_angle(estimate, truth)
    bright = np.nanmean(truth, axis=0) > BRIGHT
    rmse = float(np.sqrt(np.nanmean(error**2)))
    judged = np.isfinite(truth).any(axis=1)
    band_rmse = np.sqrt(np.nanmean(error[judged] ** 2, axis=1))
    band_mean = np.nanmean(truth[judged], axis=1)
    return {
        "rmse": rmse,
        "rmse_median": float(np.median(pixel)),
        "rmse_p95": float(np.quantile(pixel, 0.95)),
        "sam_deg": float(angle.mean()),
        "sam_bright_deg": float(angle[bright].mean()) if bright.any() else float("nan"),
        "psnr_db": float(-20.0 * np.log10(max(rmse, 1e-12))),
        "ergas": float(100.0 * np.sqrt(np.mean((band_rmse / np.maximum(band_mean, 1e-6)) ** 2))),
    }
