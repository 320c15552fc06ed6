"""Tiles as TIFF stores them: horizontal differences (predictor 2), then ZSTD."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zstandard

if TYPE_CHECKING:
    from numpy.typing import NDArray

CACHED_BYTES: Final = 1 << 19
"""Raw bytes that are worked on together: they, and what is made of them, stay in a core's own cache."""


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
        self._at_once = max(1, CACHED_BYTES // (block * block * dtype.itemsize))
        self._own = threading.local()

    def encode(self, values: NDArray[Any]) -> list[bytes]:
        """Encode one tile per band.

        Args:
            values: (bands, h, w) contiguous, with h and w at most the tile's edge; a clipped tile is filled up with its
                last column and with zero rows, which no reader shows.

        Returns:
            One compressed tile per band.
        """
        compress = self._compressor().compress
        tiles: list[bytes] = []
        for start in range(0, len(values), self._at_once):
            tiles += [compress(tile) for tile in self._differences(values[start : start + self._at_once])]
        return tiles

    def _differences(self, values: NDArray[Any]) -> NDArray[Any]:
        """Subtract every pixel's left neighbour, in a buffer of the thread's own that the next call overwrites."""
        bands, height, width = values.shape
        differences = self._buffer()[:bands]
        if height == width == self._block:
            # One long subtraction is several times faster than one for each row; it is wrong in the first column alone.
            flat = values.reshape(-1)
            np.subtract(flat[1:], flat[:-1], out=differences.reshape(-1)[1:])
        else:
            differences[...] = 0
            np.subtract(values[:, :, 1:], values[:, :, :-1], out=differences[:, :height, 1:width])
        differences[:, :height, 0] = values[:, :, 0]
        return differences

    def _buffer(self) -> NDArray[Any]:
        if not hasattr(self._own, "buffer"):
            self._own.buffer = np.empty((self._at_once, self._block, self._block), self._dtype)
        buffer: NDArray[Any] = self._own.buffer
        return buffer

    def _compressor(self) -> zstandard.ZstdCompressor:
        # A compressor must not be shared between threads, and making one costs more than a small tile.
        if not hasattr(self._own, "compressor"):
            self._own.compressor = zstandard.ZstdCompressor(level=self._level)
        compressor: zstandard.ZstdCompressor = self._own.compressor
        return compressor
