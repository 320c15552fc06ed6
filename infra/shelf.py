"""Small documents that are replaced whole: a folder or a bucket. Products are never replaced; see `infra.storage`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from infra.storage.errors import ObjectMissing, StorageError, StorageUnwritable
from infra.storage.keys import check_key
from infra.storage.s3_client import Retry, S3Client

if TYPE_CHECKING:
    from infra.settings import StorageSettings


class FolderShelf:
    """Documents below a folder; a new one takes the old one's place in one step."""

    def __init__(self, root: Path) -> None:
        """Name the folder; it is made when something is written."""
        self._root = root
        self.url = root.as_uri().rstrip("/")

    def read(self, key: str) -> bytes | None:
        """Return a document, None where there is none."""
        try:
            return (self._root / check_key(key)).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, content: bytes, content_type: str) -> None:  # noqa: ARG002 - a folder keeps none
        """Put a document in the place of whatever was there.

        Raises:
            StorageUnwritable: the folder cannot be written.
        """
        path = self._root / check_key(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".document-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                Path(name).chmod(0o644)
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StorageUnwritable(f"{path} cannot be written: {error.strerror or error}") from error


class BucketShelf:
    """Documents below a prefix of a bucket."""

    def __init__(self, settings: StorageSettings) -> None:
        """Name the bucket; nothing is sent yet."""
        parts = urlsplit(settings.url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self.url = settings.url.rstrip("/")
        self._client = S3Client(settings, Retry())

    def read(self, key: str) -> bytes | None:
        """Return a document, None where there is none."""
        try:
            content: bytes = self._client.call("get_object", f"reading {key}", read=True, **self._target(key))
        except ObjectMissing:
            return None
        return content

    def write(self, key: str, content: bytes, content_type: str) -> None:
        """Put a document in the place of whatever was there."""
        self._client.call(
            "put_object", f"writing {key}", **self._target(key), Body=content, ContentType=content_type
        )  # fmt: skip

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{check_key(key)}".lstrip("/")}


def open_shelf(settings: StorageSettings) -> FolderShelf | BucketShelf:
    """Open the place that the settings' URL names.

    Raises:
        StorageError: the URL is of no known kind.
    """
    parts = urlsplit(settings.url)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return FolderShelf(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return BucketShelf(settings)
    raise StorageError(f"url is {settings.url!r}; expected file:///absolute/folder or s3://bucket/prefix")
