"""Spectra of any instrument on the product's grid: cubes and tables as files hold them, resampled channel by channel.

Files: ``cube`` int16 (bands, H, W) reflectance x 10 000 with nodata -9999, or ``reflectance`` (n, bands) 0-1; both with
``wavelength_nm`` (bands,) in any order and optionally ``fwhm_nm``. Wavelengths inside the atmosphere's two opaque
windows are never used; where the instrument samples finer than the product's channel, the channel's Gaussian averages
them, otherwise the sorted samples are interpolated.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import CENTRE_NM, FWHM_NM
from model.errors import InvalidSpectra
from model.srf import FWHM_PER_SIGMA

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DISTRUSTED_NM: Final[tuple[tuple[float, float], ...]] = ((1340.0, 1450.0), (1800.0, 1955.0))
"""Water-vapour windows in which no reflectance is trusted, nm."""

NODATA_CUBE: Final[int] = -9999
PLAUSIBLE: Final[tuple[float, float]] = (-0.05, 1.4)
"""Spectra with any value outside these reflectances are dropped as bad."""

MIN_BANDS: Final[int] = 40
MAX_GAP_NM: Final[float] = 30.0
"""A channel farther than this from every band of the instrument is filled with the nearest and not judged, nm."""

MIN_COVERED: Final[float] = 0.8
"""Fraction of the product's channels an instrument must cover."""

COASTAL_CENTRE_NM: Final[float] = 442.7
COASTAL_FWHM_NM: Final[float] = 21.0


@dataclass(frozen=True)
class Spectra:
    """Valid spectra on the product's grid with where they came from."""

    name: str
    """Name of the file they were read from, without suffix."""
    reflectance: NDArray[np.float32]
    """(n, 172) reflectance."""
    coastal: NDArray[np.float32]
    """(n,) reflectance in Sentinel-2's B01, which lies outside the grid; nan where the instrument does not see it."""
    index: NDArray[np.intp]
    """(n,) position of each spectrum in the file (row-major pixel for a cube)."""
    shape: tuple[int, ...]
    """(H, W) of a cube, (n,) of a table: what `index` refers to."""
    covered: NDArray[np.bool_]
    """(172,) channels the instrument measured; the others repeat the nearest one and must not be judged."""


