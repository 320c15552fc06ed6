"""Bytes of a product's files by range, wherever they lie: a folder, a web server or a store.

GDAL could fetch them itself (`/vsicurl/`, `/vsis3/`), but it asks for one band's tile after the other and in pieces
whose size is set once per process; see docs/3-product-guide.md for what that costs and which options help. Here whoever
reads knows which stretch of the file is wanted and asks for exactly that.
"""

from __future__ import annotations

import logging
import random
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from infra.compact.errors import ProductDenied, ProductMissing, ProductUnreachable, ProductUnreadable, ReadingError
from infra.storage import ObjectMissing, StorageDenied, StorageError, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import StorageSettings
    from infra.storage import ObjectStore

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS: Final = 60.0
_ATTEMPTS: Final = 5
_FIRST_WAIT: Final = 0.3
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class ByteSource(Protocol):
    """One file, read by range."""

    shown: str
    """What messages call it; never holds a credential."""

    def read(self, start: int, length: int) -> bytes:
        """Return at most `length` bytes from `start`; fewer only at the end of the file."""

    def size(self) -> int:
        """Return the file's size, bytes."""

    def beside(self, name: str) -> ByteSource:
        """Return another file of the same folder."""

    def local_path(self) -> Path | None:
        """Return the file's path where it is one of this machine."""


class FileSource:
    """A file of this machine."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is opened yet."""
        self._path = path
        self.shown = str(path)

    def read(self, start: int, length: int) -> bytes:
        """Read a range (see `ByteSource`)."""
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(length)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ProductMissing(f"there is no file {self._path}") from error
        except PermissionError as error:
            raise ProductDenied(f"{self._path} may not be read by this user") from error
        except OSError as error:
            raise ProductUnreachable(f"{self._path} cannot be read: {error.strerror or error}") from error

    def size(self) -> int:
        """Ask the file system."""
        try:
            return self._path.stat().st_size
        except OSError as error:
            raise ProductMissing(f"there is no file {self._path}") from error

    def beside(self, name: str) -> FileSource:
        """Name another file of the folder."""
        return FileSource(self._path.with_name(name))

    def local_path(self) -> Path:
        """Return the path."""
        return self._path


