"""One band's file: opened with suspicion, read by window, from any thread."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from infra.scene.errors import AbsurdRaster, RasterUnreachable, UnreadableRaster
from infra.scene.jpeg2000 import missing_bytes

if TYPE_CHECKING:
    from infra.scene.access import Location

logger = logging.getLogger(__name__)

Stored = NDArray[np.integer[Any]]
"""Stored values as a file holds them."""

MAX_EDGE_METRES: Final = 131_072
"""Longest accepted edge of a raster; a Sentinel-2 tile has 109 800 m."""

MAX_BLOCK_PIXELS: Final = 4096 * 4096
"""Largest accepted block: one is decoded whole, whatever the window."""

_DRIVERS: Final = ["GTiff", "JP2OpenJPEG"]
"""COG and JPEG 2000. Never VRT, which can name any other file."""

_DTYPES: Final = {"uint16", "int16", "uint8"}

_PERMANENT_HTTP: Final = re.compile(r"\b(40[0-79]|41\d|42[0-8]|451)\b")
"""Answers that asking again does not change; 408 and 429 do pass."""

_REFUSED_HTTP: Final = re.compile(r"\b40[13]\b")
"""Refusals, which pass where a token has expired or the signing service was down."""

_NETWORK: Final = re.compile(r"HTTP|CURL|curl|timed? ?out|resolve|[Cc]onnect|Range downloading|request")
"""What GDAL says when the network, not the file, is at fault."""


_ADDRESS: Final = re.compile(r"'?(/vsi|https?:)\S*")


class BandRaster:
    """One open band. All GDAL calls of a band are serialised; several bands may be read at once."""

    def __init__(self, band: str, location: Location, metres: int) -> None:
        """Open the file and check that it can be a Sentinel-2 band.

        Args:
            band: Band name, for messages.
            location: A checked address; GDAL's environment is the caller's.
            metres: The band's own pixel size.

        Raises:
            UnreadableRaster: the file is missing, no GeoTIFF or JPEG 2000, or no single band of integers.
            RasterUnreachable: the network failed.
            AbsurdRaster: it claims a size that no tile has.
        """
        self.band = band
        self.metres = metres
        self._location = location
        self._lock = threading.Lock()
        if not location.remote:
            self._check_file(Path(location.path))
        self._dataset = self._open()
        try:
            self._check()
        except BaseException:
            self._dataset.close()
            raise
        self._dtype: str = self._dataset.dtypes[0]
        self.crs = self._dataset.crs
        self.transform = self._dataset.transform
        self.width: int = self._dataset.width
        self.height: int = self._dataset.height

    def read(self, column: int, row: int, width: int, height: int) -> Stored:
        """Read a rectangle in the band's own pixels; what lies beyond the raster is 0.

        Args:
            column: Left edge, own pixels; may be negative.
            row: Upper edge, own pixels; may be negative.
            width: Own pixels.
            height: Own pixels.

        Returns:
            (height, width) stored values in the file's own dtype.

        Raises:
            UnreadableRaster: the file is truncated or corrupt there.
            RasterUnreachable: the network failed.
        """
        out = np.zeros((height, width), self._dtype)
        left, top = max(column, 0), max(row, 0)
        right, bottom = min(column + width, self.width), min(row + height, self.height)
        if left >= right or top >= bottom:
            return out
        inside = out[top - row : bottom - row, left - column : right - column]
        with self._lock:
            inside[:] = self._read(RasterWindow(left, top, right - left, bottom - top))
        return out

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._dataset.close()

    def _open(self) -> DatasetReader:
        try:
            with warnings.catch_warnings():  # a file without a grid is refused by name when bands are aligned
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                return DatasetReader(self._location.path, driver=_DRIVERS, sharing=False)
        except (RasterioError, ValueError) as error:
            raise self._failure("cannot be opened", error) from error

    def _read(self, window: RasterWindow) -> Stored:
        """Read a window; a remote file is opened afresh once, which heals it or tells network from corruption."""
        if self._dataset.closed:  # the network failed while it was opened again
            self._dataset = self._open()
        try:
            return self._values(window)
        except UnreadableRaster:
            if not self._location.remote:
                raise
        logger.info("%s: reading failed, opening it again", self._named())
        self._dataset.close()
        self._dataset = self._open()
        return self._values(window)

    def _values(self, window: RasterWindow) -> Stored:
        try:
            stored: Stored = self._dataset.read(1, window=window)
        except (RasterioError, ValueError) as error:
            raise self._failure("cannot be read; it may be truncated or corrupt", error) from error
        return stored

    def _named(self) -> str:
        return f"band {self.band} ({self._location.shown})"

    def _check_file(self, path: Path) -> None:
        if not path.is_file():
            raise UnreadableRaster(f"{self._named()} does not exist or is no file")
        missing = missing_bytes(path)
        if missing:
            raise UnreadableRaster(f"{self._named()} is truncated: at least {missing} bytes are missing at its end")

    def _check(self) -> None:
        dataset = self._dataset
        edge = MAX_EDGE_METRES // self.metres
        if dataset.width > edge or dataset.height > edge or dataset.width < 1 or dataset.height < 1:
            raise AbsurdRaster(
                f"{self._named()} claims {dataset.width} x {dataset.height} pixels; expected at most {edge} x {edge}"
            )
        if dataset.count != 1 or dataset.dtypes[0] not in _DTYPES:
            raise UnreadableRaster(
                f"{self._named()} holds {dataset.count} bands of {dataset.dtypes[0]}; expected one of uint16"
            )
        rows, columns = dataset.block_shapes[0]
        if rows * columns > MAX_BLOCK_PIXELS:
            raise AbsurdRaster(f"{self._named()} has blocks of {columns} x {rows} pixels; expected at most 4096 x 4096")

    def _failure(self, what: str, error: Exception) -> UnreadableRaster:
        said = _chain(error)
        message = f"{self._named()} {what}: {said}"
        passes = _NETWORK.search(said) and not _PERMANENT_HTTP.search(said)
        refused = self._location.signed and _REFUSED_HTTP.search(said)
        transient = self._location.remote and (passes or refused)
        return RasterUnreachable(message) if transient else UnreadableRaster(message)


def _chain(error: BaseException) -> str:
    """Return what GDAL said, innermost last, without addresses: they may be signed, and words in them mislead."""
    said: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = str(current).strip()
        if text and text not in said:
            said.append(text)
        current = current.__cause__
    return _ADDRESS.sub("the file", "; ".join(said))
