"""One cell of a product on its way from the model to the writers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.quality_mask import QualityBit, quality_mask
from infra.preview import visual_rgb
from model.bands import BANDS_BY_RESOLUTION, CHANNELS, SOURCE_BAND_NAMES, SPECTRAL_GROUPS
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from flows.production import RasterFile
    from infra.cog import CogWriter
    from infra.preview import PreviewCollector
    from infra.scene import Pixels, Window
    from model.duality import Estimate, SpectralModel
    from model.inference import Cell


class Piece:
    """One cell of the product: what was read and what the model made of it."""

    def __init__(self, cell: Cell, pixels: Pixels, estimate: Estimate) -> None:
        self.estimate = estimate
        self._cell, self._pixels = cell, pixels
        self._mask = quality_mask(
            valid=self._inner(pixels.valid),
            saturated=self._inner(pixels.saturated),
            out_of_domain=estimate.out_of_domain,
            low_consistency=estimate.low_consistency,
            scene_classes=None if pixels.scl is None else self._inner(pixels.scl, 2),
        )

    def write(self, writers: Iterable[tuple[RasterFile, CogWriter]], window: Window) -> None:
        """Lend every file its part: nothing here is changed any more."""
        column, row = self._place(window)
        estimate = self.estimate
        arrays: dict[str, NDArray[Any]] = {
            "hsi": estimate.hsi,
            "compact": estimate.compact,
            "uncertainty": estimate.uncertainty,
            "explanation": estimate.explanation,
            "residual_10m": estimate.residual_10,
            "residual_20m": estimate.residual_20,
            "residual_60m": estimate.residual_60,
            "qa": self._mask[None],
            "visual": visual_rgb(estimate.hsi),
        }
        for file, writer in writers:
            step = file.metres // 10
            writer.write(column // step, row // step, arrays[file.asset], lent=True)

    def show(self, preview: PreviewCollector, window: Window, model: SpectralModel) -> None:
        """Give the preview its material."""
        column, row = self._place(window)
        preview.add(
            column,
            row,
            hsi=self.estimate.hsi,
            source=self._source(),
            residual_rms=self._residual_rms(model),
            qa=self._mask,
            uncertainty=self.estimate.uncertainty,
            channel_sigma=model.channel_sigma,
            measured_fraction=self._measured_fraction(model),
        )

    @property
    def size(self) -> int:
        """Pixels at 10 m."""
        return self._mask.size

    def flag_counts(self) -> dict[str, int]:
        """Count pixels by quality bit."""
        counts = {bit.name.lower(): int((self._mask & bit > 0).sum()) for bit in QualityBit if bit.name}
        return counts | {"pixels": self._mask.size}

    def _place(self, window: Window) -> tuple[int, int]:
        return self._cell.inner.column - window.column, self._cell.inner.row - window.row

    def _inner(self, array: NDArray[Any], step: int = 1) -> NDArray[Any]:
        """Cut the halo off an array whose pixels are `step` wide."""
        left, top, right, bottom = (side // step for side in self._cell.halo)
        return array[..., top : array.shape[-2] - bottom, left : array.shape[-1] - right]

    def _source(self) -> NDArray[np.float32]:
        """Return the twelve bands (12, h, w) at 10 m, coarse pixels repeated: for display, not for the model."""
        planes = {}
        for metres, stack in ((10, self._pixels.b10), (20, self._pixels.b20), (60, self._pixels.b60)):
            step = metres // 10
            for name, plane in zip(BANDS_BY_RESOLUTION[metres], self._inner(stack, step), strict=True):
                planes[name] = plane.repeat(step, axis=0).repeat(step, axis=1)
        return np.stack([planes[name] for name in SOURCE_BAND_NAMES])

    def _residual_rms(self, model: SpectralModel) -> NDArray[np.float32]:
        """Return the RMS (h, w) of all residuals, reflectance; coarse residuals spread over their pixels."""
        square = np.zeros(self._mask.shape, np.float32)
        number = np.zeros(self._mask.shape, np.float32)
        stacks = {10: self.estimate.residual_10, 20: self.estimate.residual_20, 60: self.estimate.residual_60}
        for metres, stack in stacks.items():
            step = metres // 10
            for layer, plane in zip(model.residual_layers[metres], stack, strict=True):
                if layer.name.endswith("B01"):  # outside the product's grid: a feature, not a constraint
                    continue
                known = plane != NODATA
                value = np.where(known, plane * np.float32(layer.scale), 0)
                square += (value * value).repeat(step, axis=0).repeat(step, axis=1)
                number += known.repeat(step, axis=0).repeat(step, axis=1)
        return np.sqrt(square / np.maximum(number, 1))

    def _measured_fraction(self, model: SpectralModel) -> NDArray[np.float32] | None:
        """Return the mean measured fraction (172,) of this piece, group by group; None where nothing is valid."""
        valid = self._mask & QualityBit.NODATA == 0
        if not valid.any():
            return None
        layers = {layer.name: number for number, layer in enumerate(model.explanation_layers)}
        fraction = np.zeros(len(CHANNELS), np.float32)
        for group in SPECTRAL_GROUPS:
            number = layers[f"measured_{group.name}"]
            scale = model.explanation_layers[number].scale
            fraction[group.channels] = self.estimate.explanation[number][valid].mean() * scale
        return fraction
