"""Gathers what a preview needs while a scene goes by, with memory that does not grow with the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infra.preview.mosaic import Mosaic
from infra.preview.page import render_page, render_spectrum
from infra.preview.quality import NODATA_BIT
from infra.preview.sample import PixelSample
from infra.preview.spectra import Reliability
from infra.preview.thumbnail import render_thumbnail
from infra.preview.typical import TypicalPixels
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from infra.preview.page import PreviewHeader

    ChannelSigma = Callable[[NDArray[np.int16]], NDArray[np.float32]]

_FRACTION_STEP = 1e-6


@dataclass
class _MeasuredFraction:
    """Mean measured fraction by channel, weighted by pixels; whole steps, so that order does not matter."""

    steps: NDArray[np.int64] | None = None
    pixels: int = 0

    def add(self, fraction: NDArray[np.float32], pixels: int) -> None:
        steps = np.rint(fraction.astype(np.float64) / _FRACTION_STEP).astype(np.int64) * pixels
        self.steps = steps if self.steps is None else self.steps + steps
        self.pixels += pixels

    def mean(self) -> NDArray[np.float64] | None:
        return None if self.steps is None or not self.pixels else self.steps * _FRACTION_STEP / self.pixels


class PreviewCollector:
    """Receives a product window by window, in any order, and renders its thumbnail and its page."""

    def __init__(self, width: int, height: int) -> None:
        """Prepare for a product.

        Args:
            width: Of the product, 10 m pixels.
            height: Of the product, 10 m pixels.
        """
        self._width, self._height = width, height
        self._mosaic = Mosaic(width, height)
        self._typical = TypicalPixels()
        self._measured = _MeasuredFraction()
        self._channel_sigma: ChannelSigma | None = None

    def add(
        self,
        column: int,
        row: int,
        *,
        hsi: NDArray[np.int16],
        source: NDArray[np.float32],
        residual_rms: NDArray[np.float32],
        qa: NDArray[np.uint16],
        uncertainty: NDArray[np.int16],
        channel_sigma: ChannelSigma,
        measured_fraction: NDArray[np.float32] | None = None,
    ) -> None:
        """Take in one window; each pixel of the product once.

        Args:
            column: Left edge in the product, 10 m pixels.
            row: Upper edge in the product, 10 m pixels.
            hsi: (172, h, w) int16 stored reflectance.
            source: (12, h, w) float32 source bands at 10 m, reflectance 0-1, nan = no data.
            residual_rms: (h, w) float32 RMS over the source bands of source minus re-simulation, reflectance.
            qa: (h, w) uint16 quality bits.
            uncertainty: (u, h, w) int16 stored uncertainty layers.
            channel_sigma: Turns (u, n) stored uncertainty layers into (172, n) float32 1-sigma, reflectance. Called
                once, when the page is rendered, for a few thousand pixels.
            measured_fraction: (172,) float32 how much of each channel the sensor saw in this window, 0-1.

        Raises:
            ValueError: the window reaches beyond the product.
        """
        height, width = qa.shape
        if column < 0 or row < 0 or column + width > self._width or row + height > self._height:
            raise ValueError(
                f"window {width} x {height} at column {column}, row {row} reaches beyond the product of "
                f"{self._width} x {self._height} pixels; cut it to the product"
            )
        valid = ((qa & NODATA_BIT) == 0) & (hsi[0] != NODATA) & np.isfinite(source).all(axis=0)
        self._mosaic.add(column, row, hsi=hsi, residual_rms=residual_rms, qa=qa, valid=valid)
        self._channel_sigma = channel_sigma
        pixels = int(valid.sum())
        if measured_fraction is not None and pixels:
            self._measured.add(measured_fraction, pixels)
        down, across = np.nonzero(self._lattice(valid, column, row))
        if down.size:
            self._typical.add(
                PixelSample(
                    position=(down + row) * self._width + across + column,
                    hsi=hsi[:, down, across].T,
                    uncertainty=uncertainty[:, down, across].T,
                    source=source[:, down, across].T,
                    qa=qa[down, across],
                )
            )

    def thumbnail(self, edge: int = 256) -> bytes:
        """Return a PNG of at most `edge` pixels along its longer side: true colour, no data transparent."""
        return render_thumbnail(self._mosaic, edge)

    def spectrum(self) -> bytes | None:
        """Return the spectrum of the scene's first typical pixel as PNG; None without a valid pixel."""
        typical = self._typical.chosen()
        return render_spectrum(typical[0], self._sigma(typical[0].pixel)[:, 0]) if typical else None

    def page(self, header: PreviewHeader) -> bytes:
        """Return the page for people as PNG."""
        typical = self._typical.chosen()
        return render_page(
            header,
            size=(self._width, self._height),
            mosaic=self._mosaic,
            typical=typical,
            typical_sigma=[self._sigma(one.pixel)[:, 0] for one in typical],
            reliability=self._reliability(),
        )

    def _reliability(self) -> Reliability | None:
        overall = self._typical.overall
        if overall is None:
            return None
        sigma = self._sigma(overall)
        low, high = np.nanpercentile(sigma, (10.0, 90.0), axis=1)
        return Reliability(np.nanmean(sigma, axis=1), low, high, self._measured.mean())

    def _sigma(self, sample: PixelSample) -> NDArray[np.float64]:
        if self._channel_sigma is None:
            raise RuntimeError("no window was added; add the product's windows before its page is rendered")
        return self._channel_sigma(np.ascontiguousarray(sample.uncertainty.T)).astype(np.float64)

    def _lattice(self, valid: NDArray[np.bool_], column: int, row: int) -> NDArray[np.bool_]:
        """Thin valid pixels to about one per cell of the small picture; keep all where none of those is valid."""
        step = self._mosaic.step
        rows = (np.arange(valid.shape[0]) + row) % step == step // 2
        columns = (np.arange(valid.shape[1]) + column) % step == step // 2
        thinned = valid & rows[:, None] & columns[None, :]
        return thinned if thinned.any() else valid
