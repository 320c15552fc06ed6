"""The small picture that catalogs show."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from infra.preview.colour import fixed_stretch

if TYPE_CHECKING:
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
    colours = np.moveaxis(mosaic.reflectance()[1:], 0, -1)
    if longest > edge:
        rows, columns = (_nearest(length, edge / longest) for length in mosaic.shape)
        colours = colours[rows][:, columns]
    else:
        factor = edge // longest
        colours = colours.repeat(factor, axis=0).repeat(factor, axis=1)
    opaque = np.where(np.isfinite(colours).all(axis=-1, keepdims=True), np.uint8(255), np.uint8(0))
    picture = io.BytesIO()
    imsave(picture, np.concatenate([fixed_stretch(colours), opaque], axis=-1), format="png")
    return picture.getvalue()


def _nearest(length: int, ratio: float) -> np.ndarray:
    """Return which of `length` cells to draw when only `ratio` of them fit, evenly spread."""
    size = max(1, round(length * ratio))
    return np.minimum(((np.arange(size) + 0.5) * length / size).astype(np.intp), length - 1)
