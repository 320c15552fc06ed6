"""Reads a finished file back from its store and holds it against what was streamed."""

from __future__ import annotations

import hashlib
import logging
import math
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import rasterio
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.windows import Window

from infra.cog.overviews import halve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from infra.cog import CogBand, CogProfile, CogSummary, Level
    from infra.storage import ObjectStore

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 8 << 20
_SAMPLED_BLOCKS: Final = 8
"""Overview blocks recomputed per level; the coarsest levels are covered whole."""

_SAMPLED_BANDS: Final = 16
"""Bands recomputed in each of those blocks."""

_READING: Final = {
    "GDAL_CACHEMAX": 64 << 20,
    "CPL_VSIL_CURL_CACHE_SIZE": 64 << 20,
}
"""Whole blocks of all bands are read once: a small cache bounds memory.

Larger pieces (CPL_VSIL_CURL_CHUNK_SIZE) would save requests, but GDAL takes that setting once per process: whoever sets
it decides how every other remote file is read, and readers of single pixels must not fetch megabytes.
"""


class VerificationFailed(Exception):
    """A stored file is not what was written; it must not be published."""

    transient: ClassVar[bool] = True


@dataclass(frozen=True)
class FileCheck:
    """What reading a file back proved."""

    key: str
    size: int
    """Bytes."""
    sha256: str
    """Of the stored bytes, hex."""
    multihash: str
    """The same as a multihash for STAC's ``file:checksum``: ``1220`` and the digest."""
    bands: int
    """All of them were read and equal the stream."""
    blocks: int
    """Blocks of the full resolution, each read in every band."""
    overviews: tuple[int, ...]
    """Reduction of each overview."""
    seconds: float
    """Wall time."""


def verify_cog(
    store: ObjectStore,
    key: str,
    profile: CogProfile,
    summary: CogSummary,
    *,
    progress: Callable[[float], object] | None = None,
) -> FileCheck:
    """Check a stored file: its bytes, its layout, its description, every value, and a sample of its overviews.

    Args:
        store: Where it lies.
        key: Its key.
        profile: What it should be.
        summary: What its writer saw go by.
        progress: Told the fraction of the values compared, 0-1; may raise to stop.

    Returns:
        What was proved, with the digest of the stored bytes.

    Raises:
        VerificationFailed: it differs; the message names the first difference.
        StorageError: the store failed.
    """
    began = time.monotonic()
    sha256, size = hash_object(store, key)
    if size != summary.size:
        raise VerificationFailed(f"{key} has {size} bytes in the store; {summary.size} were written")
    try:
        with rasterio.Env(**(store.gdal_env() | _READING)), rasterio.open(store.gdal_path(key)) as source:
            _check_structure(key, source, profile)
            _check_layout(key, source, profile)
            _check_bands(key, source, profile)
            _check_values(key, source, profile, summary, progress or (lambda _fraction: None))
            overviews = tuple(source.overviews(1))
        with rasterio.Env(**(store.gdal_env() | _READING)):
            _check_overviews(key, store.gdal_path(key), profile)
    except RasterioError as error:
        raise VerificationFailed(f"{key} cannot be read back by GDAL: {_cause(error)}") from error
    seconds = time.monotonic() - began
    logger.debug("%s verified in %.1f s", key, seconds)
    return FileCheck(key, size, sha256, f"1220{sha256}", len(profile.bands), summary.blocks, overviews, seconds)


def verify_bytes(store: ObjectStore, key: str, content: bytes) -> tuple[int, str]:
    """Read a small file back and compare it with what was written.

    Args:
        store: Where it lies.
        key: Its key.
        content: What was written.

    Returns:
        Its size in bytes and its SHA-256, of the bytes that came back.

    Raises:
        VerificationFailed: something else came back.
    """
    found = store.get(key)
    if found != content:
        raise VerificationFailed(f"{key} came back with {len(found)} bytes that are not the {len(content)} written")
    return len(found), hashlib.sha256(found).hexdigest()