def _sources(wavelength: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the usable bands, sorted by wavelength, duplicates removed."""
    usable = np.isfinite(wavelength) & (wavelength > 300) & (wavelength < 2600)
    for low, high in DISTRUSTED_NM:
        usable &= ~((wavelength >= low) & (wavelength <= high))
    indices = np.flatnonzero(usable)
    indices = indices[np.argsort(wavelength[indices], kind="stable")]
    distinct = np.r_[True, np.diff(wavelength[indices]) > 0.05] if indices.size else np.zeros(0, bool)
    return indices[distinct]


def resampling_matrix(
    wavelength: NDArray[np.float64],
    centre_nm: NDArray[np.float64],
    fwhm_nm: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Linear map from an instrument's sorted bands to Gaussian channels.

    Args:
        wavelength: (bands,) strictly increasing, nm.
        centre_nm: (channels,) target centres, nm.
        fwhm_nm: (channels,) target widths, nm.

    Returns:
        (channels, bands) rows summing to 1: Gaussian averages where at least three samples lie within one FWHM of the
        centre, linear interpolation (nearest at the ends) elsewhere.
    """
    step = np.gradient(wavelength)
    distance = wavelength[None, :] - centre_nm[:, None]
    sigma = (fwhm_nm / FWHM_PER_SIGMA)[:, None]
    gaussian = np.exp(-0.5 * (distance / sigma) ** 2) * step
    dense = (np.abs(distance) < fwhm_nm[:, None] * 0.75).sum(axis=1) >= 3
    right = np.clip(np.searchsorted(wavelength, centre_nm), 1, wavelength.size - 1)
    fraction = np.clip((centre_nm - wavelength[right - 1]) / (wavelength[right] - wavelength[right - 1]), 0, 1)
    linear = np.zeros_like(gaussian)
    rows = np.arange(centre_nm.size)
    linear[rows, right - 1] = 1 - fraction
    linear[rows, right] += fraction
    weights = np.where(dense[:, None], gaussian, linear)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _resample(
    name: str, values: NDArray[np.floating], wavelength: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """The spectra on the product's grid, their B01, and which channels the instrument covers."""
    chosen = _sources(wavelength)
    if chosen.size < MIN_BANDS:
        raise InvalidSpectra(
            f"{name}: {chosen.size} usable bands between 300 and 2600 nm, at least {MIN_BANDS} are needed; "
            "give a hyperspectral cube or table"
        )
    axis = wavelength[chosen]
    covered = np.abs(axis[None, :] - CENTRE_NM[:, None]).min(axis=1) <= MAX_GAP_NM
    if covered.mean() < MIN_COVERED:
        raise InvalidSpectra(
            f"{name}: its bands reach {covered.sum()} of {covered.size} channels between 0.46 and 2.40 um, "
            f"at least {MIN_COVERED:.0%} are needed"
        )
    used = values[:, chosen]
    grid = _average(used, resampling_matrix(axis, CENTRE_NM, FWHM_NM))
    if axis[0] <= COASTAL_CENTRE_NM:
        row = resampling_matrix(axis, np.array([COASTAL_CENTRE_NM]), np.array([COASTAL_FWHM_NM]))
        coastal = _average(used, row)[:, 0]
    else:
        coastal = np.full(values.shape[0], np.nan, np.float32)
    return grid, coastal, covered


def _average(values: NDArray[np.floating], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Weighted means over the finite samples; nan where less than half of the weight is finite."""
    finite = np.isfinite(values)
    weight = finite.astype(np.float32) @ matrix.T.astype(np.float32)
    total = np.where(finite, values, 0.0).astype(np.float32) @ matrix.T.astype(np.float32)
    return np.asarray(np.where(weight > 0.5, total / np.maximum(weight, 0.5), np.nan), dtype=np.float32)


def read_spectra(path: Path) -> Spectra:
    """Read a cube or a table of spectra and bring it to the product's grid.

    Args:
        path: ``.npz`` with ``cube`` or ``reflectance``, and ``wavelength_nm``.

    Returns:
        The valid spectra: no nodata, nothing implausible, not all zero.

    Raises:
        InvalidSpectra: if arrays are missing or disagree, bands are too few, or no spectrum is valid.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in ("cube", "reflectance", "wavelength_nm") if key in data.files}
    except (OSError, ValueError) as error:
        raise InvalidSpectra(f"{path} cannot be read as .npz: {error}") from error
    if "wavelength_nm" not in arrays or not ({"cube", "reflectance"} & set(arrays)):
        raise InvalidSpectra(f"{path} holds {sorted(arrays)}; expected wavelength_nm and either cube or reflectance")
    wavelength = np.asarray(arrays["wavelength_nm"], dtype=np.float64)
    if "cube" in arrays:
        cube = arrays["cube"]
        shape: tuple[int, ...] = cube.shape[1:]
        values = cube.reshape(cube.shape[0], -1).T.astype(np.float64)
        values = np.where(values == NODATA_CUBE, np.nan, values / 10_000)
    else:
        values = np.asarray(arrays["reflectance"], dtype=np.float64)
        shape = values.shape[:1]
    if values.ndim != 2 or values.shape[1] != wavelength.size:
        raise InvalidSpectra(f"{path}: {wavelength.size} wavelengths for an array of shape {values.shape}")
    grid, coastal, covered = _resample(path.stem, values, wavelength)
    good = np.isfinite(grid).all(axis=1) & (grid > PLAUSIBLE[0]).all(axis=1) & (grid < PLAUSIBLE[1]).all(axis=1)
    good &= grid.max(axis=1) > 0.004
    if not good.any():
        raise InvalidSpectra(f"{path}: none of its {good.size} spectra is valid (nodata, zero or implausible values)")
    coastal = np.where(np.abs(coastal) < 2, coastal, np.nan)
    return Spectra(path.stem, grid[good], coastal[good].astype(np.float32), np.flatnonzero(good), shape, covered)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
