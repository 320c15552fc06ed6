"""Finding places in a scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL_CONTRAST: Final[float] = 0.08
"""Reflectance by which a small object outshines the median of its 70 m surroundings, mean of the 10 m bands."""


def far_from(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """(h, w) pixels that no pixel of the mask comes within `pixels` of, along rows, columns and diagonals."""
    spread = torch.nn.functional.max_pool2d(
        torch.as_tensor(mask.astype(np.float32))[None], 2 * pixels + 1, stride=1, padding=pixels
    )[0]
    return np.asarray(spread.numpy() == 0)


def small_objects(bands10: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(h, w) pixels of 10 m bands (4, h, w) that outshine their 70 m surroundings by `SMALL_CONTRAST`."""
    mean = np.pad(bands10.mean(axis=0), 3, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(mean, (7, 7))
    return np.asarray(mean[3:-3, 3:-3] - np.median(around, axis=(2, 3)) > SMALL_CONTRAST)


def nearest(values: NDArray[np.floating], wanted: float) -> tuple[int, int]:
    """Row and column of the pixel whose value is nearest to the wanted one."""
    row, column = np.unravel_index(int(np.abs(values - wanted).argmin()), values.shape)
    return int(row), int(column)


def distance(shape: tuple[int, ...], place: tuple[int, int]) -> NDArray[np.float64]:
    """(h, w) distance of every pixel from a place, pixels."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(row - place[0], column - place[1]))


def inside(place: tuple[int, int], window: tuple[slice, slice]) -> bool:
    """Whether a place lies in a window."""
    return all(part.start <= at < part.stop for at, part in zip(place, window, strict=True))


def crop(row: int, column: int, shape: tuple[int, int], size: int = 48) -> tuple[slice, slice]:
    """A square window around a place, inside the scene, on the 60 m grid."""
    starts = [
        min(max(0, at - size // 2), extent - size) // 6 * 6 for at, extent in zip((row, column), shape, strict=True)
    ]
    return slice(starts[0], starts[0] + size), slice(starts[1], starts[1] + size)