class StoreSource:
    """An object of a store, read with the store's own client, keys and retries."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        """Name the object; nothing is sent yet."""
        self._store, self._key = store, key
        self.shown = store.href(key)

    def read(self, start: int, length: int) -> bytes:
        """Read a range (see `ByteSource`)."""
        try:
            return self._store.get(self._key, start, length)
        except ObjectMissing as error:
            raise ProductMissing(str(error)) from error
        except StorageDenied as error:
            raise ProductDenied(str(error)) from error
        except StorageError as error:
            raise (ProductUnreachable if error.transient else ReadingError)(str(error)) from error

    def size(self) -> int:
        """Ask the store."""
        try:
            stored = self._store.stat(self._key)
        except StorageError as error:
            raise (ProductUnreachable if error.transient else ReadingError)(str(error)) from error
        if stored is None:
            raise ProductMissing(f"there is no {self.shown}")
        return stored.size

    def beside(self, name: str) -> StoreSource:
        """Name another object below the same prefix."""
        folder, slash, _name = self._key.rpartition("/")
        return StoreSource(self._store, f"{folder}{slash}{name}")

    def local_path(self) -> Path | None:
        """Return the path below a folder store, None on S3."""
        return Path(self._store.gdal_path(self._key)) if self._store.url.startswith("file:") else None


class HttpSource:
    """A file on a web server that answers range requests. Signed addresses keep their query, messages never show it."""

    def __init__(self, url: str, client: httpx.Client, *, sleep: Callable[[float], object] = time.sleep) -> None:
        """Name the file; nothing is sent yet.

        Args:
            url: ``https://`` or ``http://``.
            client: Shared by the files of one product.
            sleep: Waits between tries.
        """
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ReadingError(f"the address on {parts.hostname!r} carries credentials; expected a plain or signed one")
        self._url, self._client, self._sleep = url, client, sleep
        self._size: int | None = None
        self.shown = f"{parts.scheme}://{parts.netloc}{parts.path}"

    def read(self, start: int, length: int) -> bytes:
        """Read a range (see `ByteSource`), again if need be, with doubling waits and jitter.

        Raises:
            ProductMissing, ProductDenied: the server says so.
            ProductUnreachable: no answer within the tries.
            ProductUnreadable: the server knows no ranges or answers with another one.
        """
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(_FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
            try:
                with self._client.stream(
                    "GET", self._url, headers={"Range": f"bytes={start}-{start + length - 1}"}
                ) as r:
                    if r.status_code not in _BUSY:
                        return self._content(r, start, length)
                    reason = f"HTTP {r.status_code}"
            except httpx.TransportError as error:
                reason = type(error).__name__
            logger.info("%s: %s at byte %d, try %d of %d", self.shown, reason, start, attempt + 1, _ATTEMPTS)
        raise ProductUnreachable(f"{self.shown} could not be read: {reason}, after {_ATTEMPTS} tries")

    def size(self) -> int:
        """Return what the server said with the first range."""
        if self._size is None:
            self.read(0, 1)
        return self._size or 0

    def beside(self, name: str) -> HttpSource:
        """Name another file of the folder, without the signature, which is the first one's alone."""
        parts = urlsplit(self._url)
        folder = parts.path.rpartition("/")[0]
        address = urlunsplit((parts.scheme, parts.netloc, f"{folder}/{name}", "", ""))
        return HttpSource(address, self._client, sleep=self._sleep)

    def local_path(self) -> None:
        """Return None: it lies elsewhere."""

    def _content(self, response: httpx.Response, start: int, length: int) -> bytes:
        status = response.status_code
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""  # wholly beyond the end
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise ProductDenied(f"{self.shown} is refused (HTTP {status}); its address may have expired")
        if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
            raise ProductMissing(f"there is no {self.shown} (HTTP {status})")
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if status != httpx.codes.PARTIAL_CONTENT or found is None or int(found[1]) != start:
            raise ProductUnreadable(
                f"{self.shown} answered HTTP {status}; expected 206 with the range from byte {start}"
            )
        self._size = int(found[3])
        content = bytearray()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > length:
                raise ProductUnreadable(f"{self.shown} answered with more than the {length} bytes asked for")
        return bytes(content)


def http_client() -> httpx.Client:
    """Return a client for the files of one product; redirects are followed by nobody."""
    return httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=False, headers={"Accept-Encoding": "identity"})


def locate(address: str | Path, storage: StorageSettings | None, client: httpx.Client) -> ByteSource:
    """Find out how a file is read.

    Args:
        address: A path, ``file://``, ``https://``, ``http://`` or ``s3://bucket/key``.
        storage: Endpoint and keys for ``s3://``; where None, those of the environment.
        client: For web servers.

    Returns:
        The file; nothing is opened yet.

    Raises:
        ReadingError: the address is of no known kind.
    """
    parts = urlsplit(str(address))
    if isinstance(address, Path) or parts.scheme == "":
        return FileSource(Path(address).expanduser())
    if parts.scheme == "file" and not parts.netloc:
        return FileSource(Path(unquote(parts.path)))
    if parts.scheme in {"http", "https"} and parts.netloc:
        return HttpSource(str(address), client)
    if parts.scheme == "s3" and parts.netloc and parts.path.strip("/"):
        return _s3(parts.netloc, parts.path.strip("/"), storage)
    raise ReadingError(f"address is {address!r}; expected a path, file://, http(s):// or s3://bucket/key")


def _s3(bucket: str, key: str, storage: StorageSettings | None) -> StoreSource:
    from infra.settings import StorageSettings as Settings

    known = storage or Settings()
    return StoreSource(open_store(known.model_copy(update={"url": f"s3://{bucket}"})), key)
