"""A product read from its compact file: spectra of places, windows of channels, the whole as a lazy array."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np
from pyproj import Transformer
from pyproj.exceptions import CRSError

from infra.compact.basis import ProductBasis, read_basis
from infra.compact.blocks import BlockFile, RasterInfo, Window
from infra.compact.errors import BasisMismatch, OutsideProduct, ReadingError
from infra.compact.lazy import LazyCube, lazy_xarray
from infra.compact.sources import ByteSource, http_client, locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from infra.settings import StorageSettings

COMPACT_FILE: Final = "compact.tif"
BASIS_FILE: Final = "basis.json"
UNCERTAINTY_FILE: Final = "uncertainty.tif"

Dtype = Literal["float32", "int16"]
"""``float32``: reflectance, nan = nodata; ``int16``: what the 172-band file stores, x 10 000, -32768 = nodata."""

_BASIS_BYTES: Final = 4 << 20


class CompactProduct:
    """One product, opened with `open`. May be used by several threads.

    Channels are counted from zero and rows from the top. A block's coefficients are fetched in one request; the file's
    head (two requests) and the basis (one) are read when it is opened and held.
    """

    def __init__(self, compact: BlockFile, basis: ProductBasis, uncertainty: ByteSource) -> None:
        """Put the parts together.

        Args:
            compact: The open coefficients; closed with this.
            basis: What expands them.
            uncertainty: The file of sigma, opened when first asked for.

        Raises:
            BasisMismatch: coefficients and basis do not belong together.
        """
        info = compact.info
        if info.count != len(basis.scales) or not np.allclose(info.scales, basis.scales, rtol=1e-9, atol=0):
            raise BasisMismatch(
                f"the compact file has {info.count} bands with steps from {min(info.scales):.6g}; its basis has "
                f"{len(basis.scales)} with steps from {basis.scales.min():.6g}: they are not of one product"
            )
        if info.dtype != "int16":
            raise BasisMismatch(f"the compact file holds {info.dtype}; expected int16")
        self.info: RasterInfo = info
        self.basis = basis
        self._compact, self._uncertainty_source = compact, uncertainty
        self._uncertainty: BlockFile | None = None
        self._opening = threading.Lock()
        self._stack = ExitStack()
        self._stack.callback(compact.close)

    @classmethod
    def open(
        cls,
        address: str | Path,
        *,
        basis: str | Path | None = None,
        uncertainty: str | Path | None = None,
        storage: StorageSettings | None = None,
    ) -> Self:
        """Open a product.

        Args:
            address: Its compact file, or the folder that holds it: a path, ``file://``, ``https://`` or ``s3://``.
            basis: Address of its basis where it does not lie beside it (a signed address, say).
            uncertainty: The same of its uncertainty.
            storage: Endpoint and keys for ``s3://``; where None, those of the environment.

        Returns:
            The product; close it, or use it as a context manager.

        Raises:
            ReadingError: a file is missing, refused, unreachable or not what it should be.
        """
        client = http_client()
        with ExitStack() as on_failure:
            on_failure.callback(client.close)
            compact = locate(_file_of(address), storage, client)
            found = locate(basis, storage, client) if basis else compact.beside(BASIS_FILE)
            sigma = locate(uncertainty, storage, client) if uncertainty else compact.beside(UNCERTAINTY_FILE)
            file = on_failure.enter_context(BlockFile(compact))
            product = cls(file, read_basis(found.read(0, _BASIS_BYTES), found.shown), sigma)
            product._stack.callback(client.close)
            on_failure.pop_all()
        return product

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.basis.channels, self.info.height, self.info.width

    def spectrum(self, row: int, column: int) -> NDArray[np.float32]:
        """Return one pixel's spectrum (channels,), reflectance, nan = nodata."""
        return self.basis.reflectance(self._compact.pixels([column], [row]), range(self.basis.channels))[:, 0]

    def sigma(self, row: int, column: int) -> NDArray[np.float32]:
        """Return the calibrated 1-sigma (channels,) of one pixel's spectrum, reflectance, nan = nodata."""
        return self._sigma(np.array([row]), np.array([column]))[:, 0]

    def spectra(self, points: ArrayLike, crs: str | None = None) -> NDArray[np.float32]:
        """Return the spectra of places.

        Args:
            points: (n, 2) x and y, or longitude and latitude with ``crs="EPSG:4326"``.
            crs: Of the points; the product's own where None.

        Returns:
            (channels, n) reflectance of the pixels that hold the points, nan = nodata.

        Raises:
            OutsideProduct: a point does not lie on the product.
        """
        rows, columns = self.locate(points, crs)
        return self.basis.reflectance(self._compact.pixels(columns, rows), range(self.basis.channels))

    def sigmas(self, points: ArrayLike, crs: str | None = None) -> NDArray[np.float32]:
        """Return the calibrated 1-sigma (channels, n) of `spectra` of the same places."""
        return self._sigma(*self.locate(points, crs))

    def locate(self, points: ArrayLike, crs: str | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row and column (n,) of the pixels that hold points (see `spectra`).

        Raises:
            OutsideProduct: a point does not lie on the product.
            ReadingError: the CRS is not known.
        """
        x, y = np.asarray(points, np.float64).reshape(-1, 2).T
        if crs is not None and crs != self.info.crs:
            try:
                x, y = Transformer.from_crs(crs, self.info.crs, always_xy=True).transform(x, y)
            except CRSError as error:
                raise ReadingError(f"crs is {crs!r}; expected a code such as EPSG:4326") from error
        a, _b, left, _d, e, top = self.info.transform
        with np.errstate(invalid="ignore"):  # what cannot be projected is infinite
            column, row = np.floor((x - left) / a), np.floor((y - top) / e)
            beyond = ~((column >= 0) & (column < self.info.width) & (row >= 0) & (row < self.info.height))
        if beyond.any():
            raise OutsideProduct(f"point {int(np.flatnonzero(beyond)[0])} does not lie on the product")
        return row.astype(np.int64), column.astype(np.int64)

    def read(
        self, window: tuple[int, int, int, int] | None = None, channels: Sequence[int] | None = None,
        dtype: Dtype = "float32",
    ) -> NDArray[Any]:  # fmt: skip
        """Read a window of channels.

        Args:
            window: (column, row, width, height); the whole product where None.
            channels: Zero-based; all where None.
            dtype: ``float32`` for reflectance, ``int16`` for what the 172-band file stores.

        Returns:
            (channels, height, width).

        Raises:
            OutsideProduct: the window reaches beyond the product.
        """
        area = self._window(window)
        wanted = self._channels(channels)
        out = np.empty((len(wanted), area.height, area.width), dtype)
        for part, values in self.stream(area, wanted, dtype):
            top, left = part.row - area.row, part.column - area.column
            out[:, top : top + part.height, left : left + part.width] = values
        return out

    def read_sigma(
        self, window: tuple[int, int, int, int] | None = None, channels: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the calibrated 1-sigma (channels, height, width) of a window, reflectance, nan = nodata."""
        area, file, wanted = self._window(window), self._uncertainty_file(), self._channels(channels)
        out = np.empty((len(wanted), area.height, area.width), np.float32)
        for part in file.parts(area, 4 * (len(wanted) + 4 * file.info.count)):
            top, left = part.row - area.row, part.column - area.column
            values = self.basis.sigma(file.read(part), file.info.scales, wanted)
            out[:, top : top + part.height, left : left + part.width] = values
        return out

    def stream(
        self, window: tuple[int, int, int, int] | None = None, channels: Sequence[int] | None = None,
        dtype: Dtype = "float32",
    ) -> Iterator[tuple[Window, NDArray[Any]]]:  # fmt: skip
        """Yield a window piece by piece, in bounded memory (see `read`).

        Yields:
            Pieces that tile the window, cut along blocks, and their values (channels, height, width).
        """
        wanted = self._channels(channels)
        for part in self.parts(window, wanted):
            yield part, self.piece(part, wanted, dtype)

    def parts(self, window: tuple[int, int, int, int] | None, channels: Sequence[int]) -> Iterator[Window]:
        """Yield the pieces in which a window of channels is worked on."""
        return self._compact.parts(self._window(window), 10 * (self.info.count + len(channels)))

    def piece(self, part: Window, channels: Sequence[int], dtype: Dtype) -> NDArray[Any]:
        """Read and expand one piece at once; `read` does the same for windows of any size."""
        stored = self._compact.read(part)
        return self.basis.integers(stored, channels) if dtype == "int16" else self.basis.reflectance(stored, channels)

    def lazy(self, dtype: Dtype = "float32") -> LazyCube:
        """Return the product as an array (channels, height, width) that reads what is indexed."""
        return LazyCube(self, dtype)

    def to_xarray(self, dtype: Dtype = "float32") -> Any:
        """Return the product as a lazy `xarray.DataArray` (wavelength, y, x); needs xarray."""
        return lazy_xarray(self, dtype)

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sigma(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        file = self._uncertainty_file()
        return self.basis.sigma(file.pixels(columns, rows), file.info.scales, range(self.basis.channels))

    def _uncertainty_file(self) -> BlockFile:
        with self._opening:
            if self._uncertainty is None:
                self._uncertainty = self._open_uncertainty()
            return self._uncertainty

    def _open_uncertainty(self) -> BlockFile:
        file = BlockFile(self._uncertainty_source)
        if (file.info.width, file.info.height) != (self.info.width, self.info.height):
            file.close()
            raise BasisMismatch(
                f"{self._uncertainty_source.shown} has {file.info.width} x {file.info.height} pixels; the compact "
                f"file has {self.info.width} x {self.info.height}: they are not of one product"
            )
        self._stack.callback(file.close)
        return file

    def _window(self, window: tuple[int, int, int, int] | None) -> Window:
        return Window(*window) if window is not None else Window(0, 0, self.info.width, self.info.height)

    def _channels(self, channels: Sequence[int] | None) -> Sequence[int]:
        wanted = list(range(self.basis.channels)) if channels is None else [int(channel) for channel in channels]
        unknown = [channel for channel in wanted if not 0 <= channel < self.basis.channels]
        if unknown:
            raise OutsideProduct(f"channel {unknown[0]} is asked for; the product has 0 to {self.basis.channels - 1}")
        return wanted


def _file_of(address: str | Path) -> str | Path:
    """Return the compact file of a folder, or the file itself."""
    text = str(address)
    if text.partition("?")[0].endswith((".tif", ".tiff")):
        return address
    return Path(address) / COMPACT_FILE if isinstance(address, Path) else f"{text.rstrip('/')}/{COMPACT_FILE}"
