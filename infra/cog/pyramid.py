"""Blocks on their way through the pool: compressed, reduced and handed up to the overview block above them."""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from infra.cog.encoding import CACHED_BYTES, TileEncoder
from infra.cog.overviews import halve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from infra.cog.profile import CogProfile

_GROUP_BYTES = 1 << 20
"""Raw bytes that one task works on: enough to outweigh its own start."""


@dataclass(eq=False)
class Block:
    """One block of one level and what has become of it."""

    level: int
    row: int
    column: int
    height: int
    """Pixels, clipped at the file's edge."""
    width: int
    """Pixels, clipped at the file's edge."""
    tiles: list[Sequence[bytes]]
    """Compressed tiles per band group; empty until that group is done."""
    parent: Block | None = None
    children: int = 0
    """Blocks below it that exist."""
    submitted: int = 0
    """Of those, how many were handed in."""
    quarters: list[list[tuple[int, int, NDArray[Any]]]] = field(default_factory=list)
    """Per band group, what arrived from below: row and column of its place (0 or 1), and (bands, h, w) pixels."""


@dataclass(frozen=True)
class Encoded:
    """The compressed tiles of one band group of one block."""

    block: Block
    group: int
    tiles: Sequence[bytes]


class Pyramid:
    """Turns pixels of the full resolution into compressed tiles of all levels.

    Every band group goes up the levels by itself: the task that brings the last of the four quarters of an overview
    block makes that block too. So nothing waits, and which thread does it changes no pixel.
    """

    def __init__(self, profile: CogProfile) -> None:
        """Divide the bands into groups.

        Args:
            profile: The file.
        """
        self._profile = profile
        self._encoder = TileEncoder(profile.pixel_type, profile.block, profile.level)
        bands, step = len(profile.bands), max(1, _GROUP_BYTES // profile.tile_bytes)
        self._at_once = max(1, CACHED_BYTES // profile.tile_bytes)
        self.groups = [slice(start, min(start + step, bands)) for start in range(0, bands, step)]
        base = profile.levels[0]
        self.checksums: NDArray[np.uint32] = np.zeros((bands, base.rows, base.columns), np.uint32)
        self._open: dict[tuple[int, int, int], Block] = {}
        self._lock = threading.Lock()
        self._quarter_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """Raw bytes of overview pixels that wait for their neighbours."""
        return self._quarter_bytes

    def enter(self, row: int, column: int) -> list[Block]:
        """Announce a block of the full resolution.

        Returns:
            The block, followed by every overview block that has all its quarters once this one is done.
        """
        found = [self._block(0, row, column)]
        while (parent := self._parent_of(found[-1])) is not None:
            found[-1].parent = parent
            parent.submitted += 1
            if parent.submitted < parent.children:
                break
            del self._open[parent.level, parent.row, parent.column]
            found.append(parent)
        return found

    def work(self, block: Block, group: int, values: NDArray[Any]) -> list[Encoded]:
        """Compress one band group of a block, and of the overview blocks that it completes. Runs in the pool.

        Args:
            block: A block of the full resolution.
            group: Which band group.
            values: (bands of the group, h, w) pixels, perhaps part of a larger array; only read.

        Returns:
            Tiles of this block and of those above it that became whole.
        """
        tiles: list[bytes] = []
        bands, height, width = values.shape
        quarter = None
        if block.parent is not None:
            quarter = np.empty((bands, (height + 1) // 2, (width + 1) // 2), values.dtype)
        first = self.groups[group].start
        for start in range(0, bands, self._at_once):
            # A few bands at a time: read from memory once, and the rest happens in the cache.
            near = np.ascontiguousarray(values[start : start + self._at_once])
            for band, pixels in enumerate(near, first + start):
                self.checksums[band, block.row, block.column] = zlib.crc32(pixels)
            tiles += self._encoder.encode(near)
            if quarter is not None:
                quarter[start : start + len(near)] = self._halve(near)
        done = [Encoded(block, group, tiles)]
        while block.parent is not None and quarter is not None:
            whole = self._hand_up(block, block.parent, group, quarter)
            if whole is None:
                break
            block = block.parent
            done.append(Encoded(block, group, self._encoder.encode(whole)))
            quarter = self._halve(whole) if block.parent is not None else None
        return done

    def _halve(self, values: NDArray[Any]) -> NDArray[Any]:
        return halve(values, self._profile.overviews, self._profile.nodata)

    def _hand_up(self, block: Block, parent: Block, group: int, quarter: NDArray[Any]) -> NDArray[Any] | None:
        """Give the reduced pixels to the block above; return that block's pixels when these were the last."""
        with self._lock:
            arrived = parent.quarters[group]
            arrived.append((block.row % 2, block.column % 2, quarter))
            self._quarter_bytes += quarter.nbytes
            if len(arrived) < parent.children:
                return None
            self._quarter_bytes -= sum(pixels.nbytes for _row, _column, pixels in arrived)
            parent.quarters[group] = []
        half = self._profile.block // 2
        whole = np.empty((len(quarter), parent.height, parent.width), quarter.dtype)
        for row, column, pixels in arrived:
            _bands, height, width = pixels.shape
            whole[:, row * half : row * half + height, column * half : column * half + width] = pixels
        return whole

    def _block(self, level: int, row: int, column: int) -> Block:
        shape, edge = self._profile.levels[level], self._profile.block
        height = min(edge, shape.height - row * edge)
        width = min(edge, shape.width - column * edge)
        return Block(level, row, column, height, width, [()] * len(self.groups))

    def _parent_of(self, block: Block) -> Block | None:
        level, row, column = block.level + 1, block.row // 2, block.column // 2
        if level == len(self._profile.levels):
            return None
        if (level, row, column) not in self._open:
            parent = self._block(level, row, column)
            below = self._profile.levels[block.level]
            parent.children = min(2, below.rows - 2 * row) * min(2, below.columns - 2 * column)
            parent.quarters = [[] for _group in self.groups]
            self._open[level, row, column] = parent
        return self._open[level, row, column]
