"""Spectral responses of a multispectral sensor on the product's channel grid.

The observation of band ``b`` is ``y_b = int s_b(w) x(w) dw / int s_b(w) dw``. A hyperspectral channel ``c`` is taken
as a Gaussian of its own centre and FWHM, and the integral over ``x`` as a sum over channels weighted by the width
each of them stands for, so

    d_bc  ~  dw_c * int s_b(w) g_c(w) dw,      sum_c d_bc = 1.

``dw_c`` is the Voronoi width of the channel among the sorted centres: where two detectors overlap, two channels share
the width that one would have. What the grid does not cover of a band is its *loss*; a band that loses more than half
(B01 of Sentinel-2) is a feature of the estimate but never a constraint on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import CENTRE_NM, FWHM_NM, SOURCE_BAND_NAMES
from model.errors import DataMissing, InvalidResponseTable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FWHM_PER_SIGMA: Final[float] = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))
"""Full width at half maximum of a Gaussian of unit standard deviation."""

CONSTRAINT_LOSS_LIMIT: Final[float] = 0.5
"""A band that has more than this fraction of its response outside the grid does not constrain the estimate."""


@dataclass(frozen=True)
class ResponseTable:
    """A sensor's relative spectral responses, sampled on one wavelength axis."""

    names: tuple[str, ...]
    """Band names, one per row of `response`."""
    wavelength_nm: NDArray[np.float64]
    """(n,) strictly increasing wavelengths, nm."""
    response: NDArray[np.float64]
    """(bands, n) non-negative relative responses."""

    def __post_init__(self) -> None:
        if self.response.shape != (len(self.names), self.wavelength_nm.size):
            raise InvalidResponseTable(
                f"response has shape {self.response.shape}, expected "
                f"{(len(self.names), self.wavelength_nm.size)} for its names and wavelengths"
            )
        if not np.all(np.diff(self.wavelength_nm) > 0):
            raise InvalidResponseTable("wavelengths must increase strictly; sort the table first")
        if not np.all(np.isfinite(self.response)) or np.any(self.response.sum(axis=1) <= 0):
            raise InvalidResponseTable("every band needs finite responses with a positive sum")


@dataclass(frozen=True)
class Responses:
    """A response table integrated over a hyperspectral grid."""

    names: tuple[str, ...]
    """Band names, one per row of `matrix`."""
    matrix: NDArray[np.float64]
    """(bands, channels) D; rows sum to 1, and are 0 for a band that loses too much to constrain anything."""
    loss: NDArray[np.float64]
    """(bands,) fraction of each band's response outside the grid, 0-1."""

    @property
    def constrains(self) -> NDArray[np.bool_]:
        """(bands,) whether a band constrains the estimate (its loss is below `CONSTRAINT_LOSS_LIMIT`)."""
        return self.loss < CONSTRAINT_LOSS_LIMIT


