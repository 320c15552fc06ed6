"""One number for all values of a file, the same whatever order its blocks come in."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def checksum_of(block_checksums: NDArray[Any]) -> str:
    """Combine block checksums.

    Each block of each band has a CRC-32 of its pixels (row by row, clipped at the file's edge, little endian). The
    table of them, (bands, rows, columns) little-endian uint32, is hashed: a block's place is its place in the table,
    so two swapped blocks change the result and the order of arrival does not.

    Returns:
        SHA-256, hex.
    """
    return hashlib.sha256(block_checksums.astype("<u4").tobytes()).hexdigest()
