"""Tiles as TIFF stores them: horizontal differences (predictor 2), then ZSTD."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TileEncoder:
    """Encodes tiles of one file; may be used by several threads at once."""

    def __init__(self, dtype: np.dtype[Any], block: int, level: int) -> None:
        """Set what all tiles share.

        Args:
            dtype: Pixel type, little endian.
            block: Tile edge, pixels.
            level: ZSTD level.
        """
        self._dtype, self._block, self._level = dtype, block, level
        self._own = threading.local()

    def encode(self, values: NDArray[Any]) -> list[bytes]:
        """Encode one tile per band.

        Args:
            values: (bands, h, w) with h and w at most the tile's edge; a clipped tile is filled up with its last
                column and with zero rows, which no reader shows.

        Returns:
            One compressed tile per band.
        """
        bands, height, width = values.shape
        whole = height == width == self._block
        differences = (np.empty if whole else np.zeros)((bands, self._block, self._block), self._dtype)
        differences[:, :height, 0] = values[:, :, 0]
        np.subtract(values[:, :, 1:], values[:, :, :-1], out=differences[:, :height, 1:width])
        compress = self._compressor().compress
        return [compress(tile) for tile in differences]

    def _compressor(self) -> zstandard.ZstdCompressor:
        # A compressor must not be shared between threads, and making one costs more than a small tile.
        if not hasattr(self._own, "compressor"):
            self._own.compressor = zstandard.ZstdCompressor(level=self._level)
        compressor: zstandard.ZstdCompressor = self._own.compressor
        return compressor
