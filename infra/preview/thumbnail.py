"""The small picture that catalogs show."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from infra.preview.colour import fixed_stretch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infra.preview.mosaic import Mosaic


def render_thumbnail(mosaic: Mosaic, edge: int) -> bytes:
    """Render the mosaic in true colour with the fixed stretch.

    Args:
        mosaic: The scene.
        edge: Longest side of the picture, pixels.

    Returns:
        PNG, red, green, blue and opacity; whole multiples of the mosaic's cells where the scene is small.
    """
    from matplotlib.image import imsave

    longest = max(mosaic.shape)
    colours = np.moveaxis(mosaic.reflectance()[1:], 0, -1).astype(np.float64)
    if longest > edge:
        colours = _shrunk(colours, edge / longest)
    else:
        factor = edge // longest
        colours = colours.repeat(factor, axis=0).repeat(factor, axis=1)
    opaque = np.where(np.isfinite(colours).all(axis=-1, keepdims=True), np.uint8(255), np.uint8(0))
    picture = io.BytesIO()
    imsave(picture, np.concatenate([fixed_stretch(colours), opaque], axis=-1), format="png")
    return picture.getvalue()


def _shrunk(colours: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """Return the means of the known cells of (H, W, 3) over fewer, larger ones; nan where none is known."""
    known = np.isfinite(colours)
    total, count = np.where(known, colours, 0.0), known.astype(np.float64)
    for axis in (0, 1):
        size = max(1, round(colours.shape[axis] * ratio))
        starts = np.arange(size) * colours.shape[axis] // size
        total, count = (np.add.reduceat(plane, starts, axis=axis) for plane in (total, count))
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)
