"""What the project asks of a store, whatever stands behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator
    from datetime import datetime, timedelta


@dataclass(frozen=True)
class StoredObject:
    """One finished object of a store."""

    key: str
    """Path below the store's root, separated by ``/``."""
    size: int
    """Bytes."""
    modified: datetime | None
    """When it appeared (UTC); None where the store does not tell."""


@runtime_checkable
class Upload(Protocol):
    """One object on its way: its body comes first, its head last, and it appears only when whole."""

    def write(self, data: bytes | memoryview) -> None:
        """Append to the body, which starts behind the head. The data may be reused by the caller afterwards."""

    def finish(self, head: bytes) -> StoredObject:
        """Supply the head and make the object appear, whole or not at all.

        Args:
            head: Exactly the `head_size` bytes promised to `ObjectStore.create`.

        Raises:
            ObjectExists: the key was taken meanwhile; nothing is left of this upload.
        """

    def interrupt(self) -> None:
        """Let a `write` or `finish` that another thread is waiting in end soon with an error; `abort` is to follow."""

    def abort(self) -> None:
        """Give up and leave nothing behind. May be called twice, and after `finish`, where it does nothing."""


@runtime_checkable
class ObjectStore(Protocol):
    """A place for finished files, addressed by keys below one root. Nothing in it is ever overwritten."""

    url: str
    """Root without a trailing slash: ``file:///folder`` or ``s3://bucket/prefix``."""

    def create(self, key: str, *, content_type: str, head_size: int) -> Upload:
        """Begin a streaming upload.

        Args:
            key: Where the object will appear.
            content_type: Its media type.
            head_size: Bytes at its start that are supplied last; may be 0.

        Raises:
            ObjectExists: the key is taken already.
        """

    def put(self, key: str, data: bytes, *, content_type: str) -> StoredObject:
        """Store a small object at once; raises `ObjectExists` when the key is taken."""

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read bytes from `start`, at most `length` of them; raises `ObjectMissing`."""

    def stat(self, key: str) -> StoredObject | None:
        """Describe an object; None when there is none."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """List the finished objects whose key starts with `prefix`."""

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""

    def clean_partial(self, prefix: str, older_than: timedelta) -> builtins.list[str]:
        """Remove uploads below `prefix` that were begun longer ago than `older_than` and never finished.

        Returns:
            The keys whose uploads were removed, once per upload.
        """

    def gdal_path(self, key: str) -> str:
        """Name an object for `rasterio.open` under `gdal_env`."""

    def gdal_env(self) -> dict[str, Any]:
        """Arguments of `rasterio.Env` that let GDAL read this store; credentials travel in a session object."""

    def href(self, key: str) -> str:
        """Name an object for a STAC asset."""

    def requests(self) -> dict[str, int]:
        """Return how many requests of each kind were sent so far, further tries included; empty where none are.

        What GDAL reads by itself is not among them.
        """