def channel_widths(centre_nm: NDArray[np.float64], fwhm_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width of the wavelength axis that each channel stands for.

    Args:
        centre_nm: (channels,) centres in any order, nm.
        fwhm_nm: (channels,) full widths at half maximum, nm.

    Returns:
        (channels,) Voronoi widths, nm; a cell reaches at most one FWHM from its centre, so gaps stay gaps.
    """
    order = np.argsort(centre_nm, kind="stable")
    centre, fwhm = centre_nm[order], fwhm_nm[order]
    half_gap = np.diff(centre) / 2
    left = np.minimum(np.r_[fwhm[0] / 2, half_gap], fwhm)
    right = np.minimum(np.r_[half_gap, fwhm[-1] / 2], fwhm)
    widths = np.empty_like(centre)
    widths[order] = left + right
    return widths


def integrate(
    table: ResponseTable,
    centre_nm: NDArray[np.float64] = CENTRE_NM,
    fwhm_nm: NDArray[np.float64] = FWHM_NM,
) -> Responses:
    """Integrate a sensor's responses over Gaussian channels.

    Args:
        table: the sensor's responses; any multispectral sensor will do.
        centre_nm: (channels,) channel centres, nm; the product's grid unless told otherwise.
        fwhm_nm: (channels,) channel widths, nm.

    Returns:
        The response matrix with rows normalised to 1 and the loss of each band.
    """
    step = np.gradient(table.wavelength_nm)  # (n,)
    sigma = fwhm_nm / FWHM_PER_SIGMA
    z = (table.wavelength_nm[None, :] - centre_nm[:, None]) / sigma[:, None]  # (channels, n)
    shape = np.exp(-0.5 * z**2) / (sigma[:, None] * np.sqrt(2 * np.pi))
    share = (table.response * step) @ shape.T * channel_widths(centre_nm, fwhm_nm)  # (bands, channels)
    total = (table.response * step).sum(axis=1)
    covered = share.sum(axis=1)
    loss = np.clip(1.0 - covered / total, 0.0, 1.0)
    matrix = np.where((loss < CONSTRAINT_LOSS_LIMIT)[:, None], share / np.maximum(covered, 1e-300)[:, None], 0.0)
    return Responses(table.names, matrix, loss)


def _band_name(name: str) -> str:
    """ESA's two-digit spelling of a band name: ``B2`` -> ``B02``, ``B8A`` stays."""
    digits = name.removeprefix("B")
    return f"B{int(digits):02d}" if digits.isdigit() else name


def read_sentinel2_tables(path: Path) -> dict[str, ResponseTable]:
    """Read ESA's 1 nm responses of the three Sentinel-2 platforms, without B10.

    Sentinel-2C's table lacks B01 and B09 (and B10): Sentinel-2B's stand in, which the model card says.

    Args:
        path: ``s2_srf_1nm.npz`` with ``wl_S2x``, ``srf_S2x`` and band names (ESA COPE-GSEG-EOPG-TN-15-0007).

    Returns:
        Platform name -> table in the order of `model.bands.SOURCE_BANDS`.
    """
    tables: dict[str, ResponseTable] = {}
    with np.load(path, allow_pickle=False) as data:
        rows = {
            letter: dict(
                zip(
                    (_band_name(str(name)) for name in data["bands_S2C" if letter == "C" else "bands"]),
                    np.asarray(data[f"srf_S2{letter}"], dtype=np.float64),
                    strict=True,
                )
            )
            for letter in "ABC"
        }
        for letter in "ABC":
            wavelength = np.asarray(data[f"wl_S2{letter}"], dtype=np.float64)
            merged = {**rows["B"], **rows[letter]}
            response = np.stack([merged[name] for name in SOURCE_BAND_NAMES])
            tables[f"sentinel-2{letter.lower()}"] = ResponseTable(SOURCE_BAND_NAMES, wavelength, response)
    return tables


S2C_SUBSTITUTED_BANDS: Final[tuple[str, ...]] = ("B01", "B09")
"""Bands whose Sentinel-2C response is Sentinel-2B's."""


def read_oli_tables(bands: tuple[str, ...], platforms: tuple[str, ...]) -> dict[str, ResponseTable]:
    """Responses of Landsat's Operational Land Imager, from ``pyrsr`` (needed for training only).

    They are NASA's band averages (Ball_BA_RSR, version 1.2 of OLI and 1.0 of OLI-2), each at 1 nm on its own axis;
    faintly negative values of the laboratory's measurement count as none.

    Args:
        bands: band names, ``B1`` ... ``B7``.
        platforms: ``landsat-8``, ``landsat-9``.

    Returns:
        Platform name -> table in the order of `bands`, on one axis of 1 nm.

    Raises:
        DataMissing: if ``pyrsr`` is not installed.
    """
    try:
        from pyrsr.rsr import RSR_reader
    except ImportError as error:
        raise DataMissing(
            f"Landsat's responses come from pyrsr, which is absent ({error}); install explains2a[train]"
        ) from error
    tables = {}
    for platform in platforms:
        measured = RSR_reader(platform.title(), "OLI_TIRS", LayerBandsAssignment=[b.removeprefix("B") for b in bands])
        curves = [(curve[:, 0] * 1000.0, np.clip(curve[:, 1], 0.0, None)) for curve in measured.values()]
        axis = np.arange(np.floor(min(w[0] for w, _ in curves)) - 1, np.ceil(max(w[-1] for w, _ in curves)) + 2)
        response = np.stack([np.interp(axis, w, r, left=0.0, right=0.0) for w, r in curves])
        tables[platform] = ResponseTable(bands, axis, response)
    return tables
