"""Where compressed blocks go: a body in the order of their arrival, and the first blocks of all levels in the head.

A COG reader wants the first block of each level behind that of the coarser one. Those blocks come finest first, so
they are held back and laid coarsest first right behind the directories, in the head that a store takes last. The head's
size must be known when the body begins; by then the first compressed blocks tell how much room the held ones will need.
What does not fit (finest first, for the coarse ones are what a viewer opens with) goes to the end of the body, which
keeps the order. A small file is whole before its body must begin, so its head fits exactly.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from infra.cog.tiff import TileIndex, build_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.cog.profile import CogProfile
    from infra.storage import ObjectStore, StoredObject, Upload

CONTENT_TYPE: Final = "image/tiff; application=geotiff; profile=cloud-optimized"

_PUT_OFF_BYTES: Final = 8 << 20
"""The body begins when this much is compressed: smaller files have no gap at all."""

_MARGIN: Final = 1.15
"""Overviews are rougher than what they are made of and compress a little less."""


class Placement:
    """Lays compressed blocks into one upload and knows where each tile lies."""

    def __init__(self, profile: CogProfile, store: ObjectStore, key: str) -> None:
        """Prepare an empty file; nothing is sent yet.

        Args:
            profile: The file.
            store: Where it goes.
            key: Its key.
        """
        self._profile, self._store, self._key = profile, store, key
        bands = len(profile.bands)
        self._indexes = [TileIndex.empty(bands, level) for level in profile.levels]
        self._index_bytes = len(build_head(profile, self._indexes))
        self._held: dict[int, list[bytes]] = {}
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._body_bytes = 0
        self._tiles = 0
        self._upload: Upload | None = None
        self._head_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """Compressed bytes kept in memory: held back, or waiting for the body to begin."""
        return self._waiting_bytes + self._held_bytes()

    def lay(self, level: int, row: int, column: int, tiles: Sequence[bytes]) -> None:
        """Take one block: its tiles of all bands, side by side."""
        self._tiles += len(tiles)
        if row == column == 0:
            self._held[level] = list(tiles)
        else:
            self._append(level, row, column, tiles)
        if self._upload is None and self.pending_bytes > _PUT_OFF_BYTES:
            self._begin(self._estimated_bytes())

    def finish(self) -> StoredObject:
        """Place the held blocks, build the head and complete the upload."""
        if self._upload is None:
            self._begin(self._held_bytes())
        in_head = self._place_held(self._head_bytes - self._index_bytes)
        for level in sorted(set(self._held) - set(in_head), reverse=True):
            self._append(level, 0, 0, self._held[level])
        for index, level in zip(self._indexes, range(len(self._indexes)), strict=True):
            index.offsets[...] += np.uint64(self._head_bytes)
            if level in in_head:
                index.offsets[:, 0, 0] -= np.uint64(self._head_bytes)
        tiles = (tile for level in in_head for tile in self._held[level])
        head = build_head(self._profile, self._indexes) + b"".join(tiles)
        return self._opened().finish(head.ljust(self._head_bytes, b"\0"))

    @property
    def laid_bytes(self) -> int:
        """Compressed bytes taken so far."""
        return self._body_bytes + self._held_bytes()

    def interrupt(self) -> None:
        """Let what another thread is laying down end soon, with an error."""
        if self._upload is not None:
            self._upload.interrupt()

    def abort(self) -> None:
        """Give up; nothing of the file stays."""
        if self._upload is not None:
            self._upload.abort()

    def _append(self, level: int, row: int, column: int, tiles: Sequence[bytes]) -> None:
        self._note(level, row, column, tiles, self._body_bytes)
        self._body_bytes += sum(map(len, tiles))
        if self._upload is None:
            self._waiting += tiles
            self._waiting_bytes += sum(map(len, tiles))
            return
        for tile in tiles:
            self._upload.write(tile)

    def _note(self, level: int, row: int, column: int, tiles: Sequence[bytes], start: int) -> None:
        """Remember where the tiles lie, counted from the start of the body, or of the file for those in the head."""
        sizes = np.fromiter(map(len, tiles), np.uint64, len(tiles))
        self._indexes[level].offsets[:, row, column] = np.uint64(start) + np.cumsum(sizes) - sizes
        self._indexes[level].sizes[:, row, column] = sizes

    def _begin(self, held_bytes: int) -> None:
        self._head_bytes = self._index_bytes + held_bytes
        self._upload = self._store.create(self._key, content_type=CONTENT_TYPE, head_size=self._head_bytes)
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for tile in waiting:
            self._upload.write(tile)

    def _opened(self) -> Upload:
        if self._upload is None:
            raise RuntimeError("the body has not begun")
        return self._upload

    def _held_bytes(self) -> int:
        return sum(map(len, itertools.chain.from_iterable(self._held.values())))

    def _estimated_bytes(self) -> int:
        """Guess what the held blocks of all levels will take, from the tiles seen so far."""
        seen = self._held_bytes() + self._waiting_bytes
        per_tile = min(seen / self._tiles * _MARGIN, self._profile.tile_bytes)
        absent = len(self._indexes) - len(self._held)
        return self._held_bytes() + int(absent * per_tile * len(self._profile.bands))

    def _place_held(self, room: int) -> list[int]:
        """Place held blocks in the head, coarsest first, as long as there is room; return their levels in order."""
        placed: list[int] = []
        at = self._index_bytes
        for level in sorted(self._held, reverse=True):
            needed = sum(map(len, self._held[level]))
            if needed > room:
                break
            self._note(level, 0, 0, self._held[level], at)
            placed.append(level)
            at, room = at + needed, room - needed
        return placed
