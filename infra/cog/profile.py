"""What a file is: its grid, its bands and how its blocks are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from infra.cog.errors import InvalidProfile

if TYPE_CHECKING:
    from collections.abc import Mapping

DTYPES: Final = ("int16", "uint16", "uint8")
"""Pixel types that the writer knows."""

_MAX_FLAT_EDGE: Final = 512
"""A larger file without overviews is no valid COG (rio-cogeo, strict)."""

_NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class CogBand:
    """One band as readers see it."""

    description: str
    scale: float = 1.0
    """Physical step of one stored unit."""
    offset: float = 0.0
    """Physical value of a stored zero."""
    unit: str = ""
    """UCUM unit of ``stored * scale + offset``; empty: none given."""
    centre_nm: float | None = None
    """Centre wavelength, nm."""
    fwhm_nm: float | None = None
    """Full width at half maximum, nm."""
    bbl: int | None = None
    """ENVI's bad band multiplier, 1 good and 0 bad; None: not given."""


@dataclass(frozen=True)
class Level:
    """One resolution of a file."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    columns: int
    """Blocks side by side."""
    rows: int
    """Blocks above each other."""


@dataclass(frozen=True)
class CogProfile:
    """Everything about a file that is known before its first pixel."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    dtype: str
    """``int16``, ``uint16`` or ``uint8``."""
    crs: str
    """An EPSG code such as ``EPSG:32633``."""
    transform: tuple[float, ...]
    """Pixel to CRS, (a, b, c, d, e, f) as in rasterio's Affine; north up: b = d = 0, a > 0, e < 0."""
    nodata: int | None
    """The value that means "nothing"; for ``mean`` overviews the smallest or largest of the type."""
    bands: tuple[CogBand, ...]
    block: int
    """Block edge at every level, pixels; a multiple of 16."""
    overviews: Literal["mean", "bitor", "none"]
    """How a pixel is made of the four below it: mean of the valid, bitwise OR, or no overviews at all."""
    level: int = 1
    """ZSTD level, 1-19."""
    tags: Mapping[str, str] = field(default_factory=lambda: _NO_TAGS)
    """Dataset tags."""

    def __post_init__(self) -> None:
        """Refuse a profile that cannot become a file; every problem is named."""
        problems = [*self._shape_problems(), *self._value_problems()]
        if problems:
            raise InvalidProfile("; ".join(problems))

    def _shape_problems(self) -> list[str]:
        problems = []
        if min(self.width, self.height, len(self.bands)) < 1 or len(self.bands) > np.iinfo(np.uint16).max:
            problems.append(f"size is {self.width} x {self.height} with {len(self.bands)} bands; expected at least 1")
        if self.block < 16 or self.block % 16:
            problems.append(f"block is {self.block}; TIFF needs a multiple of 16")
        if self.overviews == "none" and max(self.width, self.height) > _MAX_FLAT_EDGE:
            problems.append(f"a file larger than {_MAX_FLAT_EDGE} pixels needs overviews; ask for 'mean' or 'bitor'")
        a, b, _c, d, e, _f = self.transform if len(self.transform) == 6 else (math.nan,) * 6
        if not (a > 0 and e < 0 and b == 0 and d == 0 and all(map(math.isfinite, self.transform))):
            problems.append(f"transform is {self.transform}; expected north up (a, 0, c, 0, -e, f)")
        return problems

    def _value_problems(self) -> list[str]:
        if self.dtype not in DTYPES:
            return [f"dtype is {self.dtype!r}; expected one of {', '.join(DTYPES)}"]
        problems = []
        low, high = int(np.iinfo(self.dtype).min), int(np.iinfo(self.dtype).max)
        if self.nodata is not None and not low <= self.nodata <= high:
            problems.append(f"nodata is {self.nodata}; {self.dtype} holds {low} to {high}")
        elif self.overviews == "mean" and self.nodata not in {None, low, high}:
            problems.append(f"nodata is {self.nodata}; a mean of valid pixels could equal it: use {low} or {high}")
        if self.overviews not in {"mean", "bitor", "none"}:
            problems.append(f"overviews is {self.overviews!r}; expected 'mean', 'bitor' or 'none'")
        if not 1 <= self.level <= 19:
            problems.append(f"level is {self.level}; ZSTD knows 1 to 19")
        return problems

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """Full resolution first, then each overview, until one block holds the whole file."""
        width, height, found = self.width, self.height, []
        while True:
            found.append(Level(width, height, -(-width // self.block), -(-height // self.block)))
            if self.overviews == "none" or max(width, height) <= self.block:
                return tuple(found)
            width, height = (width + 1) // 2, (height + 1) // 2

    @property
    def pixel_type(self) -> np.dtype[np.generic]:
        """The stored type, little endian as in the file."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def tile_bytes(self) -> int:
        """Raw size of one block of one band, bytes."""
        return self.block * self.block * self.pixel_type.itemsize
