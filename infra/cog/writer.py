"""The writer: takes blocks in any order, compresses them in a pool and lays them down as they come."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from infra.cog.checksum import checksum_of
from infra.cog.errors import BlockMisplaced, BlockRepeated, BlocksMissing, WriterClosed
from infra.cog.lane import Lane
from infra.cog.placement import Placement
from infra.cog.pyramid import Block, Encoded, Pyramid

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future
    from types import TracebackType

    from numpy.typing import NDArray

    from infra.cog.profile import CogProfile
    from infra.storage import ObjectStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CogSummary:
    """What the writer saw go by; `verify_cog` holds the stored file against it."""

    key: str
    size: int
    """Bytes."""
    blocks: int
    """Blocks of the full resolution, each holding all bands."""
    checksum_of_values: str
    """SHA-256 over the table of block checksums, hex: the same whatever order the blocks came in."""
    peak_pending_bytes: int
    """Most memory held at once: pixels in flight, overviews that wait for neighbours, blocks held back."""
    seconds: float
    """Wall time from opening to finishing."""
    block_checksums: NDArray[np.uint32] = field(repr=False, compare=False)
    """(bands, rows, columns) CRC-32 of each block's pixels as streamed, clipped, little endian."""


class CogWriter:
    """Writes one file; used as a context manager it aborts unless it was finished.

    Memory is bounded: pixels in flight by the lane, over all writers that share it; pending overviews by the order of
    the blocks (in Z-order of the file's own blocks at most one block per level, row by row half a row of blocks per
    level).
    """

    def __init__(self, profile: CogProfile, store: ObjectStore, key: str, *, pool: Executor | Lane) -> None:
        """Open a file; nothing is sent before the first megabytes are compressed.

        Args:
            profile: The file.
            store: Where it goes.
            key: Its key; it must not be taken.
            pool: Threads (not processes) that compress; `write` waits for them, so it must not run in the pool. Or a
                lane that several writers share and that its owner closes; when one is aborted, all of them stop.
        """
        self._profile, self._key = profile, key
        self._pyramid = Pyramid(profile)
        self._placement = Placement(profile, store, key)
        self._written = np.zeros(self._pyramid.checksums.shape[1:], np.bool_)
        self._lane = pool if isinstance(pool, Lane) else Lane(pool)
        self._owns_lane = self._lane is not pool
        self._lane.on_stop(self._placement.interrupt)
        self._entered = 0
        self._settled = 0
        self._peak = 0
        self._began = time.monotonic()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()  # without effect after `finish`

    def write(self, column: int, row: int, block: NDArray[Any], *, lent: bool = False) -> None:
        """Take a rectangle of whole blocks. The array may be reused afterwards, unless it is lent.

        Args:
            column: Left edge, pixels of this file; a multiple of the block edge.
            row: Top edge, pixels of this file; a multiple of the block edge.
            block: (bands, h, w) of the file's type; it ends on the block grid or at the file's edge.
            lent: Nobody changes the array before the file is finished or aborted: it is read where it lies, not copied.

        Raises:
            BlockMisplaced: shape, type or position do not fit.
            BlockRepeated: some of it was written before.
            StorageError: the store failed; the writer is to be aborted.
        """
        self._ensure_open()
        self._check(column, row, block)
        edge = self._profile.block
        first_row, first_column = row // edge, column // edge
        rows, columns = -(-block.shape[1] // edge), -(-block.shape[2] // edge)
        area = self._written[first_row : first_row + rows, first_column : first_column + columns]
        if area.any():
            raise BlockRepeated(f"{self._key}: blocks at column {column}, row {row} were written before")
        area[...] = True
        for y, x in sorted(np.ndindex(rows, columns), key=lambda at: _morton(first_row + at[0], first_column + at[1])):
            pixels = block[:, y * edge : (y + 1) * edge, x * edge : (x + 1) * edge]
            self._submit(first_row + y, first_column + x, pixels, lent=lent)

    def finish(self) -> CogSummary:
        """Wait for everything, complete the file and make it appear.

        Raises:
            BlocksMissing: not every block was written; the upload is aborted.
            ObjectExists: the key was taken meanwhile; nothing of this file is left.
        """
        self._ensure_open()
        missing = np.argwhere(~self._written)
        if len(missing):
            self.abort()
            edge = self._profile.block
            raise BlocksMissing(
                f"{self._key}: {len(missing)} of {self._written.size} blocks are missing, "
                f"the first at column {missing[0][1] * edge}, row {missing[0][0] * edge}"
            )
        try:
            stored = self._lane.last(self._placement.finish)
        except BaseException:
            self.abort()
            raise
        self._close()
        seconds = time.monotonic() - self._began
        logger.debug("%s: %d bytes in %.1f s, %d bytes pending at most", self._key, stored.size, seconds, self._peak)
        sums = self._pyramid.checksums
        return CogSummary(self._key, stored.size, self._written.size, checksum_of(sums), self._peak, seconds, sums)

    def abort(self) -> None:
        """Give up and leave nothing in the store; does nothing after `finish`."""
        if self._closed:
            return
        self._closed = True
        self._lane.stop(WriterClosed(f"the writer of {self._key} was aborted"))
        self._lane.drain()
        self._placement.abort()
        self._close()

    @property
    def laid_bytes(self) -> int:
        """Compressed bytes laid down so far."""
        return self._placement.laid_bytes

    def _close(self) -> None:
        self._closed = True
        if self._owns_lane:
            self._lane.close()

    def _ensure_open(self) -> None:
        if self._closed:
            raise WriterClosed(f"the writer of {self._key} is finished or aborted")

    def _check(self, column: int, row: int, block: NDArray[Any]) -> None:
        profile, edge = self._profile, self._profile.block
        expected = f"expected ({len(profile.bands)}, h, w) {profile.dtype} on the {edge} pixel grid"
        if block.ndim != 3 or block.shape[0] != len(profile.bands) or block.dtype != np.dtype(profile.dtype):
            raise BlockMisplaced(f"{self._key}: found {block.shape} {block.dtype}; {expected}")
        _bands, height, width = block.shape
        ends = ((column, width, profile.width), (row, height, profile.height))
        fits = all(
            at >= 0 and at % edge == 0 and size > 0 and (at + size == end or (at + size < end and size % edge == 0))
            for at, size, end in ends
        )
        if not fits:
            raise BlockMisplaced(
                f"{self._key}: found {width} x {height} pixels at column {column}, row {row} of a "
                f"{profile.width} x {profile.height} file; {expected}, ending on it or at the file's edge"
            )

    def _submit(self, row: int, column: int, pixels: NDArray[Any], *, lent: bool) -> None:
        self._lane.enter(pixels.nbytes)
        kind = self._profile.pixel_type
        values = pixels.astype(kind, copy=False) if lent else np.array(pixels, dtype=kind, order="C")
        self._entered += values.nbytes
        first, *completed = self._pyramid.enter(row, column)
        futures = [
            self._lane.compress(self._pyramid.work, first, group, values[bands])
            for group, bands in enumerate(self._pyramid.groups)
        ]
        self._lane.lay(self._settle, values.nbytes, [first, *completed], futures, values.nbytes)

    def _settle(self, blocks: list[Block], futures: list[Future[list[Encoded]]], size: int) -> None:
        """Wait for a block and lay it down, and the overview blocks that it completed: they are whole then, too."""
        for future in futures:
            for done in future.result():
                done.block.tiles[done.group] = done.tiles
        self._note_peak()
        for block in blocks:
            tiles = [tile for group in block.tiles for tile in group]
            self._placement.lay(block.level, block.row, block.column, tiles)
        self._settled += size

    def _note_peak(self) -> None:
        in_flight = self._entered - self._settled
        self._peak = max(self._peak, in_flight + self._pyramid.pending_bytes + self._placement.pending_bytes)


def _morton(row: int, column: int) -> int:
    """Interleave the bits of row and column: the block's place in Z-order."""
    return sum(((column >> bit & 1) | (row >> bit & 1) << 1) << 2 * bit for bit in range(16))
