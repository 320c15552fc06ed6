"""Exact 2 x 2 reduction of integer pixels: the mean of the valid, or the bitwise OR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def halve(values: NDArray[Any], method: str, nodata: int | None) -> NDArray[Any]:
    """Make one overview pixel of every 2 x 2 pixels.

    Odd edges are kept: their pixel stands for the one or two pixels that exist. The mean of the valid is rounded half
    to even; where none of the four is valid the result is `nodata`.

    Args:
        values: (bands, h, w) integer pixels.
        method: ``mean`` or ``bitor``.
        nodata: The value that is not valid; None: all are.

    Returns:
        (bands, ceil(h / 2), ceil(w / 2)) of the same type.
    """
    even = _even(values)
    known = nodata is not None and bool((even == nodata).any())
    if method == "bitor":
        return _bitor_of_valid(even, nodata) if known else _fold(even, np.bitwise_or)
    return _mean_of_valid(even, nodata) if known else _mean(even)


def _even(values: NDArray[Any]) -> NDArray[Any]:
    """Repeat the last row and column where their number is odd; a repeated pixel changes neither mean nor OR."""
    _bands, height, width = values.shape
    if height % 2 == 0 and width % 2 == 0:
        return values
    return np.pad(values, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")


def _fold(values: NDArray[Any], operation: np.ufunc, dtype: type | None = None) -> NDArray[Any]:
    rows = operation(values[:, 0::2], values[:, 1::2], dtype=dtype)
    folded: NDArray[Any] = operation(rows[:, :, 0::2], rows[:, :, 1::2])
    return folded


def _mean(values: NDArray[Any]) -> NDArray[Any]:
    # Sums of four 16-bit integers and their quarters are exact in float32, so rint rounds the true mean.
    mean = _fold(values, np.add, np.float32)
    mean *= np.float32(0.25)
    np.rint(mean, out=mean)
    return mean.astype(values.dtype)


def _mean_of_valid(values: NDArray[Any], nodata: int | None) -> NDArray[Any]:
    valid = values != nodata
    count = _fold(valid, np.add, np.float32)
    total = _fold(np.where(valid, values, 0), np.add, np.float32)
    # Thirds are not exact in float32, but never half-way either: the nearest integer is still the right one.
    mean = np.rint(total / np.maximum(count, np.float32(1)))
    return np.where(count > 0, mean, np.float32(nodata or 0)).astype(values.dtype)


def _bitor_of_valid(values: NDArray[Any], nodata: int | None) -> NDArray[Any]:
    valid = values != nodata
    folded = _fold(np.where(valid, values, values.dtype.type(0)), np.bitwise_or)
    return np.where(_fold(valid, np.logical_or), folded, values.dtype.type(nodata or 0))
