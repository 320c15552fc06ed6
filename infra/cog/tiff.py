"""BigTIFF structures: the header, one directory per resolution and where their values lie.

Always BigTIFF: every reader that knows ZSTD in TIFF (libtiff 4.0.10) is younger than BigTIFF (libtiff 4.0.0), so the
classic format would open no further door and cost a second layout to test.

GDAL's ghost area (GDAL_STRUCTURAL_METADATA) is left out: its promises are row-major tiles with size leaders, which do
not hold here, and without those two GDAL neither uses the area nor marks it when it edits the file (tried with 3.10).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from infra.cog.metadata import gdal_metadata, geo_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from infra.cog.profile import CogProfile, Level

_SHORT: Final = 3
_LONG: Final = 4
_DOUBLE: Final = 12
_ASCII: Final = 2
_LONG8: Final = 16
_TYPE_BYTES: Final = {_ASCII: 1, _SHORT: 2, _LONG: 4, _DOUBLE: 8, _LONG8: 8}
_PACK: Final = {_SHORT: "H", _LONG: "I", _DOUBLE: "d", _LONG8: "Q"}

_ENTRY: Final = struct.Struct("<HHQ8s")
_ZSTD: Final = 50000
_RGB_BANDS: Final = ("red", "green", "blue")

_HEADER_BYTES: Final = 16


class Zone(IntEnum):
    """Where a value too long for its directory entry lies; what a reader needs first comes first."""

    SMALL = 0
    """Per-band types, coordinates and keys: with the directories inside the first 16 kB even of 172 bands."""
    METADATA = 1
    """GDAL's XML, read when the file is opened."""
    INDEX = 2
    """Tile offsets and sizes, coarsest level first, read as needed."""


@dataclass(frozen=True)
class Field:
    """One entry of a directory."""

    tag: int
    type: int
    """TIFF's type code."""
    data: bytes
    """The values, little endian."""
    zone: Zone = Zone.SMALL

    @property
    def count(self) -> int:
        """Number of values."""
        return len(self.data) // _TYPE_BYTES[self.type]


@dataclass(frozen=True)
class TileIndex:
    """Where the tiles of one level lie."""

    offsets: NDArray[np.uint64]
    """(bands, rows, columns) position of each tile in the file, bytes."""
    sizes: NDArray[np.uint32]
    """(bands, rows, columns) stored size of each tile, bytes."""

    @classmethod
    def empty(cls, bands: int, level: Level) -> TileIndex:
        """Start an index in which no tile has a place yet."""
        shape = (bands, level.rows, level.columns)
        return cls(np.zeros(shape, np.uint64), np.zeros(shape, np.uint32))


def build_head(profile: CogProfile, indexes: Sequence[TileIndex]) -> bytes:
    """Build everything before the first tile.

    Its length depends on the profile alone, so it is known before any tile is.

    Args:
        profile: The file.
        indexes: One per level, full resolution first.

    Returns:
        Header, directories and their values.
    """
    directories = [_fields(profile, number, index) for number, index in enumerate(indexes)]
    places, end = _places(directories)
    head = bytearray(end)
    head[:_HEADER_BYTES] = struct.pack("<2sHHHQ", b"II", 43, 8, 0, _HEADER_BYTES)
    at = _HEADER_BYTES
    for number, fields in enumerate(directories):
        following = at + _directory_bytes(fields)
        last = number == len(directories) - 1
        head[at:following] = _directory(fields, places[number], 0 if last else following)
        at = following
    for fields, where in zip(directories, places, strict=True):
        for field, place in zip(fields, where, strict=True):
            if place:
                head[place : place + len(field.data)] = field.data
    return bytes(head)


