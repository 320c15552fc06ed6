"""What turns a product's small files into 172 channels: the basis of the coefficients and the profile of sigma."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from infra.compact.errors import BasisMismatch
from model.bands import CENTRE_NM, FWHM_NM
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

REFLECTANCE_STEP: Final = 1e-4
"""Reflectance of one stored unit (DN) of the 172-band file."""

_STORED_LIMIT: Final = 32767
_LARGEST_BASIS: Final = 16 << 20
"""Bytes; a basis of 24 x 172 takes 0.1 MB."""


@dataclass(frozen=True)
class ProductBasis:
    """``basis.json`` of a product."""

    mean: NDArray[np.float64]
    """(n,) reflectance where all coefficients are zero."""
    components: NDArray[np.float64]
    """(k, n) reflectance per unit of a coefficient."""
    scales: NDArray[np.float64]
    """(k,) coefficient per stored unit, as the compact file's bands say too."""
    centre_nm: NDArray[np.float64]
    """(n,) centre wavelengths, nm."""
    fwhm_nm: NDArray[np.float64]
    """(n,) full widths at half maximum, nm."""
    sigma_bands: NDArray[np.intp] | None
    """(n,) which band of the uncertainty file a channel's sigma comes from, zero-based; None in early products."""
    sigma_profile: NDArray[np.float32] | None
    """(n,) a channel's sigma relative to that band's; None in early products."""

    @property
    def channels(self) -> int:
        """Number of channels n."""
        return self.mean.size

    def reflectance(self, stored: NDArray[np.int16], channels: Sequence[int]) -> NDArray[np.float32]:
        """Expand stored coefficients.

        Args:
            stored: (k, ...) of the compact file.
            channels: Zero-based, those wanted.

        Returns:
            (channels, ...) reflectance, nan = nodata.
        """
        values = self._expand(stored, channels, 1.0).astype(np.float32)
        values[:, stored[0] == NODATA] = np.nan
        return values

    def integers(self, stored: NDArray[np.int16], channels: Sequence[int]) -> NDArray[np.int16]:
        """Expand stored coefficients to what the 172-band file stores.

        Args:
            stored: (k, ...) of the compact file.
            channels: Zero-based, those wanted.

        Returns:
            (channels, ...) reflectance x 10 000, -32768 = nodata.
        """
        values = self._expand(stored, channels, REFLECTANCE_STEP)
        np.clip(np.rint(values, out=values), -_STORED_LIMIT, _STORED_LIMIT, out=values)
        integers = values.astype(np.int16)
        integers[:, stored[0] == NODATA] = NODATA
        return integers

    def sigma(self, stored: NDArray[np.int16], scales: Sequence[float], channels: Sequence[int]) -> NDArray[np.float32]:
        """Expand the stored uncertainty.

        Args:
            stored: (m, ...) of the uncertainty file, all its bands.
            scales: (m,) physical step of its bands.
            channels: Zero-based, those wanted.

        Returns:
            (channels, ...) calibrated 1-sigma, reflectance; nan = nodata.

        Raises:
            BasisMismatch: the product was made before its basis told how, or the file has fewer bands.
        """
        if self.sigma_bands is None or self.sigma_profile is None:
            raise BasisMismatch(
                "basis.json holds no sigma_profile: the product was written by an earlier version; use the bands of "
                "the uncertainty file as they are, or the model's channel_sigma"
            )
        bands = self.sigma_bands[channels]
        if bands.size and bands.max() >= len(stored):
            raise BasisMismatch(f"the uncertainty file has {len(stored)} bands; the basis asks for {bands.max() + 1}")
        used, back = np.unique(bands, return_inverse=True)
        groups = stored[used] * self._along(np.asarray(scales, np.float32)[used], stored.ndim)
        groups[stored[used] == NODATA] = np.nan
        return np.asarray(groups[back] * self._along(self.sigma_profile[channels], stored.ndim))

    def _expand(self, stored: NDArray[np.int16], channels: Sequence[int], step: float) -> NDArray[np.float64]:
        # In float64, so that a value never depends on which channels and pixels are read together with it.
        matrix = np.ascontiguousarray(self.components[:, channels].T / step)  # (channels, k)
        coefficients = stored.reshape(len(stored), -1) * self.scales[:, None]  # (k, pixels)
        values: NDArray[np.float64] = matrix @ coefficients
        values += (self.mean[channels] / step)[:, None]
        return values.reshape(len(matrix), *stored.shape[1:])

    @staticmethod
    def _along(values: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
        return values.reshape(-1, *[1] * (dimensions - 1))


def read_basis(content: bytes, shown: str) -> ProductBasis:
    """Understand a ``basis.json``.

    Args:
        content: The file.
        shown: What messages call it.

    Returns:
        The basis.

    Raises:
        BasisMismatch: it is no such file or contradicts itself.
    """
    if len(content) > _LARGEST_BASIS:
        raise BasisMismatch(f"{shown} has more than {_LARGEST_BASIS} bytes; a basis takes 0.1 MB")
    try:
        document: dict[str, Any] = json.loads(content)
        basis = ProductBasis(
            mean=np.array(document["mean"], np.float64),
            components=np.array(document["components"], np.float64),
            scales=np.array(document["scales"], np.float64),
            centre_nm=np.array(document.get("centre_nm", CENTRE_NM), np.float64),
            fwhm_nm=np.array(document.get("fwhm_nm", FWHM_NM), np.float64),
            sigma_bands=np.array(document["sigma_bands"], np.intp) - 1 if "sigma_bands" in document else None,
            sigma_profile=np.array(document["sigma_profile"], np.float32) if "sigma_profile" in document else None,
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BasisMismatch(
            f"{shown} is no basis: {type(error).__name__} {error}; expected mean and components"
        ) from error
    _check(basis, shown)
    return basis


def _check(basis: ProductBasis, shown: str) -> None:
    k, n = len(basis.scales), basis.mean.size
    expected: dict[str, tuple[NDArray[Any] | None, tuple[int, ...]]] = {
        "components": (basis.components, (k, n)), "mean": (basis.mean, (n,)), "centre_nm": (basis.centre_nm, (n,)),
        "fwhm_nm": (basis.fwhm_nm, (n,)), "sigma_bands": (basis.sigma_bands, (n,)),
        "sigma_profile": (basis.sigma_profile, (n,)), "scales": (basis.scales, (k,)),
    }  # fmt: skip
    for name, (array, shape) in expected.items():
        if array is not None and (array.shape != shape or not np.isfinite(array).all()):
            raise BasisMismatch(f"{shown}: {name} is {array.shape}; expected finite numbers of shape {shape}")
    if not k or not n or (basis.sigma_bands is not None and basis.sigma_bands.min() < 0):
        raise BasisMismatch(f"{shown} holds {k} components of {n} channels; expected at least one and bands from 1")
