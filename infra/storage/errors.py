"""What can go wrong with a store; `transient` says whether trying again later may help."""

from __future__ import annotations

from typing import ClassVar


class StorageError(Exception):
    """Base of everything a store raises."""

    transient: ClassVar[bool] = False


class InvalidKey(StorageError, ValueError):
    """A key that could leave the store's root or confuse a server; nothing was touched."""


class ObjectExists(StorageError):
    """The key is taken; objects are never overwritten."""


class ObjectMissing(StorageError):
    """There is no object under the key."""


class StorageDenied(StorageError):
    """The store refused the credentials or what they may do."""


class StorageUnwritable(StorageError):
    """Nothing can be written there: a read-only file system, a missing bucket, a file where a folder should be."""


class StorageFull(StorageError):
    """No room left; freeing space makes the same call succeed."""

    transient: ClassVar[bool] = True


class UploadLost(StorageError):
    """The server no longer knows an upload that was under way; a new one can succeed."""

    transient: ClassVar[bool] = True


class UploadInterrupted(StorageError):
    """The upload was given up while it was under way; never the first cause of a failure."""


class StorageUnavailable(StorageError):
    """The store does not answer or answers with a failure of its own."""

    transient: ClassVar[bool] = True