def _aligned(position: int) -> int:
    return -(-position // 8) * 8


def _directory_bytes(fields: Sequence[Field]) -> int:
    return 8 + _ENTRY.size * len(fields) + 8


def _places(directories: Sequence[Sequence[Field]]) -> tuple[list[list[int]], int]:
    """Give every value that does not fit its entry a place: by zone, and inside the index coarsest level first."""
    places = [[0] * len(fields) for fields in directories]
    at = _HEADER_BYTES + sum(map(_directory_bytes, directories))
    long = [
        (field.zone, -number if field.zone is Zone.INDEX else number, position)
        for number, fields in enumerate(directories)
        for position, field in enumerate(fields)
        if len(field.data) > 8
    ]
    for _zone, signed_number, position in sorted(long):
        number = abs(signed_number)
        places[number][position] = at
        at = _aligned(at + len(directories[number][position].data))
    return places, at


def _directory(fields: Sequence[Field], places: Sequence[int], following: int) -> bytes:
    entries = [
        _ENTRY.pack(field.tag, field.type, field.count, struct.pack("<Q", place) if place else field.data)
        for field, place in zip(fields, places, strict=True)
    ]
    return struct.pack("<Q", len(fields)) + b"".join(entries) + struct.pack("<Q", following)


def _numbers(tag: int, kind: int, *values: float) -> Field:
    return Field(tag, kind, struct.pack(f"<{len(values)}{_PACK[kind]}", *values))


def _fields(profile: CogProfile, number: int, index: TileIndex) -> list[Field]:
    """List the entries of one level's directory, sorted by tag as TIFF asks (TIFF 6.0; tag names beside)."""
    level, bands = profile.levels[number], len(profile.bands)
    kind = profile.pixel_type
    rgb = kind.itemsize == 1 and tuple(band.description for band in profile.bands) == _RGB_BANDS
    extra = bands - (3 if rgb else 1)
    fields = [
        _numbers(254, _LONG, 1 if number else 0),  # NewSubfileType: reduced resolution
        _numbers(256, _LONG, level.width),  # ImageWidth
        _numbers(257, _LONG, level.height),  # ImageLength
        _numbers(258, _SHORT, *[8 * kind.itemsize] * bands),  # BitsPerSample
        _numbers(259, _SHORT, _ZSTD),  # Compression
        _numbers(262, _SHORT, 2 if rgb else 1),  # PhotometricInterpretation: RGB or black is zero
        _numbers(277, _SHORT, bands),  # SamplesPerPixel
        _numbers(284, _SHORT, 1 if bands == 1 else 2),  # PlanarConfiguration: bands apart
        _numbers(317, _SHORT, 2),  # Predictor: horizontal differences
        _numbers(322, _LONG, profile.block),  # TileWidth
        _numbers(323, _LONG, profile.block),  # TileLength
        Field(324, _LONG8, _little(index.offsets, "<u8"), Zone.INDEX),  # TileOffsets
        Field(325, _LONG, _little(index.sizes, "<u4"), Zone.INDEX),  # TileByteCounts
        _numbers(339, _SHORT, *[2 if kind.kind == "i" else 1] * bands),  # SampleFormat: signed or not
    ]
    if extra:
        fields.append(_numbers(338, _SHORT, *[0] * extra))  # ExtraSamples: unspecified
    if profile.nodata is not None:
        fields.append(Field(42113, _ASCII, f"{profile.nodata}".encode() + b"\0"))  # GDAL_NODATA
    if number == 0:
        fields += _main_fields(profile)
    return sorted(fields, key=lambda field: field.tag)


def _main_fields(profile: CogProfile) -> list[Field]:
    """List what only the full resolution carries: where it lies on Earth and what its bands mean."""
    a, _b, c, _d, e, f = profile.transform
    directory, names = geo_keys(profile.crs)
    fields = [
        _numbers(33550, _DOUBLE, a, -e, 0.0),  # ModelPixelScale
        _numbers(33922, _DOUBLE, 0.0, 0.0, 0.0, c, f, 0.0),  # ModelTiepoint
        Field(34735, _SHORT, directory),  # GeoKeyDirectory
        Field(34737, _ASCII, names),  # GeoAsciiParams
    ]
    described = gdal_metadata(profile)
    return [*fields, Field(42112, _ASCII, described, Zone.METADATA)] if described else fields  # GDAL_METADATA


def _little(values: NDArray[Any], kind: str) -> bytes:
    return values.astype(kind).tobytes()
