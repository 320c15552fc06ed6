"""What can go wrong while a product is read."""

from __future__ import annotations

from typing import ClassVar


class ReadingError(Exception):
    """Base of the readers' errors; trying again without a change does not help unless `transient`."""

    transient: ClassVar[bool] = False


class ProductMissing(ReadingError):
    """There is no such file."""


class ProductUnreachable(ReadingError):
    """The file could not be fetched this time."""

    transient: ClassVar[bool] = True


class ProductDenied(ReadingError):
    """The server or store refused to hand the file out."""


class ProductUnreadable(ReadingError):
    """The file is truncated, corrupt or not what its name says."""


class BasisMismatch(ReadingError):
    """Coefficients and basis do not belong together, or the basis lacks what was asked for."""


class OutsideProduct(ReadingError, ValueError):
    """A place or window does not lie on the product."""
