"""A product, or its 172-band file, written for other software."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import numpy as np

from infra.compact.blocks import BlockFile, RasterInfo, Window
from infra.compact.errors import ProductUnreadable
from infra.compact.expansion import channel_names
from infra.compact.product import CompactProduct
from infra.compact.sources import http_client, locate
from infra.envi import EnviImage, write_envi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from infra.settings import StorageSettings

_DN_BYTES: Final = 2


class SpectralFile(Protocol):
    """Reflectance x 10 000 of named channels, whatever file it comes from."""

    info: RasterInfo
    centre_nm: NDArray[np.float64]
    """(n,) centre wavelengths, nm."""
    fwhm_nm: NDArray[np.float64]
    """(n,) full widths at half maximum, nm."""
    names: tuple[str, ...]

    def integers(self, window: Window, channels: Sequence[int]) -> Iterator[tuple[Window, NDArray[Any]]]:
        """Yield a window piece by piece: (channels, height, width) int16."""

    def close(self) -> None:
        """Close the file."""


class _Bands:
    """A file that holds the channels themselves."""

    def __init__(self, file: BlockFile, centre_nm: Sequence[float], fwhm_nm: Sequence[float]) -> None:
        self._file, self.info = file, file.info
        self.centre_nm, self.fwhm_nm = np.array(centre_nm), np.array(fwhm_nm)
        self.names = file.info.descriptions

    def integers(self, window: Window, channels: Sequence[int]) -> Iterator[tuple[Window, NDArray[Any]]]:
        for part in self._file.parts(window, _DN_BYTES * len(channels)):
            yield part, self._file.read(part, channels)

    def close(self) -> None:
        self._file.close()


class _Coefficients:
    """A compact file, expanded."""

    def __init__(self, product: CompactProduct) -> None:
        self._product, self.info = product, product.info
        self.centre_nm, self.fwhm_nm = product.basis.centre_nm, product.basis.fwhm_nm
        self.names = channel_names(product.basis)

    def integers(self, window: Window, channels: Sequence[int]) -> Iterator[tuple[Window, NDArray[Any]]]:
        return self._product.stream(window, channels, "int16")

    def close(self) -> None:
        self._product.close()


class SpectraReader:
    """Opens either kind of file and closes all that belongs to it."""

    def __init__(self, address: str | Path, storage: StorageSettings | None = None) -> None:
        """Open a 172-band file, a compact file or a product's folder.

        Args:
            address: As of `CompactProduct.open`.
            storage: Endpoint and keys for ``s3://``.

        Raises:
            ReadingError: it is missing, refused, unreachable or neither of the two.
        """
        with ExitStack() as stack:
            client = stack.enter_context(http_client())
            self.file = _open(address, storage, client)
            stack.callback(self.file.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _open(address: str | Path, storage: StorageSettings | None, client: Any) -> SpectralFile:
    if not str(address).partition("?")[0].endswith((".tif", ".tiff")):
        return _Coefficients(CompactProduct.open(address, storage=storage))
    file = BlockFile(locate(address, storage, client))
    centre_nm = [centre for centre in file.info.centre_nm if centre is not None]
    fwhm_nm = [fwhm for fwhm in file.info.fwhm_nm if fwhm is not None]
    if len(centre_nm) == len(fwhm_nm) == file.info.count and file.info.dtype == "int16":
        return _Bands(file, centre_nm, fwhm_nm)
    file.close()
    if centre_nm:
        raise ProductUnreadable(
            f"{address} tells the wavelengths of {len(centre_nm)} of its {file.info.count} bands only"
        )
    return _Coefficients(CompactProduct.open(address, storage=storage))


def export_envi(
    spectra: SpectralFile,
    target: Path,
    *,
    channels: Sequence[int],
    window: Window,
    progress: Callable[[float], object] = lambda _fraction: None,
) -> tuple[Path, Path]:
    """Write channels of a product as ENVI's raw pixels and header (see `infra.envi`).

    Args:
        spectra: The open file.
        target: The header's path.
        channels: Zero-based, in the order in which they are written.
        window: On the product.
        progress: Told the fraction written, 0-1.

    Returns:
        The paths of pixels and header.

    Raises:
        ReadingError: the product cannot be read.
        EnviFileExists: one of the files is there already.
    """
    a, b, left, d, e, top = spectra.info.transform
    tags = spectra.info.tags
    image = EnviImage(
        width=window.width,
        height=window.height,
        crs=spectra.info.crs,
        transform=(a, b, left + a * window.column, d, e, top + e * window.row),
        centre_nm=spectra.centre_nm[channels].tolist(),
        fwhm_nm=spectra.fwhm_nm[channels].tolist(),
        names=[spectra.names[channel] for channel in channels],
        good=[1] * len(channels),
        description=" ".join(tags[name] for name in ("ITEM", "NOTICE") if name in tags),
    )
    pieces = (
        ((part.column - window.column, part.row - window.row, part.width, part.height), values)
        for part, values in spectra.integers(window, channels)
    )
    return write_envi(image, pieces, target, progress)
