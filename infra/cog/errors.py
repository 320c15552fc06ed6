"""What can go wrong while a COG is written, apart from the store's own errors."""

from __future__ import annotations

from typing import ClassVar


class CogError(Exception):
    """Base of the writer's errors: all of them are mistakes of the caller, so trying again does not help."""

    transient: ClassVar[bool] = False


class InvalidProfile(CogError, ValueError):
    """The description of a file contradicts itself or asks for what the format cannot hold."""


class BlockMisplaced(CogError, ValueError):
    """An array does not fit the file: wrong shape, wrong type or not on the block grid."""


class BlockRepeated(CogError):
    """A block was written twice."""


class BlocksMissing(CogError):
    """The file was finished before every block was written."""


class WriterClosed(CogError):
    """The writer was finished or aborted before."""
