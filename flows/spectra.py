"""Reads spectra for the catalog: the product's files behind the addresses that its item registered, kept open."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote

import numpy as np

from catalog.spectra import LAYERS, NoSpectra, PixelSpectra, SpectraUnreadable
from infra.compact import BlockFile, ReadingError
from infra.compact.basis import read_basis
from infra.compact.sources import StoreSource, http_client, locate
from infra.storage import InvalidKey
from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from catalog.places import Pixels
    from infra.compact import ProductBasis
    from infra.compact.sources import ByteSource
    from infra.settings import StorageSettings
    from infra.storage import ObjectStore

_BASIS_BYTES: Final = 4 << 20
_THREADS: Final = 4
"""That read files; whoever asks reads the largest one itself."""


@dataclass
class _OpenProduct:
    """The files of one product, opened as they are asked for."""

    basis: ProductBasis
    responses: NDArray[np.float64] | None
    """(12, 172) what each source band is of a spectrum; None in early products."""
    hrefs: Mapping[str, str]
    files: dict[str, BlockFile] = field(default_factory=dict)
    locks: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    """So that a file is opened once."""
    readers: int = 0


class ProductReader:
    """The catalog's `SpectraReader` over a store. Close it."""

    def __init__(self, store: ObjectStore, storage: StorageSettings, *, held: int = 64) -> None:
        """Open nothing yet.

        Args:
            store: Where products lie.
            storage: Its settings, for files that lie elsewhere on S3.
            held: So many products are kept open; more while more are read at once.
        """
        self._store, self._storage, self._held = store, storage, held
        self._client = http_client()
        self._open: OrderedDict[str, _OpenProduct] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="spectra-files")

    def read(self, item: Mapping[str, Any], pixels: Pixels) -> PixelSpectra:
        """Read pixels of a product (see `SpectraReader`)."""
        try:
            with self._lease(item) as product:
                return self._read(product, item, pixels)
        except ReadingError as error:
            raise SpectraUnreadable(f"{item['id']}: {error}", transient=error.transient) from error

    def close(self) -> None:
        """Close all files."""
        self._pool.shutdown()
        with self._lock:
            while self._open:
                self._close(self._open.popitem()[1])
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _lease(self, item: Mapping[str, Any]) -> Iterator[_OpenProduct]:
        hrefs = {key: asset["href"] for key, asset in item["assets"].items()}
        missing = {"compact", "basis", "uncertainty", "qa"} - set(hrefs)
        if missing:
            raise NoSpectra(f"item {item['id']!r} has no files of spectra: {', '.join(sorted(missing))} missing")
        with self._lock:
            product = self._open.get(hrefs["compact"])
            if product is not None:
                product.readers += 1
                self._open.move_to_end(hrefs["compact"])
        if product is None:
            product = self._enter(hrefs, self._prepare(hrefs))
        try:
            yield product
        finally:
            with self._lock:
                product.readers -= 1
                idle = [href for href, each in self._open.items() if not each.readers]
                for href in idle[: max(0, len(self._open) - self._held)]:
                    self._close(self._open.pop(href))

    def _enter(self, hrefs: Mapping[str, str], made: _OpenProduct) -> _OpenProduct:
        with self._lock:
            product = self._open.setdefault(hrefs["compact"], made)
            product.readers += 1
            return product

    def _prepare(self, hrefs: Mapping[str, str]) -> _OpenProduct:
        source = self._source(hrefs["basis"])
        content = source.read(0, _BASIS_BYTES)
        responses = json.loads(content).get("responses")
        basis = read_basis(content, source.shown)
        return _OpenProduct(basis, None if responses is None else np.array(responses, np.float64), hrefs)

    def _source(self, href: str) -> ByteSource:
        """Find a registered file: in the store by its key, elsewhere by its address."""
        root = f"{self._store.url}/"
        if href.startswith(root):
            try:
                return StoreSource(self._store, unquote(href.removeprefix(root)))
            except InvalidKey as error:
                raise ReadingError(f"{href} is no file of the store: {error}") from error
        return locate(href, self._storage, self._client)

    def _file(self, product: _OpenProduct, asset: str) -> BlockFile:
        with product.locks[asset]:
            if asset not in product.files:
                product.files[asset] = BlockFile(self._source(product.hrefs[asset]))
            return product.files[asset]

    @staticmethod
    def _close(product: _OpenProduct) -> None:
        for file in product.files.values():
            file.close()

    def _read(self, product: _OpenProduct, item: Mapping[str, Any], pixels: Pixels) -> PixelSpectra:
        """Read all files at once: each decodes blocks of its own."""
        basis, columns, rows = product.basis, pixels.columns, pixels.rows
        channels = range(basis.channels)

        def sigma() -> NDArray[np.float32]:
            file = self._file(product, "uncertainty")
            return basis.sigma(file.pixels(columns, rows), file.info.scales, channels)

        flags = self._pool.submit(lambda: self._file(product, "qa").pixels(columns, rows)[0].astype(np.uint16))
        uncertainty = self._pool.submit(sigma)
        explanation = self._pool.submit(self._explanation, product, item, pixels)
        residual = self._pool.submit(self._residual, product, pixels)
        reflectance = basis.reflectance(self._file(product, "compact").pixels(columns, rows), channels)
        seen = None if product.responses is None else (product.responses @ reflectance).astype(np.float32)
        return PixelSpectra(
            reflectance=reflectance,
            sigma=uncertainty.result(),
            flags=flags.result(),
            explanation=explanation.result(),
            seen=seen,
            residual=residual.result(),
        )

    def _explanation(
        self, product: _OpenProduct, item: Mapping[str, Any], pixels: Pixels
    ) -> dict[str, NDArray[np.float32]]:
        if "explanation" not in product.hrefs:
            return {}
        names = [band["name"] for band in item["assets"]["explanation"]["bands"]]
        wanted = [name for name in LAYERS if name in names]
        file, numbers = self._file(product, "explanation"), [names.index(name) for name in wanted]
        return dict(zip(wanted, _decoded(file, pixels.columns, pixels.rows, numbers), strict=True))

    def _residual(self, product: _OpenProduct, pixels: Pixels) -> NDArray[np.float32] | None:
        residual = np.full((len(SOURCE_BAND_NAMES), len(pixels)), np.nan, np.float32)
        for metres, names in BANDS_BY_RESOLUTION.items():
            if f"residual_{metres}m" not in product.hrefs:
                return None
            file, step = self._file(product, f"residual_{metres}m"), metres // 10
            places = [SOURCE_BAND_NAMES.index(name) for name in names]
            residual[places] = _decoded(file, pixels.columns // step, pixels.rows // step, range(len(names)))
        return residual


def _decoded(
    file: BlockFile, columns: NDArray[np.int64], rows: NDArray[np.int64], bands: list[int] | range
) -> NDArray[np.float32]:
    """Read pixels (bands, n) as physical values, nan where nodata."""
    stored = file.pixels(columns, rows, list(bands))
    scales = np.array([file.info.scales[band] for band in bands], np.float32)[:, None]
    offsets = np.array([file.info.offsets[band] for band in bands], np.float32)[:, None]
    return np.where(stored == NODATA, np.float32(np.nan), stored * scales + offsets).astype(np.float32)
