"""A small picture of a large scene, put together window by window in any order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from infra.preview.colour import INFRARED, REFLECTANCE_SCALE, TRUE_COLOUR
from infra.preview.quality import FLAGS, NODATA_COLOUR, TRUSTED_COLOUR

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGE: Final = 1000
"""Longest edge of the small picture, cells."""

_CHANNELS: Final = (INFRARED, *TRUE_COLOUR)
_RESIDUAL_STEP: Final = 1e-5
"""Reflectance; residuals are summed in whole steps."""
_LARGEST_RESIDUAL: Final = 1.0


class Mosaic:
    """Means over square cells of the scene.

    All sums are integers: what they add up to does not depend on the order of the windows.
    """

    def __init__(self, width: int, height: int) -> None:
        self.step = max(1, math.ceil(max(width, height) / EDGE))
        """Pixels per cell edge."""
        shape = (math.ceil(height / self.step), math.ceil(width / self.step))
        self._valid = np.zeros(shape, np.int32)
        self._stored = np.zeros((len(_CHANNELS), *shape), np.int32)
        self._residual = np.zeros(shape, np.int32)
        self._residual_known = np.zeros(shape, np.int32)
        self._flags = np.zeros((len(FLAGS), *shape), np.int32)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        rows, columns = self._valid.shape
        return rows, columns

    def add(
        self,
        column: int,
        row: int,
        *,
        hsi: NDArray[np.int16],
        residual_rms: NDArray[np.float32],
        qa: NDArray[np.uint16],
        valid: NDArray[np.bool_],
    ) -> None:
        """Add one window.

        Args:
            column: Left edge in the scene, pixels.
            row: Upper edge in the scene, pixels.
            hsi: (172, h, w) int16 stored reflectance.
            residual_rms: (h, w) float32 reflectance, nan = not known.
            qa: (h, w) uint16 quality bits.
            valid: (h, w) whether the pixel counts.
        """
        known = valid & np.isfinite(residual_rms)
        steps = np.clip(np.where(known, residual_rms, 0.0), 0.0, _LARGEST_RESIDUAL) / _RESIDUAL_STEP
        planes = [
            (self._valid, valid),
            (self._residual_known, known),
            (self._residual, np.rint(steps).astype(np.int32)),
            *((total, np.where(valid, hsi[band], 0)) for total, band in zip(self._stored, _CHANNELS, strict=True)),
            *((total, valid & ((qa & flag.bit) != 0)) for total, flag in zip(self._flags, FLAGS, strict=True)),
        ]
        for total, plane in planes:
            self._accumulate(total, plane, column, row)

    def reflectance(self) -> NDArray[np.float32]:
        """Return (4, H, W) float32 mean reflectance at near infrared, red, green, blue; nan without a valid pixel."""
        return _mean(self._stored, self._valid) * np.float32(REFLECTANCE_SCALE)

    def residual(self) -> NDArray[np.float32]:
        """Return (H, W) float32 mean RMS residual in reflectance; nan where not known."""
        return _mean(self._residual, self._residual_known) * np.float32(_RESIDUAL_STEP)

    def state(self) -> NDArray[np.int8]:
        """Return (H, W) what to draw of each cell: -1 no data, 0 trusted, i = `FLAGS` [i - 1] on half of it or more."""
        state = np.where(self._valid > 0, 0, -1).astype(np.int8)
        for position in reversed(range(len(FLAGS))):
            state[(self._valid > 0) & (2 * self._flags[position] >= self._valid)] = position + 1
        return state

    def flag_shares(self) -> tuple[float, ...]:
        """Return the share of the valid pixels that carry each of `FLAGS`, 0-1."""
        valid = max(1, int(self._valid.sum(dtype=np.int64)))
        return tuple(float(total) / valid for total in self._flags.sum(axis=(1, 2), dtype=np.int64))

    @property
    def valid_pixels(self) -> int:
        """Number of valid pixels added."""
        return int(self._valid.sum(dtype=np.int64))

    def _accumulate(
        self, total: NDArray[np.int32], plane: NDArray[np.integer] | NDArray[np.bool_], column: int, row: int
    ) -> None:
        rows, starts_down = self._cells(row, plane.shape[0])
        columns, starts_across = self._cells(column, plane.shape[1])
        summed = np.add.reduceat(plane, starts_down, axis=0, dtype=np.int32)
        total[rows, columns] += np.add.reduceat(summed, starts_across, axis=1, dtype=np.int32)

    def _cells(self, first: int, length: int) -> tuple[slice, NDArray[np.intp]]:
        """Return the cells that a run of pixels touches, and where in the run each begins."""
        begin, end = first // self.step, (first + length - 1) // self.step + 1
        return slice(begin, end), np.maximum(np.arange(begin, end) * self.step - first, 0)


def state_colours() -> tuple[str, ...]:
    """Return the colours of `Mosaic.state`, from -1 upward."""
    return (NODATA_COLOUR, TRUSTED_COLOUR, *(flag.colour for flag in FLAGS))


def _mean(total: NDArray[np.int32], count: NDArray[np.int32]) -> NDArray[np.float32]:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
