"""Spectra of places: what a reader of product files must give the catalog, and what the catalog makes of it.

The catalog knows items and grids; it opens no file. A `SpectraReader` is handed to it, and gets nothing of a request
but pixel numbers: the addresses that it reads are those that the item's publication registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np

from catalog.assets import QUALITY_BITS
from model.bands import CHANNELS, SPECTRAL_GROUPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from catalog.places import Pixels

MAX_POINTS: Final = 100
"""Places of one request."""

GROUP_OF_CHANNEL: Final = np.zeros(len(CHANNELS), np.intp)
"""(172,) the spectral group of every channel."""
for _number, _group in enumerate(SPECTRAL_GROUPS):
    GROUP_OF_CHANNEL[_group.channels] = _number

NODATA_BIT: Final = next(1 << bit for bit, name, _ in QUALITY_BITS if name == "nodata")


class SpectraUnreadable(RuntimeError):
    """The files of a product cannot be read; `transient` says whether another try may help."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class NoSpectra(LookupError):
    """An item has no files that hold spectra."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class PixelSpectra:
    """What the files of a product say of n pixels; nan where nothing is known."""

    reflectance: NDArray[np.float32]
    """(172, n) estimated surface reflectance."""
    sigma: NDArray[np.float32]
    """(172, n) calibrated one sigma."""
    flags: NDArray[np.uint16]
    """(n,) bits of the ``qa`` file."""
    explanation: Mapping[str, NDArray[np.float32]]
    """(n,) by name of the layer: ``measured_<group>``, ``out_of_domain_score``, ``consistency_chi2``; may be empty."""
    seen: NDArray[np.float32] | None
    """(12, n) the source bands as the sensor would see these spectra; None where the product does not say."""
    residual: NDArray[np.float32] | None
    """(12, n) source minus product, of the band's own pixel that holds the place; None where there is no such file."""


class SpectraReader(Protocol):
    """Reads the files of products; keeps some open. May be called by several threads."""

    def read(self, item: Mapping[str, Any], pixels: Pixels) -> PixelSpectra:
        """Read pixels of a product.

        Args:
            item: As published, with the addresses of its files.
            pixels: Inside its grid.

        Returns:
            What its files say of them.

        Raises:
            NoSpectra: the item has no such files.
            SpectraUnreadable: its files cannot be read.
        """


LAYERS: Final = (
    "measured_fraction",
    *(f"measured_{group.name}" for group in SPECTRAL_GROUPS),
    "out_of_domain_score",
    "consistency_chi2",
)
"""Layers of the explanation that go with a spectrum."""


def flag_names(bits: int) -> list[str]:
    """Return the names of the quality bits that are set."""
    return [name for bit, name, _ in QUALITY_BITS if bits >> bit & 1]


def source_reflectance(spectra: PixelSpectra) -> NDArray[np.float32] | None:
    """Return the source bands (12, n) at the pixels: the product seen through the sensor, plus what it misses.

    For the 10 m bands that is the source's own value. A coarser band has one residual for 4 or 36 pixels, so what is
    returned is its value with the detail that the product has inside the coarse pixel; the mean over that pixel is
    close to the source's value.
    """
    if spectra.seen is None or spectra.residual is None:
        return None
    return spectra.seen + spectra.residual


def mean_spectra(spectra: PixelSpectra) -> PixelSpectra:
    """Average over the pixels that have data.

    Returns:
        One pixel: means; the root mean square of sigma (what one pixel's estimate misses, its neighbours' mostly miss
        too, so a mean is hardly more certain); no flags. All nan where no pixel has data.
    """
    known = np.isfinite(spectra.reflectance).all(axis=0)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        kept = values[..., known]
        finite = np.isfinite(kept)
        number = finite.sum(axis=-1, keepdims=True)
        total = np.where(finite, kept, 0).sum(axis=-1, keepdims=True, dtype=np.float64)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(np.float32)

    return PixelSpectra(
        reflectance=mean(spectra.reflectance),
        sigma=np.sqrt(mean(spectra.sigma**2)),
        flags=np.zeros(1, np.uint16),
        explanation={name: mean(values) for name, values in spectra.explanation.items()},
        seen=None if spectra.seen is None else mean(spectra.seen),
        residual=None if spectra.residual is None else mean(spectra.residual),
    )


def spread(spectra: PixelSpectra) -> NDArray[np.float32]:
    """Return the standard deviation (172,) of the reflectance over the pixels that have data; nan without any."""
    known = np.isfinite(spectra.reflectance).all(axis=0)
    if not known.any():
        return np.full(len(spectra.reflectance), np.nan, np.float32)
    return np.asarray(spectra.reflectance[:, known].std(axis=1, dtype=np.float64), np.float32)


def flag_shares(flags: Sequence[int] | NDArray[np.uint16]) -> dict[str, float]:
    """Return which share of pixels has each quality bit set; bits that none has are left out."""
    bits = np.asarray(flags, np.uint16)
    shares = {name: float((bits >> bit & 1).mean()) for bit, name, _ in QUALITY_BITS}
    return {name: round(share, 4) for name, share in shares.items() if share > 0}
