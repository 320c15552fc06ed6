"""A raster read by blocks: the stretch that holds a block in all wanted bands is fetched in one request.

The writer lays all bands of a block side by side (`infra.cog`), so a pixel's whole spectrum is one stretch. GDAL
decodes as always; it only finds the bytes already there when it asks for one tile after the other.
"""

from __future__ import annotations

import contextvars
import io
import logging
import os
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from infra.compact.errors import OutsideProduct, ProductMissing, ProductUnreadable, ReadingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from infra.compact.sources import ByteSource

logger = logging.getLogger(__name__)

_FIRST_BYTES: Final = 128 << 10
"""Fetched first: directories and band descriptions even of 172 bands, or a small file as a whole."""

_LONGEST_HEAD: Final = 64 << 20
"""A file whose tile index ends later than this is not laid out for reading by range."""

_PAGE: Final = 8 << 10
"""libtiff reads its index in pages; the last one reaches beyond the index."""

_GAP: Final = 16 << 10
"""Stretches nearer to each other than this are fetched together."""

_REQUESTS_AT_ONCE: Final = 8

_HELD_BYTES: Final = 24 << 20
"""Compressed stretches kept; what is needed at once is kept beyond it."""

_PART_BYTES: Final = 32 << 20
"""Decoded pixels that one step of a large read holds."""

_OPTIONS: Final[dict[str, Any]] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 128 << 20,  # bytes of decoded blocks; the default is a share of the machine
}


class Window(NamedTuple):
    """A rectangle of pixels."""

    column: int
    row: int
    width: int
    height: int


