"""Cut a patch as the edge of a swath cuts a scene: real pixels, all but a sliver taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import SOURCE_BANDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_SLIVER: Final = 2.0
"""Width of what is left at the upper edge, 60 m pixels."""
_SLOPE: Final = 0.2
"""Columns that the edge moves per row, about that of a descending orbit at 52 degrees north."""


def sliver(rows: int, columns: int) -> NDArray[np.bool_]:
    """Return (rows, columns) whether a 60 m pixel lies inside the swath: a wedge along the left edge."""
    row, column = np.mgrid[:rows, :columns]
    return np.asarray(column + _SLOPE * row < _SLIVER)


def cut_bands(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Set everything outside the swath to DN 0 (no data), in all bands along the same 60 m pixels.

    Args:
        files: GeoTIFF of each band, by name.

    Returns:
        GeoTIFFs on the same grids.
    """
    from rasterio.io import MemoryFile

    cut = {}
    for band in SOURCE_BANDS:
        with MemoryFile(files[band.name]) as whole, whole.open() as source, MemoryFile() as target:
            stored = source.read(1)
            parents = 60 // band.resolution_m
            inside = sliver(stored.shape[0] // parents, stored.shape[1] // parents)
            stored[~inside.repeat(parents, axis=0).repeat(parents, axis=1)] = 0
            profile = {**source.profile, "nodata": 0}
            with target.open(**profile) as out:
                out.write(stored, 1)
            cut[band.name] = bytes(target.read())
    return cut
