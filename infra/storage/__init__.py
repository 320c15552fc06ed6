"""Where product files live: a folder or an S3 bucket. Objects appear whole and are never replaced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from infra.storage.errors import (
    InvalidKey,
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StorageUnwritable,
    UploadInterrupted,
    UploadLost,
)
from infra.storage.file import FileStore
from infra.storage.protocol import ObjectStore, StoredObject, Upload

if TYPE_CHECKING:
    from infra.settings import StorageSettings

__all__ = [
    "FileStore",
    "InvalidKey",
    "ObjectExists",
    "ObjectMissing",
    "ObjectStore",
    "StorageDenied",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
    "StorageUnwritable",
    "StoredObject",
    "Upload",
    "UploadInterrupted",
    "UploadLost",
    "open_store",
]


def open_store(settings: StorageSettings) -> ObjectStore:
    """Open the store that the settings name. Nothing is created or contacted yet.

    Args:
        settings: With a URL (`Settings.resolved_storage` always has one).

    Raises:
        StorageError: the URL is empty or of no known kind.
    """
    parts = urlsplit(settings.url)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from infra.storage.s3 import S3Store

        return S3Store(settings)
    raise StorageError(f"storage url is {settings.url!r}; expected file:///absolute/folder or s3://bucket/prefix")