def hash_object(store: ObjectStore, key: str) -> tuple[str, int]:
    """Read an object piece by piece and hash it.

    Returns:
        SHA-256 in hex, and the size in bytes.

    Raises:
        ObjectMissing: there is none.
    """
    digest, size = hashlib.sha256(), 0
    while piece := store.get(key, size, _READ_BYTES):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _expect(key: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise VerificationFailed(f"{key}: {what} is {found!r}; expected {expected!r}")


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def _check_structure(key: str, source: Any, profile: CogProfile) -> None:
    """Grid, type, nodata and block structure."""
    bands = len(profile.bands)
    _expect(key, "the driver", source.driver, "GTiff")
    _expect(key, "the size", (source.count, source.height, source.width), (bands, profile.height, profile.width))
    _expect(key, "the pixel type", set(source.dtypes), {profile.dtype})
    _expect(key, "nodata", source.nodata, profile.nodata)
    _expect(key, "the block shape", set(source.block_shapes), {(profile.block, profile.block)})
    _expect(key, "the EPSG code", source.crs and source.crs.to_epsg(), int(profile.crs.rpartition(":")[2]))
    _expect(key, "the transform", tuple(source.transform)[:6], tuple(profile.transform))
    _expect(key, "the compression", source.compression and source.compression.value, "ZSTD")
    _expect(key, "the number of overviews", len(source.overviews(1)), len(profile.levels) - 1)
    for name, value in profile.tags.items():
        _expect(key, f"tag {name}", source.tags().get(name), value)


def _check_layout(key: str, source: Any, profile: CogProfile) -> None:
    """Cloud optimised: directories first and in order, then the first block of each level, coarsest first."""
    levels = range(len(profile.levels))
    directories = [_place(source, "IFD_OFFSET", level) for level in levels]
    first_blocks = [_place(source, "BLOCK_OFFSET_0_0", level) for level in levels]
    if directories[0] > 300 or directories != sorted(directories):
        raise VerificationFailed(f"{key}: directories lie at {directories}; expected near the start, finest first")
    if [*directories, *reversed(first_blocks)] != sorted([*directories, *first_blocks]):
        raise VerificationFailed(
            f"{key}: first blocks lie at {first_blocks}; expected behind {directories}, coarsest first"
        )


def _place(source: Any, item: str, level: int) -> int:
    where = {"ovr": level - 1} if level else {}
    return int(source.get_tag_item(item, "TIFF", bidx=1, **where) or 0)


def _check_bands(key: str, source: Any, profile: CogProfile) -> None:
    """Descriptions, decoding and wavelengths come back as they were given."""
    for number, band in enumerate(profile.bands, start=1):
        where = f"of band {number}"
        _expect(key, f"the description {where}", source.descriptions[number - 1] or "", band.description)
        _expect(key, f"the scale {where}", source.scales[number - 1], band.scale)
        _expect(key, f"the offset {where}", source.offsets[number - 1], band.offset)
        _expect(key, f"the unit {where}", source.units[number - 1] or "", band.unit)
        _check_wavelengths(key, where, source.tags(number, ns="IMAGERY"), band)


def _check_wavelengths(key: str, where: str, tags: dict[str, str], band: CogBand) -> None:
    for name, nanometres in (("CENTRAL_WAVELENGTH_UM", band.centre_nm), ("FWHM_UM", band.fwhm_nm)):
        found = tags.get(name)
        if nanometres is None:
            _expect(key, f"{name} {where}", found, None)
        elif found is None or not math.isclose(float(found) * 1000, nanometres, rel_tol=1e-6):
            raise VerificationFailed(f"{key}: {name} {where} is {found}; expected {nanometres / 1000}")


def _blocks(level: Level, edge: int, source: Any) -> Iterator[tuple[int, int, Window]]:
    """List the blocks of an open level in the order in which they lie in the file, so that reading goes forward."""

    def place(at: tuple[int, ...]) -> int:
        return int(source.get_tag_item(f"BLOCK_OFFSET_{at[1]}_{at[0]}", "TIFF", bidx=1) or 0)

    for row, column in sorted(np.ndindex(level.rows, level.columns), key=place):
        width, height = min(edge, level.width - column * edge), min(edge, level.height - row * edge)
        yield row, column, Window(column * edge, row * edge, width, height)


def _check_values(
    key: str, source: Any, profile: CogProfile, summary: CogSummary, progress: Callable[[float], object]
) -> None:
    """Every value of every band equals the stream's, block by block."""
    for number, (row, column, window) in enumerate(_blocks(profile.levels[0], profile.block, source), start=1):
        pixels = _read(key, source, window).astype(profile.pixel_type, copy=False)
        for band, values in enumerate(pixels):
            if zlib.crc32(values.tobytes()) != summary.block_checksums[band, row, column]:
                raise VerificationFailed(
                    f"{key}: block at column {window.col_off}, row {window.row_off} of band {band + 1} differs from "
                    "what was written"
                )
        progress(number / summary.blocks)


def _read(key: str, source: Any, window: Window, bands: list[int] | None = None) -> NDArray[Any]:
    try:
        pixels: NDArray[Any] = source.read(indexes=bands, window=window)
    except RasterioIOError as error:
        raise VerificationFailed(
            f"{key}: block at column {window.col_off}, row {window.row_off} cannot be read: {_cause(error)}"
        ) from error
    return pixels


def _check_overviews(key: str, path: str, profile: CogProfile) -> None:
    """Recompute a sample of overview blocks from the level below as it is stored."""
    for number in range(1, len(profile.levels)):
        below = {"OVERVIEW_LEVEL": number - 2} if number > 1 else {}
        with rasterio.open(path, OVERVIEW_LEVEL=number - 1) as coarse, rasterio.open(path, **below) as fine:
            _check_overview(key, coarse, fine, profile, number)


def _check_overview(key: str, coarse: Any, fine: Any, profile: CogProfile, number: int) -> None:
    level, source = profile.levels[number], profile.levels[number - 1]
    _expect(key, f"the size of overview {number}", (coarse.width, coarse.height), (level.width, level.height))
    blocks = list(_blocks(level, profile.block, coarse))
    spread = np.unique(np.linspace(0, len(blocks) - 1, _SAMPLED_BLOCKS).astype(int))
    bands = (np.unique(np.linspace(1, len(profile.bands), _SAMPLED_BANDS).astype(int))).tolist()
    for _row, _column, window in (blocks[position] for position in spread):
        x, y = 2 * window.col_off, 2 * window.row_off
        under = Window(x, y, min(2 * window.width, source.width - x), min(2 * window.height, source.height - y))
        expected = halve(_read(key, fine, under, bands), profile.overviews, profile.nodata)
        if not np.array_equal(_read(key, coarse, window, bands), expected):
            raise VerificationFailed(
                f"{key}: overview {number}, block at column {window.col_off}, row {window.row_off} is not the exact "
                f"{profile.overviews} of the level below"
            )
