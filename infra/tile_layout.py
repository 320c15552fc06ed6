"""A file with the index of a full tile and little in it: what reading from a full tile asks for, without writing one.

A full tile's 172 bands take 40 GB, and what a reader pays for first is its index. Here head, offsets and sizes are
those of a full tile whose blocks compress like real content; tiles lie where the writer would lay them, but only those
that will be read are there. The rest is a hole in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from infra.cog.encoding import TileEncoder
from infra.cog.tiff import TileIndex, build_head

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from infra.cog import CogProfile

FULL_TILE: Final = 10_980
"""Edge of a Sentinel-2 tile at 10 m, pixels."""


@dataclass(frozen=True)
class Layout:
    """What was laid out."""

    head_bytes: int
    """Directories, descriptions and index."""
    block_bytes: float
    """Mean compressed size of one block in all bands."""
    file_bytes: int
    """Size of the full tile with its overviews."""


def lay_out(
    path: Path,
    content: NDArray[Any],
    profile: CogProfile,
    read: Sequence[tuple[tuple[int, int, int, int], Sequence[int]]],
) -> Layout:
    """Write such a file.

    Args:
        path: The file to write.
        content: (bands, h, w) real pixels; blocks are cut from it, mirrored where it is smaller than a block.
        profile: The file; its size is taken as the tile's.
        read: Windows (column, row, width, height) and bands (zero-based) that will be read: these tiles are there.

    Returns:
        Its sizes.
    """
    encoder = TileEncoder(profile.pixel_type, profile.block, profile.level)
    encoded = [encoder.encode(block) for block in _cut(content, profile.block)]
    sizes = np.array([[len(tile) for tile in block] for block in encoded])  # (blocks, bands)
    indexes = [TileIndex.empty(len(profile.bands), level) for level in profile.levels]
    head_bytes = at = len(build_head(profile, indexes))
    chosen = np.random.default_rng(0).integers(len(encoded), size=(profile.levels[0].rows, profile.levels[0].columns))
    for level, index in reversed(list(zip(profile.levels, indexes, strict=True))):
        for row, column in sorted(np.ndindex(level.rows, level.columns), key=_z_order):
            tiles = sizes[chosen[row, column]]
            index.sizes[:, row, column] = tiles
            index.offsets[:, row, column] = at + np.cumsum(tiles) - tiles
            at += int(tiles.sum())
    with path.open("xb") as file:
        file.write(build_head(profile, indexes))
        for (column, row, width, height), bands in read:
            edge = profile.block
            for y in range(row // edge, -(-(row + height) // edge)):
                for x in range(column // edge, -(-(column + width) // edge)):
                    for band in bands:
                        file.seek(int(indexes[0].offsets[band, y, x]))
                        file.write(encoded[chosen[y, x]][band])
        file.truncate(at)
    return Layout(head_bytes, float(sizes.sum(axis=1).mean()), at)


def full_tile(profile: CogProfile, block: int) -> CogProfile:
    """Return a file's profile as that of a full tile with another block edge."""
    return replace(profile, width=FULL_TILE, height=FULL_TILE, block=block)


def _cut(content: NDArray[Any], edge: int) -> list[NDArray[Any]]:
    """Cut whole blocks out of the content."""
    _bands, height, width = content.shape
    missing = [(0, 0), (0, max(0, edge - height)), (0, max(0, edge - width))]
    filled = np.pad(content, missing, mode="symmetric") if max(missing[1][1], missing[2][1]) else content
    rows, columns = filled.shape[1] // edge, filled.shape[2] // edge
    return [
        filled[:, y * edge : (y + 1) * edge, x * edge : (x + 1) * edge] for y in range(rows) for x in range(columns)
    ]


def _z_order(place: tuple[int, ...]) -> int:
    return int(f"{place[0]:b}", 4) * 2 + int(f"{place[1]:b}", 4)
