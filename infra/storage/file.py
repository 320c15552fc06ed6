"""A folder as a store: files are written beside their name and linked into place without overwriting."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from infra.storage.errors import (
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StorageUnwritable,
)
from infra.storage.keys import PARTIAL_MARK, check_key, check_prefix
from infra.storage.protocol import StoredObject

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator
    from datetime import timedelta

logger = logging.getLogger(__name__)

_GATHERED_BYTES: Final = 1 << 20
"""What is written together: a file's tiles are some 50 kB."""

_GATHERED_PIECES: Final = 512
"""Fewer than the 1024 pieces that Linux takes in one call."""

_ADVICE: Final[dict[int, tuple[type[StorageError], str]]] = {
    errno.ENOSPC: (StorageFull, "free space on that disk; the work is tried again"),
    errno.EDQUOT: (StorageFull, "raise the quota or free space; the work is tried again"),
    errno.EFBIG: (StorageFull, "raise the file size limit (ulimit -f)"),
    errno.EROFS: (StorageUnwritable, "mount the file system writable or choose another storage url"),
    errno.EEXIST: (StorageUnwritable, "a file stands where a folder is needed; choose another storage url"),
    errno.ENOTDIR: (StorageUnwritable, "a file stands where a folder is needed; choose another storage url"),
    errno.ENAMETOOLONG: (StorageUnwritable, "choose a storage url with a shorter path"),
    errno.EACCES: (StorageDenied, "let this user write to the storage folder"),
    errno.EPERM: (StorageDenied, "let this user write there, on a file system that knows hard links"),
    errno.EOPNOTSUPP: (StorageUnwritable, "choose a file system that knows hard links"),
}


def named_error(error: OSError, doing: str) -> StorageError:
    """Name the cause of a failed file operation and say what to do about it."""
    kind, advice = _ADVICE.get(error.errno or 0, (StorageUnavailable, "check the disk or network file system"))
    return kind(f"{doing} failed: {error.strerror or error}; {advice}")


