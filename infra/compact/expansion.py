"""From the compact file back to a file of bands: a cloud-optimised GeoTIFF like the product's own 172-band file."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from infra.cog import CogBand, CogProfile, CogWriter
from infra.compact.basis import REFLECTANCE_STEP
from infra.compact.blocks import Window
from infra.compact.errors import OutsideProduct
from model.bands import CHANNELS
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from infra.cog import CogSummary
    from infra.compact.basis import ProductBasis
    from infra.compact.product import CompactProduct
    from infra.storage import ObjectStore

_KEPT_TAGS: Final = ("ITEM", "PRODUCT_REVISION", "NOTICE")

_BAND: Final = re.compile(r"(?P<nm>\d+(?:\.\d+)?)\s*nm|h?(?P<first>\d+)(?:-h?(?P<last>\d+))?")
_FARTHEST_NM: Final = 30.0
"""A wavelength further from every channel than this lies in a gap of the product."""


def parse_channels(text: str, centre_nm: NDArray[np.float64]) -> list[int]:
    """Understand a choice of channels.

    Args:
        text: Separated by commas: wavelengths such as ``650nm`` (the nearest channel), numbers counted from one as
            raster readers do, and ranges of them such as ``1-40``.
        centre_nm: (n,) of the channels there are.

    Returns:
        Zero-based channels in the order given.

    Raises:
        OutsideProduct: a part is not understood, or the product has no such channel.
    """
    found: list[int] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _BAND.fullmatch(part)
        if match is None:
            raise OutsideProduct(
                f"band {part!r} is not understood; expected 650nm, a number from 1 or a range like 1-40"
            )
        found += _near(float(match["nm"]), centre_nm) if match["nm"] else _range(match, len(centre_nm))
    return found or list(range(len(centre_nm)))


def _near(nanometres: float, centre_nm: NDArray[np.float64]) -> list[int]:
    channel = int(np.argmin(np.abs(centre_nm - nanometres)))
    if abs(centre_nm[channel] - nanometres) > _FARTHEST_NM:
        raise OutsideProduct(f"{nanometres:g} nm lies in no channel; the nearest is {centre_nm[channel]:.1f} nm")
    return [channel]


def _range(match: re.Match[str], channels: int) -> list[int]:
    first, last = int(match["first"]), int(match["last"] or match["first"])
    if not 1 <= first <= last <= channels:
        raise OutsideProduct(f"band {match[0]} is asked for; the product has 1 to {channels}")
    return list(range(first - 1, last))


def channel_names(basis: ProductBasis) -> tuple[str, ...]:
    """Return what raster readers show as the channels' names."""
    if basis.channels == len(CHANNELS):
        return tuple(channel.description for channel in CHANNELS)
    return tuple(f"{number:03d} {centre:.1f} nm" for number, centre in enumerate(basis.centre_nm, start=1))


def expansion_profile(product: CompactProduct, channels: Sequence[int], window: Window) -> CogProfile:
    """Describe the expanded file: that of `hsi`, or the part of it that was asked for."""
    basis, info = product.basis, product.info
    names = channel_names(basis)
    a, b, left, d, e, top = info.transform
    bands = tuple(
        CogBand(names[c], REFLECTANCE_STEP, 0.0, "1", float(basis.centre_nm[c]), float(basis.fwhm_nm[c]))
        for c in channels
    )
    return CogProfile(
        width=window.width,
        height=window.height,
        dtype="int16",
        crs=info.crs,
        transform=(a, b, left + a * window.column, d, e, top + e * window.row),
        nodata=NODATA,
        bands=bands,
        block=info.block[0],
        overviews="mean",
        tags={name: info.tags[name] for name in _KEPT_TAGS if name in info.tags},
    )


def expand_to_cog(
    product: CompactProduct,
    store: ObjectStore,
    key: str,
    *,
    channels: Sequence[int],
    window: Window,
    threads: int = 2,
    progress: Callable[[float], object] = lambda _fraction: None,
) -> CogSummary:
    """Expand a product, or a part of it, into a file of bands, block by block in Z-order.

    Memory holds one block of the wanted channels, what the writer has in flight and pending overviews, whatever the
    product's size.

    Args:
        product: The open product.
        store: Where the file goes.
        key: Its key; it must not be taken.
        channels: Zero-based, in the order in which they are written.
        window: On the product; need not lie on its blocks, though then each of them is decoded several times.
        threads: That compress.
        progress: Told the fraction done, 0-1.

    Returns:
        What the writer saw go by.

    Raises:
        ReadingError: a file of the product cannot be read.
        StorageError: the store failed or the key is taken; nothing is left of the file.
    """
    profile = expansion_profile(product, channels, window)
    done = 0
    with ThreadPoolExecutor(threads, "expand") as pool, CogWriter(profile, store, key, pool=pool) as writer:
        for part in _blocks(profile):
            area = (window.column + part.column, window.row + part.row, part.width, part.height)
            writer.write(part.column, part.row, product.read(area, channels, "int16"))
            done += part.width * part.height
            progress(done / (window.width * window.height))
        return writer.finish()


def _blocks(profile: CogProfile) -> Iterator[Window]:
    """Yield the blocks of the file in Z-order, in which the fewest overviews wait for their neighbours."""
    level, edge = profile.levels[0], profile.block
    places = [(row, column) for row in range(level.rows) for column in range(level.columns)]
    for row, column in sorted(places, key=lambda at: int(f"{at[0]:b}", 4) * 2 + int(f"{at[1]:b}", 4)):
        left, top = column * edge, row * edge
        yield Window(left, top, min(edge, profile.width - left), min(edge, profile.height - top))
