"""The linear subspace every spectrum of the product lies in, and its integer form.

``x = c U`` with orthonormal rows of ``U`` (k x 172). The subspace passes through the origin (its mean is zero): a
scaled
spectrum stays inside, which an estimator that works on illumination-normalised bands needs, and a black pixel is
exactly representable. Coefficients are stored as int16 with one step each; the product's 172 bands are expanded from
the *stored* integers, so a reader of the compact file gets the same bands to the rounding of one DN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import CENTRE_NM, CHANNELS
from model.layers import Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFLECTANCE_STEP: Final[float] = 1e-4
"""Reflectance of one stored unit (DN) of the 172-band product."""

STORED_LIMIT: Final[int] = 32767
"""Largest magnitude of a stored value; -32768 is nodata."""

MIN_STEP: Final[float] = 5e-4
"""Finest coefficient step. Rounding 24 orthonormal coefficients errs by ``5e-4 sqrt(24 / 172 / 12)`` in a channel, half
a unit of the product and far below any channel's noise; finer steps are stored at the compact file's expense."""


@dataclass(frozen=True)
class Basis:
    """The subspace: ``reflectance = mean + coefficients @ components``."""

    mean: NDArray[np.float64]
    """(172,) reflectance at zero coefficients; zero for the linear subspace in use."""
    components: NDArray[np.float64]
    """(k, 172) orthonormal rows."""

    @property
    def dimension(self) -> int:
        """Number of coefficients k."""
        return int(self.components.shape[0])

    def expand(self, coefficients: NDArray[np.floating]) -> NDArray[np.float64]:
        """Coefficients (k, ...) to reflectance (172, ...)."""
        shape = (-1,) + (1,) * (np.ndim(coefficients) - 1)
        return np.tensordot(self.components.T, coefficients, axes=1) + self.mean.reshape(shape)

    def project(self, reflectance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Reflectance (n, 172) to coefficients (n, k), least squares."""
        return np.asarray((reflectance - self.mean) @ self.components.T)

    def floor(self, reflectance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Root-mean-square part of each spectrum (n, 172) that the subspace cannot hold, reflectance (n,)."""
        rest = reflectance - self.project(reflectance) @ self.components - self.mean
        return np.asarray(np.sqrt((rest**2).mean(axis=1)))


def channel_noise(spectra: NDArray[np.floating]) -> NDArray[np.float64]:
    """Noise level of each channel, from what its spectral neighbours cannot predict.

    Args:
        spectra: (n, 172) reflectance.

    Returns:
        (172,) robust standard deviation of the interpolation error of each channel, reflectance.
    """
    order = np.argsort(CENTRE_NM, kind="stable")
    axis, x = CENTRE_NM[order], spectra[:, order]
    left, right = np.r_[1, : axis.size - 1][: axis.size], np.r_[1 : axis.size, axis.size - 2]
    left[0], right[-1] = 2, axis.size - 3
    fraction = (axis - axis[left]) / (axis[right] - axis[left])
    error = x - (x[:, left] * (1 - fraction) + x[:, right] * fraction)
    sigma = np.empty(axis.size)
    sigma[order] = 1.4826 * np.median(np.abs(error), axis=0)
    return np.asarray(np.clip(sigma, 0.2 * np.median(sigma), 5.0 * np.median(sigma)))


def fit_basis(spectra: NDArray[np.floating], dimension: int) -> Basis:
    """Noise-whitened principal directions through the origin.

    Args:
        spectra: (n, 172) reflectance, diverse and balanced.
        dimension: k, number of directions.

    Returns:
        The basis; its span is that of the leading noise-whitened directions, its rows orthonormal and ordered by
        energy.

    Source:
        Minimum-noise-fraction transform (Green et al. 1988), uncentred.
    """
    noise = channel_noise(spectra)
    white = spectra / noise
    _, vectors = np.linalg.eigh(white.T @ white / len(spectra))
    span, _ = np.linalg.qr(vectors[:, ::-1][:, :dimension] * noise[:, None])  # (172, k)
    coefficients = spectra @ span
    _, rotation = np.linalg.eigh(coefficients.T @ coefficients / len(spectra))
    components = (span @ rotation[:, ::-1]).T
    components *= np.sign(components.sum(axis=1, keepdims=True))
    return Basis(np.zeros(spectra.shape[1]), components)


def coefficient_steps(coefficients: NDArray[np.floating]) -> NDArray[np.float64]:
    """Storage step of each coefficient: room for three times the largest value seen in training.

    Args:
        coefficients: (n, k) coefficients of the training spectra.

    Returns:
        (k,) reflectance per stored unit.
    """
    return np.asarray(np.maximum(3.0 * np.abs(coefficients).max(axis=0) / STORED_LIMIT, MIN_STEP))


def compact_layers(steps: NDArray[np.floating]) -> tuple[Layer, ...]:
    """How the stored coefficients decode."""
    return tuple(
        Layer(f"c{i:02d}", f"subspace coefficient {i}", scale=float(step)) for i, step in enumerate(steps, start=1)
    )


def hsi_layers() -> tuple[Layer, ...]:
    """How the 172 stored bands decode."""
    return tuple(
        Layer(c.name, c.description, REFLECTANCE_STEP, centre_nm=c.centre_nm, fwhm_nm=c.fwhm_nm) for c in CHANNELS
    )