class FileStore:
    """Objects are files below one folder, which is made when first written to."""

    def __init__(self, root: Path) -> None:
        """Name the folder.

        Args:
            root: Absolute path of the store's root.
        """
        self._root = root
        self.url = root.as_uri().rstrip("/")

    def __repr__(self) -> str:
        return f"FileStore({self.url!r})"

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def create(self, key: str, *, content_type: str, head_size: int) -> FileUpload:  # noqa: ARG002 - files have none
        """Begin a streaming upload beside the target's name (see `ObjectStore.create`)."""
        path = self._path(key)
        if path.exists():
            raise ObjectExists(f"{key} exists already in {self.url}; finished files are never overwritten")
        return FileUpload(key, path, head_size, root=self._root)

    def put(self, key: str, data: bytes, *, content_type: str) -> StoredObject:
        """Store a small object at once (see `ObjectStore.put`)."""
        upload = self.create(key, content_type=content_type, head_size=len(data))
        return upload.finish(data)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read bytes of an object (see `ObjectStore.get`)."""
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                return file.read(-1 if length is None else length)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ObjectMissing(f"there is no {key} in {self.url}") from error
        except OSError as error:
            raise named_error(error, f"reading {key}") from error

    def stat(self, key: str) -> StoredObject | None:
        """Describe an object, None when there is none."""
        path = self._path(key)
        return self._describe(path) if path.is_file() else None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """List finished objects in key order; unfinished uploads are not shown."""
        check_prefix(prefix)
        found = (path for path in self._walk(prefix) if PARTIAL_MARK not in path.name)
        described = map(self._describe, sorted(found, key=self._key))
        return (stored for stored in described if stored is not None)

    def delete(self, key: str) -> None:
        """Remove an object and the folders it leaves empty."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise named_error(error, f"deleting {key}") from error
        _prune(path.parent, self._root)

    def clean_partial(self, prefix: str, older_than: timedelta) -> builtins.list[str]:
        """Remove files of uploads that were never finished (see `ObjectStore.clean_partial`)."""
        check_prefix(prefix)
        limit = time.time() - older_than.total_seconds()
        removed = []
        for path in sorted(self._walk(prefix)):
            name, mark, _token = path.name.partition(PARTIAL_MARK)
            with contextlib.suppress(FileNotFoundError):
                if mark and path.stat().st_mtime <= limit:
                    path.unlink()
                    removed.append(self._key(path.with_name(name)))
                    _prune(path.parent, self._root)
        return removed

    def gdal_path(self, key: str) -> str:
        """Name an object for `rasterio.open`."""
        return str(self._path(key))

    def gdal_env(self) -> dict[str, Any]:
        """Options of `rasterio.Env`: never look at the other files of the folder."""
        return {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}

    def href(self, key: str) -> str:
        """Name an object for a STAC asset: a ``file://`` URL."""
        return self._path(key).as_uri()

    def requests(self) -> dict[str, int]:
        """Return nothing: no requests are sent to a folder."""
        return {}

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _walk(self, prefix: str) -> Iterator[Path]:
        start = self._root / prefix.rpartition("/")[0]
        for folder, _folders, names in os.walk(start):
            paths = (Path(folder, name) for name in names)
            yield from (path for path in paths if self._key(path).startswith(prefix))

    def _describe(self, path: Path) -> StoredObject | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None  # removed since it was seen
        return StoredObject(self._key(path), status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


class FileUpload:
    """A file that grows beside its final name and is linked to it when whole."""

    def __init__(self, key: str, path: Path, head_size: int, *, root: Path) -> None:
        """Open the partial file.

        Args:
            key: The object's key, for messages.
            path: The file's final name.
            head_size: Bytes kept free at its start.
            root: Folder above which nothing is removed.

        Raises:
            StorageError: the folder cannot be made or written to.
        """
        self._key, self._path, self._head_size, self._root = key, path, head_size, root
        self._partial = path.with_name(f"{path.name}{PARTIAL_MARK}{secrets.token_hex(8)}")
        try:
            self._descriptor = _open_new(self._partial)
        except OSError as error:
            raise named_error(error, f"creating {key}") from error
        os.lseek(self._descriptor, head_size, os.SEEK_SET)
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._open = True

    def write(self, data: bytes | memoryview) -> None:
        """Append to the body."""
        self._ensure_open()
        self._gathered.append(bytes(data))  # bytes are not copied, anything else is
        self._gathered_bytes += len(self._gathered[-1])
        if self._gathered_bytes < _GATHERED_BYTES and len(self._gathered) < _GATHERED_PIECES:
            return
        try:
            self._flush()
        except OSError as error:
            self.abort()
            raise named_error(error, f"writing {self._key}") from error

    def finish(self, head: bytes) -> StoredObject:
        """Write the head, flush everything to the disk and link the file to its name."""
        self._ensure_open()
        if len(head) != self._head_size:
            self.abort()
            raise ValueError(f"head of {self._key} has {len(head)} bytes; {self._head_size} were promised")
        try:
            self._settle(head)
        except FileExistsError as error:
            raise ObjectExists(f"{self._key} exists already; finished files are never overwritten") from error
        except OSError as error:
            raise named_error(error, f"finishing {self._key}") from error
        finally:
            self.abort()
        status = self._path.stat()
        return StoredObject(self._key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def interrupt(self) -> None:
        """Nothing to do: what a disk takes is not waited for."""

    def abort(self) -> None:
        """Close and remove the partial file and folders left empty; a linked file stays."""
        if not self._open:
            return
        self._open = False
        self._gathered = []
        with contextlib.suppress(OSError):  # the file is thrown away, or on the disk already
            os.close(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            self._partial.unlink()
        _prune(self._path.parent, self._root)

    def _ensure_open(self) -> None:
        if not self._open:
            raise ValueError(f"the upload of {self._key} is finished or aborted")

    def _flush(self) -> None:
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        _write_all(self._descriptor, gathered)

    def _settle(self, head: bytes) -> None:
        self._flush()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        _write_all(self._descriptor, [head])
        os.fsync(self._descriptor)
        os.link(self._partial, self._path)
        _sync_folder(self._path.parent)


def _write_all(descriptor: int, pieces: builtins.list[bytes]) -> None:
    """Write many pieces with few system calls and without joining them first."""
    while pieces:
        written = os.writev(descriptor, pieces)
        left = 0
        while left < len(pieces) and written >= len(pieces[left]):
            written -= len(pieces[left])
            left += 1
        pieces = pieces[left:]
        if written:
            pieces[0] = pieces[0][written:]


def _open_new(path: Path) -> int:
    """Create a file and its folders; an empty folder may be pruned by another process between the two steps."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        logger.debug("the folder of %s was removed while it was created; trying once more", path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o644)


def _prune(folder: Path, root: Path) -> None:
    """Remove folders below the root that became empty."""
    while folder != root and root in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return  # not empty, or gone already
        folder = folder.parent


def _sync_folder(folder: Path) -> None:
    """Make a new name durable: a link is only safe once its folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