@dataclass(frozen=True)
class RasterInfo:
    """What a file says of itself."""

    crs: str
    """Such as ``EPSG:32633``."""
    transform: tuple[float, ...]
    """Pixel to CRS, (a, b, c, d, e, f) as in rasterio's Affine."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    count: int
    """Bands."""
    dtype: str
    nodata: float | None
    block: tuple[int, int]
    """Height and width of a block, pixels."""
    scales: tuple[float, ...]
    """Physical step of one stored unit, by band."""
    offsets: tuple[float, ...]
    descriptions: tuple[str, ...]
    centre_nm: tuple[float | None, ...]
    """Centre wavelength of every band, nm; None where it tells none."""
    fwhm_nm: tuple[float | None, ...]
    """Full width at half maximum of every band, nm; None where it tells none."""
    tags: dict[str, str]


class BlockFile:
    """One open raster. May be used by several threads; their reads follow one another."""

    def __init__(self, source: ByteSource) -> None:
        """Open the file: two requests at most on a server, then its whole index is held (1.3 MB for a full tile).

        Args:
            source: Where its bytes come from.

        Raises:
            ReadingError: it is missing, refused, unreachable or no GeoTIFF.
        """
        self._source, self._lock = source, threading.Lock()
        # rasterio notes in context variables which Python objects an open file reads from. When their context dies,
        # with the thread that opened the file, say, GDAL reads from what is gone and the process ends. With a context
        # of its own the file is any thread's, and the finalizer closes a forgotten one before its context goes.
        self._context = contextvars.Context()
        local = source.local_path()
        self._held = None if local else _HeldBytes(source)
        if local and not local.is_file():
            raise ProductMissing(f"there is no file {local}")
        self._context.run(self._open, local)
        try:
            self._context.run(self._settle)
        except BaseException:
            self.close()
            raise

    def _open(self, local: Path | None) -> None:
        try:
            with rasterio.Env(**_OPTIONS):
                if self._held is None:
                    self._dataset = rasterio.open(local, driver="GTiff", sharing=False)
                else:
                    self._dataset = rasterio.open(
                        "product.tif", driver="GTiff", sharing=False, opener=_Opener(self._held)
                    )
        except RasterioError as error:
            raise self._failure("cannot be opened", error) from error
        self._finalizer = weakref.finalize(self, self._context.run, self._dataset.close)

    def _settle(self) -> None:
        self.info = self._describe()
        if self._held:
            self._held.extend_head(self._head_bytes())

    def pixels(self, columns: ArrayLike, rows: ArrayLike, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """Read single pixels, each block once.

        Args:
            columns: (n,) of the pixels.
            rows: (n,) of the pixels.
            bands: Zero-based; all where None.

        Returns:
            (bands, n) stored values.

        Raises:
            OutsideProduct: a pixel does not lie on the file.
        """
        wanted = list(range(self.info.count)) if bands is None else list(bands)
        c, r = np.asarray(columns, np.int64), np.asarray(rows, np.int64)
        beyond = (c < 0) | (c >= self.info.width) | (r < 0) | (r >= self.info.height)
        if beyond.any():
            first = int(np.flatnonzero(beyond)[0])
            raise OutsideProduct(
                f"pixel at column {c[first]}, row {r[first]} lies outside {self._source.shown}, which has "
                f"{self.info.width} x {self.info.height}"
            )
        height, width = self.info.block
        out = np.empty((len(wanted), c.size), self.info.dtype)
        blocks = np.stack([r // height, c // width])
        for block in np.unique(blocks, axis=1).T:
            inside = (blocks == block[:, None]).all(axis=0)
            left, top = int(c[inside].min()), int(r[inside].min())
            around = Window(left, top, int(c[inside].max()) - left + 1, int(r[inside].max()) - top + 1)
            out[:, inside] = self._read(around, wanted)[:, r[inside] - top, c[inside] - left]
        return out

    def read(self, window: Window, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """Read a window.

        Args:
            window: On the file.
            bands: Zero-based; all where None.

        Returns:
            (bands, height, width) stored values.

        Raises:
            OutsideProduct: it reaches beyond the file or is empty.
        """
        wanted = list(range(self.info.count)) if bands is None else list(bands)
        out = np.empty((len(wanted), window.height, window.width), self.info.dtype)
        for part in self.parts(window, len(wanted) * out.itemsize):
            top, left = part.row - window.row, part.column - window.column
            out[:, top : top + part.height, left : left + part.width] = self._read(part, wanted)
        return out

    def parts(self, window: Window, pixel_bytes: int) -> Iterator[Window]:
        """Cut a window along blocks into pieces whose blocks take a bounded number of bytes.

        Args:
            window: On the file.
            pixel_bytes: What one pixel takes while it is worked on.

        Yields:
            The pieces, block row by block row; one block at least.

        Raises:
            OutsideProduct: the window reaches beyond the file or is empty.
        """
        info = self.info
        column, row, width, height = window
        inside = 0 <= column < column + width <= info.width and 0 <= row < row + height <= info.height
        if not inside:
            raise OutsideProduct(
                f"window is {width} x {height} at column {column}, row {row}; expected a part of "
                f"{info.width} x {info.height}"
            )
        edge_y, edge_x = info.block
        step = edge_x * max(1, _PART_BYTES // (edge_x * edge_y * pixel_bytes))
        for top in range(row // edge_y * edge_y, row + height, edge_y):
            first, last = max(top, row), min(top + edge_y, row + height)
            for left in range(column // edge_x * edge_x, column + width, step):
                begin, end = max(left, column), min(left + step, column + width)
                yield Window(begin, first, end - begin, last - first)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, window: Window, bands: Sequence[int]) -> NDArray[Any]:
        """Read what one piece needs; one thread at a time."""
        with self._lock:
            values: NDArray[Any] = self._context.run(self._decode, window, bands)
        return values

    def _decode(self, window: Window, bands: Sequence[int]) -> NDArray[Any]:
        """Fetch what a window needs in one go, then decode it."""
        with rasterio.Env(**_OPTIONS):
            try:
                if self._held:
                    self._held.fetch(self._stretches(window, bands))
                values: NDArray[Any] = self._dataset.read(
                    [band + 1 for band in bands], window=RasterWindow(*window), out_dtype=self.info.dtype
                )
            except RasterioError as error:
                raise self._failure(f"cannot be read at column {window.column}, row {window.row}", error) from error
        return values

    def _stretches(self, window: Window, bands: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield start and end in the file of every tile that a window touches."""
        edge_y, edge_x = self.info.block
        for y in range(window.row // edge_y, -(-(window.row + window.height) // edge_y)):
            for x in range(window.column // edge_x, -(-(window.column + window.width) // edge_x)):
                for band in bands:
                    start, size = (self._tag(f"{name}_{x}_{y}", band) for name in ("BLOCK_OFFSET", "BLOCK_SIZE"))
                    if size:
                        yield start, start + size

    def _tag(self, name: str, band: int = 0, **where: int) -> int:
        return int(self._dataset.get_tag_item(name, "TIFF", bidx=band + 1, **where) or 0)

    def _head_bytes(self) -> int:
        """Return where the index ends: the coarsest level's first tile lies right behind it."""
        levels = len(self._dataset.overviews(1))
        coarsest = {"ovr": levels - 1} if levels else {}
        first = self._tag("BLOCK_OFFSET_0_0", **coarsest)
        return first if first <= _LONGEST_HEAD else 0

    def _describe(self) -> RasterInfo:
        dataset = self._dataset
        return RasterInfo(
            crs=f"EPSG:{dataset.crs.to_epsg()}" if dataset.crs and dataset.crs.to_epsg() else str(dataset.crs or ""),
            transform=tuple(dataset.transform)[:6],
            width=dataset.width,
            height=dataset.height,
            count=dataset.count,
            dtype=dataset.dtypes[0],
            nodata=dataset.nodata,
            block=dataset.block_shapes[0],
            scales=tuple(dataset.scales),
            offsets=tuple(dataset.offsets),
            descriptions=tuple(text or "" for text in dataset.descriptions),
            centre_nm=self._nanometres("CENTRAL_WAVELENGTH_UM"),
            fwhm_nm=self._nanometres("FWHM_UM"),
            tags=dict(dataset.tags()),
        )

    def _nanometres(self, name: str) -> tuple[float | None, ...]:
        found = (self._dataset.tags(band, ns="IMAGERY").get(name) for band in self._dataset.indexes)
        return tuple(None if text is None else round(float(text) * 1000, 6) for text in found)

    def _failure(self, what: str, error: RasterioError) -> ReadingError:
        """Name the cause: what the source said where it spoke, else GDAL's own words."""
        if self._held and self._held.failure:
            failure, self._held.failure = self._held.failure, None
            return failure
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return ProductUnreadable(f"{self._source.shown} {what}; it may be truncated or corrupt: {cause}")


class _HeldBytes:
    """The head of a file and the stretches fetched last."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._head = source.read(0, _FIRST_BYTES)
        self.size = len(self._head) if len(self._head) < _FIRST_BYTES else source.size()
        self._stretches: OrderedDict[int, bytes] = OrderedDict()
        self.failure: ReadingError | None = None
        """What the source said while GDAL, which drops Python's errors, was reading."""

    def extend_head(self, end: int) -> None:
        """Hold everything before `end`."""
        missing = min(end + _PAGE, self.size) - len(self._head)
        if end > len(self._head) and missing > 0:
            self._head += self._source.read(len(self._head), missing)

    def fetch(self, wanted: Iterator[tuple[int, int]]) -> None:
        """Hold stretches (start, end); neighbours are fetched in one request, what is held already is not."""
        merged = [(start, end) for start, end in _merged(wanted) if end > len(self._head)]
        missing = [(start, end) for start, end in merged if self._holder(start, end) is None]
        for (start, _end), content in zip(missing, self._read_all(missing), strict=True):
            self._stretches[start] = content
        needed = {self._holder(start, end) for start, end in merged}
        for held in needed:
            if held is not None:
                self._stretches.move_to_end(held)
        while sum(map(len, self._stretches.values())) > _HELD_BYTES and next(iter(self._stretches)) not in needed:
            self._stretches.popitem(last=False)

    def _read_all(self, stretches: list[tuple[int, int]]) -> list[bytes]:
        """Fetch several stretches at once: bands of many blocks would else wait for one answer after the other."""
        if len(stretches) <= 1:
            return [self._source.read(start, end - start) for start, end in stretches]
        with ThreadPoolExecutor(min(_REQUESTS_AT_ONCE, len(stretches)), "stretches") as pool:
            return list(pool.map(lambda stretch: self._source.read(stretch[0], stretch[1] - stretch[0]), stretches))

    def read(self, start: int, length: int) -> bytes:
        """Read a range; what is not held is asked for."""
        end = min(start + length, self.size)
        if end <= len(self._head):
            return self._head[start:end]
        holder = self._holder(start, end)
        if holder is not None:
            return self._stretches[holder][start - holder : end - holder]
        logger.debug("%s: %d bytes at %d were not held", self._source.shown, length, start)
        try:
            return self._source.read(start, length)
        except ReadingError as error:
            self.failure = error
            raise

    def _holder(self, start: int, end: int) -> int | None:
        for first, held in self._stretches.items():
            if first <= start and end <= first + len(held):
                return first
        return None


def _merged(stretches: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join stretches that touch or nearly touch."""
    begin = finish = -1
    for start, end in sorted(stretches):
        if begin >= 0 and start <= finish + _GAP:
            finish = max(finish, end)
            continue
        if begin >= 0:
            yield begin, finish
        begin, finish = start, end
    if begin >= 0:
        yield begin, finish


class _Opener:
    """Gives rasterio file objects on held bytes, under whatever name."""

    def __init__(self, held: _HeldBytes) -> None:
        self._held = held

    def __call__(self, path: str, mode: str = "rb") -> _HeldFile:  # noqa: ARG002 - rasterio names them
        return _HeldFile(self._held)


class _HeldFile(io.RawIOBase):
    """Held bytes as a Python file."""

    def __init__(self, held: _HeldBytes) -> None:
        self._held, self._at = held, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._held.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        content = self._held.read(self._at, self._held.size - self._at if size < 0 else size)
        self._at += len(content)
        return content
