"""Reading a product: 172 channels with their uncertainty, from the few bands of its compact file.

`CompactProduct.open` takes a folder, a file, a web address or an S3 key. A pixel's spectrum costs one request.
"""

from infra.compact.basis import ProductBasis
from infra.compact.blocks import BlockFile, RasterInfo, Window
from infra.compact.errors import (
    BasisMismatch,
    OutsideProduct,
    ProductDenied,
    ProductMissing,
    ProductUnreachable,
    ProductUnreadable,
    ReadingError,
)
from infra.compact.lazy import LazyCube
from infra.compact.product import CompactProduct

__all__ = [
    "BasisMismatch",
    "BlockFile",
    "CompactProduct",
    "LazyCube",
    "OutsideProduct",
    "ProductBasis",
    "ProductDenied",
    "ProductMissing",
    "ProductUnreachable",
    "ProductUnreadable",
    "RasterInfo",
    "ReadingError",
    "Window",
]
